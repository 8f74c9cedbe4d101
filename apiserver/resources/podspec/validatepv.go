package podspec

import (
	"path"
	"reflect"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// ValidatePersistentVolumeSpec returns every error of a volume called name.
func ValidatePersistentVolumeSpec(s *corev1.PersistentVolumeSpec, name string, at *field.Path) field.ErrorList {
	errs := AccessModes(s.AccessModes, at.Child("accessModes"), "")
	if len(s.Capacity) == 0 {
		errs = append(errs, field.Required(at.Child("capacity"), ""))
	}
	if _, ok := s.Capacity[corev1.ResourceStorage]; !ok || len(s.Capacity) > 1 {
		errs = append(errs, field.NotSupported(at.Child("capacity"), s.Capacity, []corev1.ResourceName{corev1.ResourceStorage}))
	}
	for name, q := range s.Capacity {
		if q.Sign() <= 0 {
			errs = append(errs, field.Invalid(at.Child("capacity").Key(string(name)), q.String(), mustBePositive))
		}
	}
	if p := s.PersistentVolumeReclaimPolicy; p != "" {
		errs = append(errs, enum(p, at.Child("persistentVolumeReclaimPolicy"), corev1.PersistentVolumeReclaimDelete, corev1.PersistentVolumeReclaimRecycle, corev1.PersistentVolumeReclaimRetain)...)
	}
	if a := s.NodeAffinity; a != nil {
		at := at.Child("nodeAffinity")
		if a.Required == nil {
			errs = append(errs, field.Required(at.Child("required"), "must specify required node constraints"))
		} else {
			errs = append(errs, ValidateNodeSelector(a.Required, at.Child("required"))...)
		}
	}
	errs = append(errs, persistentSource(s, name, at)...)
	if s.StorageClassName != "" {
		errs = append(errs, subdomain(s.StorageClassName, at.Child("storageClassName"))...)
	}
	if s.VolumeMode != nil {
		errs = append(errs, supported(*s.VolumeMode, at.Child("volumeMode"), corev1.PersistentVolumeBlock, corev1.PersistentVolumeFilesystem)...)
	}
	if c := s.VolumeAttributesClassName; c != nil {
		at, csi := at.Child("volumeAttributesClassName"), at.Child("csi")
		if *c == "" {
			errs = append(errs, field.Required(at, "an empty string is disallowed"))
		} else {
			errs = append(errs, subdomain(*c, at)...)
		}
		if s.CSI == nil {
			errs = append(errs, field.Required(csi, "has to be specified when using volumeAttributesClassName"))
		}
	}
	return errs
}

// ValidateInlineVolumeSpec returns every error of a volume that an attachment
// brings along instead of naming one.
func ValidateInlineVolumeSpec(s *corev1.PersistentVolumeSpec, at *field.Path) field.ErrorList {
	const no = "may not be specified in the context of inline volumes"
	var errs field.ErrorList
	for _, f := range []struct {
		name string
		set  bool
	}{{"claimRef", s.ClaimRef != nil}, {"capacity", len(s.Capacity) > 0}, {"persistentVolumeReclaimPolicy", s.PersistentVolumeReclaimPolicy != ""},
		{"nodeAffinity", s.NodeAffinity != nil}, {"storageClassName", s.StorageClassName != ""}} {
		if f.set {
			errs = append(errs, field.Forbidden(at.Child(f.name), no))
		}
	}
	if s.CSI == nil {
		errs = append(errs, field.Required(at.Child("csi"), "has to be specified in the context of inline volumes"))
	}
	errs = append(errs, AccessModes(s.AccessModes, at.Child("accessModes"), "")...)
	errs = append(errs, persistentSource(s, "", at)...)
	if m := s.VolumeMode; m != nil && *m != corev1.PersistentVolumeFilesystem {
		errs = append(errs, field.Forbidden(at.Child("volumeMode"), "may not specify volumeMode other than "+string(corev1.PersistentVolumeFilesystem)+" in the context of inline volumes"))
	}
	if s.VolumeAttributesClassName != nil {
		errs = append(errs, field.Forbidden(at.Child("volumeAttributesClassName"), no))
	}
	return errs
}

func subdomain(name string, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, msg := range apivalidation.NameIsDNSSubdomain(name, false) {
		errs = append(errs, field.Invalid(at, name, msg))
	}
	return errs
}

// persistentSource demands exactly one source, and checks it.
func persistentSource(s *corev1.PersistentVolumeSpec, name string, at *field.Path) field.ErrorList {
	errs, n := oneSource(&s.PersistentVolumeSource, at)
	if n == 0 {
		return append(errs, field.Required(at, "must specify a volume type"))
	}
	switch {
	case s.HostPath != nil:
		errs = append(errs, hostPath(s.HostPath, at.Child("hostPath"))...)
		if path.Clean(s.HostPath.Path) == "/" && s.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimRecycle {
			errs = append(errs, field.Forbidden(at.Child("persistentVolumeReclaimPolicy"), "may not be 'recycle' for a hostPath mount of '/'"))
		}
	case s.Local != nil:
		at := at.Child("local")
		errs = append(errs, refName(s.Local.Path, at.Child("path"))...)
		errs = append(errs, noDotDot(s.Local.Path, at.Child("path"))...)
		if s.NodeAffinity == nil {
			errs = append(errs, field.Required(field.NewPath("metadata", "annotations"), "Local volume requires node affinity"))
		}
	case s.CSI != nil:
		errs = append(errs, persistentCSI(s.CSI, at.Child("csi"))...)
	default:
		errs = append(errs, persistentNetworkSource(&s.PersistentVolumeSource, name, at)...)
	}
	return errs
}

// oneSource counts the members of a union of sources, and refuses all after the first.
func oneSource(union any, at *field.Path) (errs field.ErrorList, n int) {
	value := reflect.ValueOf(union).Elem()
	for i := range value.NumField() {
		if value.Field(i).IsNil() {
			continue
		}
		if n++; n > 1 {
			name, _, _ := strings.Cut(value.Type().Field(i).Tag.Get("json"), ",")
			errs = append(errs, field.Forbidden(at.Child(name), "may not specify more than 1 volume type"))
		}
	}
	return errs, n
}

func persistentNetworkSource(s *corev1.PersistentVolumeSource, name string, at *field.Path) field.ErrorList {
	switch {
	case s.ISCSI != nil:
		i := s.ISCSI
		errs := iscsi(i.TargetPortal, i.IQN, i.Lun, i.InitiatorName, (i.DiscoveryCHAPAuth || i.SessionCHAPAuth) && i.SecretRef == nil, at.Child("iscsi"))
		if i.SecretRef != nil {
			errs = append(errs, refName(i.SecretRef.Name, at.Child("iscsi", "secretRef", "name"))...)
		}
		return append(errs, initiatorLength(i.InitiatorName, name, i.TargetPortal, field.NewPath("metadata", "name"))...)
	case s.Glusterfs != nil:
		errs := needs(at.Child("glusterfs"), "endpoints", s.Glusterfs.EndpointsName, "path", s.Glusterfs.Path)
		if ns := s.Glusterfs.EndpointsNamespace; ns != nil {
			for _, msg := range apivalidation.ValidateNamespaceName(*ns, false) {
				errs = append(errs, field.Invalid(at.Child("glusterfs", "endpointsNamespace"), *ns, msg))
			}
		}
		return errs
	case s.RBD != nil:
		return rbd(s.RBD.CephMonitors, s.RBD.RBDImage, at.Child("rbd"))
	case s.Cinder != nil:
		errs := refName(s.Cinder.VolumeID, at.Child("cinder", "volumeID"))
		return append(errs, secretRef(s.Cinder.SecretRef, at.Child("cinder", "secretRef"))...)
	case s.CephFS != nil:
		return monitors(s.CephFS.Monitors, at.Child("cephfs"))
	case s.FlexVolume != nil:
		return flex(s.FlexVolume.Driver, s.FlexVolume.Options, at.Child("flexVolume"))
	case s.AzureFile != nil:
		errs := needs(at.Child("azureFile"), "secretName", s.AzureFile.SecretName, "shareName", s.AzureFile.ShareName)
		if ns := s.AzureFile.SecretNamespace; ns != nil {
			errs = append(errs, refName(*ns, at.Child("azureFile", "secretNamespace"))...)
		}
		return errs
	case s.ScaleIO != nil:
		return needs(at.Child("scaleIO"), "gateway", s.ScaleIO.Gateway, "system", s.ScaleIO.System, "volumeName", s.ScaleIO.VolumeName)
	case s.StorageOS != nil:
		at := at.Child("storageos")
		errs := storageOS(s.StorageOS.VolumeName, s.StorageOS.VolumeNamespace, at)
		if r := s.StorageOS.SecretRef; r != nil {
			errs = append(errs, needs(at.Child("secretRef"), "name", r.Name, "namespace", r.Namespace)...)
		}
		return errs
	}
	return (&alike{
		GCEPersistentDisk:    s.GCEPersistentDisk,
		AWSElasticBlockStore: s.AWSElasticBlockStore,
		NFS:                  s.NFS,
		Flocker:              s.Flocker,
		Quobyte:              s.Quobyte,
		FC:                   s.FC,
		VsphereVolume:        s.VsphereVolume,
		PhotonPersistentDisk: s.PhotonPersistentDisk,
		PortworxVolume:       s.PortworxVolume,
		AzureDisk:            s.AzureDisk,
	}).check(at)
}

func secretRef(r *corev1.SecretReference, at *field.Path) field.ErrorList {
	if r == nil {
		return nil
	}
	return needs(at, "name", r.Name, "namespace", r.Namespace)
}

func persistentCSI(s *corev1.CSIPersistentVolumeSource, at *field.Path) field.ErrorList {
	errs := CSIDriverName(s.Driver, at.Child("driver"))
	errs = append(errs, refName(s.VolumeHandle, at.Child("volumeHandle"))...)
	for _, r := range []struct {
		name string
		ref  *corev1.SecretReference
	}{{"controllerPublishSecretRef", s.ControllerPublishSecretRef}, {"controllerExpandSecretRef", s.ControllerExpandSecretRef},
		{"nodePublishSecretRef", s.NodePublishSecretRef}, {"nodeStageSecretRef", s.NodeStageSecretRef}, {"nodeExpandSecretRef", s.NodeExpandSecretRef}} {
		if r.ref == nil {
			continue
		}
		at := at.Child(r.name)
		for _, part := range []struct{ name, value string }{{"name", r.ref.Name}, {"namespace", r.ref.Namespace}} {
			switch {
			case part.value == "":
				errs = append(errs, field.Required(at.Child(part.name), ""))
			case part.name == "namespace":
				errs = append(errs, DNSLabel(part.value, at.Child(part.name))...)
			default:
				for _, msg := range validation.IsDNS1123Subdomain(part.value) {
					errs = append(errs, field.Invalid(at.Child(part.name), part.value, msg))
				}
			}
		}
	}
	return errs
}
