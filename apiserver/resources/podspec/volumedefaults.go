package podspec

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

// SetVolumeDefaults fills a volume; one without any source is an emptyDir.
func SetVolumeDefaults(v *corev1.Volume) {
	if v.VolumeSource == (corev1.VolumeSource{}) {
		v.EmptyDir = &corev1.EmptyDirVolumeSource{}
	}
	setMode := func(mode **int32, def int32) {
		if *mode == nil {
			*mode = ptr.To(def)
		}
	}
	if s := v.Secret; s != nil {
		setMode(&s.DefaultMode, corev1.SecretVolumeSourceDefaultMode)
	}
	if s := v.ConfigMap; s != nil {
		setMode(&s.DefaultMode, corev1.ConfigMapVolumeSourceDefaultMode)
	}
	if s := v.DownwardAPI; s != nil {
		setMode(&s.DefaultMode, corev1.DownwardAPIVolumeSourceDefaultMode)
		for i := range s.Items {
			setFieldRefDefaults(s.Items[i].FieldRef)
		}
	}
	if s := v.Projected; s != nil {
		setMode(&s.DefaultMode, corev1.ProjectedVolumeSourceDefaultMode)
		for i := range s.Sources {
			if d := s.Sources[i].DownwardAPI; d != nil {
				for j := range d.Items {
					setFieldRefDefaults(d.Items[j].FieldRef)
				}
			}
			if t := s.Sources[i].ServiceAccountToken; t != nil && t.ExpirationSeconds == nil {
				t.ExpirationSeconds = ptr.To[int64](3600)
			}
			if c := s.Sources[i].PodCertificate; c != nil && c.MaxExpirationSeconds == nil {
				c.MaxExpirationSeconds = ptr.To[int32](86400)
			}
		}
	}
	if s := v.EmptyDir; s != nil && s.SizeLimit != nil {
		s.SizeLimit.RoundUp(-3)
	}
	if s := v.Ephemeral; s != nil && s.VolumeClaimTemplate != nil {
		SetClaimSpecDefaults(&s.VolumeClaimTemplate.Spec)
	}
	if s := v.Image; s != nil && s.PullPolicy == "" {
		s.PullPolicy = pullPolicy(s.Reference)
	}
	SetHostPathDefaults(v.HostPath)
	SetAzureDiskDefaults(v.AzureDisk)
	if s := v.ISCSI; s != nil && s.ISCSIInterface == "" {
		s.ISCSIInterface = "default"
	}
	if s := v.RBD; s != nil {
		SetRBDDefaults(&s.RBDPool, &s.RadosUser, &s.Keyring)
	}
	if s := v.ScaleIO; s != nil {
		SetScaleIODefaults(&s.StorageMode, &s.FSType)
	}
}

// SetClaimSpecDefaults fills the specification of a claim or of its template.
func SetClaimSpecDefaults(spec *corev1.PersistentVolumeClaimSpec) {
	if spec.VolumeMode == nil {
		spec.VolumeMode = ptr.To(corev1.PersistentVolumeFilesystem)
	}
	RoundResources(spec.Resources.Limits)
	RoundResources(spec.Resources.Requests)
}

// SetHostPathDefaults fills a host path's type.
func SetHostPathDefaults(s *corev1.HostPathVolumeSource) {
	if s != nil && s.Type == nil {
		s.Type = ptr.To(corev1.HostPathUnset)
	}
}

// SetAzureDiskDefaults fills an Azure disk.
func SetAzureDiskDefaults(s *corev1.AzureDiskVolumeSource) {
	if s == nil {
		return
	}
	if s.CachingMode == nil {
		s.CachingMode = ptr.To(corev1.AzureDataDiskCachingReadWrite)
	}
	if s.Kind == nil {
		s.Kind = ptr.To(corev1.AzureSharedBlobDisk)
	}
	if s.FSType == nil {
		s.FSType = ptr.To("ext4")
	}
	if s.ReadOnly == nil {
		s.ReadOnly = ptr.To(false)
	}
}

// SetRBDDefaults fills a Ceph block device, in a pod or in a persistent volume.
func SetRBDDefaults(pool, user, keyring *string) {
	setString(pool, "rbd")
	setString(user, "admin")
	setString(keyring, "/etc/ceph/keyring")
}

// SetScaleIODefaults fills a ScaleIO volume, in a pod or in a persistent volume.
func SetScaleIODefaults(mode, fsType *string) {
	setString(mode, "ThinProvisioned")
	setString(fsType, "xfs")
}

func setString(s *string, def string) {
	if *s == "" {
		*s = def
	}
}
