package podspec

import (
	"net"
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// The rules of volume sources that pods and persistent volumes share, and of the
// pods' own forms of network volumes. Most of them name storage systems that CSI
// drivers serve today; their objects are stored and checked all the same.

var initiators = map[string]*regexp.Regexp{
	"iqn": regexp.MustCompile(`iqn\.\d{4}-\d{2}\.([[:alnum:]-.]+)(:[^,;*&$|\s]+)$`),
	"eui": regexp.MustCompile(`^eui.[[:alnum:]]{16}$`),
	"naa": regexp.MustCompile(`^naa.[[:alnum:]]{32}$`),
}

// alike are the sources that pods and persistent volumes describe alike.
type alike struct {
	GCEPersistentDisk    *corev1.GCEPersistentDiskVolumeSource
	AWSElasticBlockStore *corev1.AWSElasticBlockStoreVolumeSource
	NFS                  *corev1.NFSVolumeSource
	Flocker              *corev1.FlockerVolumeSource
	Quobyte              *corev1.QuobyteVolumeSource
	FC                   *corev1.FCVolumeSource
	VsphereVolume        *corev1.VsphereVirtualDiskVolumeSource
	PhotonPersistentDisk *corev1.PhotonPersistentDiskVolumeSource
	PortworxVolume       *corev1.PortworxVolumeSource
	AzureDisk            *corev1.AzureDiskVolumeSource
}

func (s *alike) check(at *field.Path) field.ErrorList {
	switch {
	case s.GCEPersistentDisk != nil:
		return partitioned(s.GCEPersistentDisk.PDName, "pdName", s.GCEPersistentDisk.Partition, at.Child("persistentDisk"))
	case s.AWSElasticBlockStore != nil:
		return partitioned(s.AWSElasticBlockStore.VolumeID, "volumeID", s.AWSElasticBlockStore.Partition, at.Child("awsElasticBlockStore"))
	case s.NFS != nil:
		return nfs(s.NFS, at.Child("nfs"))
	case s.Flocker != nil:
		return flocker(s.Flocker, at.Child("flocker"))
	case s.Quobyte != nil:
		return quobyte(s.Quobyte, at.Child("quobyte"))
	case s.FC != nil:
		return fibre(s.FC, at.Child("fc"))
	case s.VsphereVolume != nil:
		return refName(s.VsphereVolume.VolumePath, at.Child("vsphereVolume", "volumePath"))
	case s.PhotonPersistentDisk != nil:
		return refName(s.PhotonPersistentDisk.PdID, at.Child("photonPersistentDisk", "pdID"))
	case s.PortworxVolume != nil:
		return refName(s.PortworxVolume.VolumeID, at.Child("portworxVolume", "volumeID"))
	case s.AzureDisk != nil:
		return azureDisk(s.AzureDisk, at.Child("azureDisk"))
	}
	return nil
}

// networkSource checks the source of a pod's volume that is none of the node's or the API's own.
func networkSource(s *corev1.VolumeSource, volume string, at *field.Path) field.ErrorList {
	switch {
	case s.GitRepo != nil:
		return append(refName(s.GitRepo.Repository, at.Child("gitRepo", "repository")), localPath(s.GitRepo.Directory, at.Child("gitRepo", "directory"))...)
	case s.ISCSI != nil:
		i := s.ISCSI
		errs := iscsi(i.TargetPortal, i.IQN, i.Lun, i.InitiatorName, (i.DiscoveryCHAPAuth || i.SessionCHAPAuth) && i.SecretRef == nil, at.Child("iscsi"))
		return append(errs, initiatorLength(i.InitiatorName, volume, i.TargetPortal, at.Child("name"))...)
	case s.Glusterfs != nil:
		return needs(at.Child("glusterfs"), "endpoints", s.Glusterfs.EndpointsName, "path", s.Glusterfs.Path)
	case s.RBD != nil:
		return rbd(s.RBD.CephMonitors, s.RBD.RBDImage, at.Child("rbd"))
	case s.Cinder != nil:
		errs := refName(s.Cinder.VolumeID, at.Child("cinder", "volumeID"))
		if s.Cinder.SecretRef != nil {
			errs = append(errs, refName(s.Cinder.SecretRef.Name, at.Child("cinder", "secretRef", "name"))...)
		}
		return errs
	case s.CephFS != nil:
		return monitors(s.CephFS.Monitors, at.Child("cephfs"))
	case s.FlexVolume != nil:
		return flex(s.FlexVolume.Driver, s.FlexVolume.Options, at.Child("flexVolume"))
	case s.AzureFile != nil:
		return needs(at.Child("azureFile"), "secretName", s.AzureFile.SecretName, "shareName", s.AzureFile.ShareName)
	case s.ScaleIO != nil:
		return needs(at.Child("scaleIO"), "gateway", s.ScaleIO.Gateway, "system", s.ScaleIO.System, "volumeName", s.ScaleIO.VolumeName)
	case s.StorageOS != nil:
		at := at.Child("storageos")
		errs := storageOS(s.StorageOS.VolumeName, s.StorageOS.VolumeNamespace, at)
		if s.StorageOS.SecretRef != nil {
			errs = append(errs, refName(s.StorageOS.SecretRef.Name, at.Child("secretRef", "name"))...)
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

// needs demands texts by their names.
func needs(at *field.Path, pairs ...string) field.ErrorList {
	var errs field.ErrorList
	for i := 0; i < len(pairs); i += 2 {
		errs = append(errs, refName(pairs[i+1], at.Child(pairs[i]))...)
	}
	return errs
}

func partitioned(id, name string, partition int32, at *field.Path) field.ErrorList {
	errs := refName(id, at.Child(name))
	if partition < 0 || partition > 255 {
		errs = append(errs, field.Invalid(at.Child("partition"), partition, validation.InclusiveRangeError(1, 255)))
	}
	return errs
}

func nfs(s *corev1.NFSVolumeSource, at *field.Path) field.ErrorList {
	errs := needs(at, "server", s.Server, "path", s.Path)
	if !strings.HasPrefix(s.Path, "/") {
		errs = append(errs, field.Invalid(at.Child("path"), s.Path, "must be an absolute path"))
	}
	return errs
}

func iscsi(portal, iqn string, lun int32, initiator *string, secretMissing bool, at *field.Path) field.ErrorList {
	errs := needs(at, "targetPortal", portal, "iqn", iqn)
	if iqn != "" {
		errs = append(errs, initiatorName(iqn, at.Child("iqn"))...)
	}
	if lun < 0 || lun > 255 {
		errs = append(errs, field.Invalid(at.Child("lun"), lun, validation.InclusiveRangeError(0, 255)))
	}
	if secretMissing {
		errs = append(errs, field.Required(at.Child("secretRef"), ""))
	}
	if initiator != nil {
		errs = append(errs, initiatorName(*initiator, at.Child("initiatorname"))...)
	}
	return errs
}

func initiatorName(name string, at *field.Path) field.ErrorList {
	for prefix, form := range initiators {
		if strings.HasPrefix(name, prefix) {
			if !form.MatchString(name) {
				return field.ErrorList{field.Invalid(at, name, "must be valid format")}
			}
			return nil
		}
	}
	return field.ErrorList{field.Invalid(at, name, "must be valid format starting with iqn, eui, or naa")}
}

func initiatorLength(initiator *string, volume, portal string, at *field.Path) field.ErrorList {
	if initiator == nil || len(volume+":"+portal) <= 64 {
		return nil
	}
	return field.ErrorList{field.Invalid(at, volume, "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified.")}
}

func flocker(s *corev1.FlockerVolumeSource, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if s.DatasetName == "" && s.DatasetUUID == "" {
		errs = append(errs, field.Required(at, "one of datasetName and datasetUUID is required"))
	}
	if s.DatasetName != "" && s.DatasetUUID != "" {
		errs = append(errs, field.Invalid(at, "resource", "datasetName and datasetUUID can not be specified simultaneously"))
	}
	if strings.Contains(s.DatasetName, "/") {
		errs = append(errs, field.Invalid(at.Child("datasetName"), s.DatasetName, "must not contain '/'"))
	}
	return errs
}

func monitors(list []string, at *field.Path) field.ErrorList {
	if len(list) == 0 {
		return field.ErrorList{field.Required(at.Child("monitors"), "")}
	}
	return nil
}

func rbd(list []string, image string, at *field.Path) field.ErrorList {
	return append(monitors(list, at), refName(image, at.Child("image"))...)
}

func quobyte(s *corev1.QuobyteVolumeSource, at *field.Path) field.ErrorList {
	const pairs = "must be a host:port pair or multiple pairs separated by commas"
	var errs field.ErrorList
	if s.Registry == "" {
		errs = append(errs, field.Required(at.Child("registry"), pairs))
	} else if len(s.Tenant) >= 65 {
		errs = append(errs, field.Required(at.Child("tenant"), "must be a UUID and may not exceed a length of 64 characters"))
	} else {
		for pair := range strings.SplitSeq(s.Registry, ",") {
			if _, _, err := net.SplitHostPort(pair); err != nil {
				errs = append(errs, field.Invalid(at.Child("registry"), s.Registry, pairs))
			}
		}
	}
	return append(errs, refName(s.Volume, at.Child("volume"))...)
}

func fibre(s *corev1.FCVolumeSource, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if len(s.TargetWWNs) == 0 && len(s.WWIDs) == 0 {
		errs = append(errs, field.Required(at.Child("targetWWNs"), "must specify either targetWWNs or wwids, but not both"))
	}
	if len(s.TargetWWNs) > 0 && len(s.WWIDs) > 0 {
		errs = append(errs, field.Invalid(at.Child("targetWWNs"), s.TargetWWNs, "targetWWNs and wwids can not be specified simultaneously"))
	}
	switch {
	case len(s.TargetWWNs) == 0:
	case s.Lun == nil:
		errs = append(errs, field.Required(at.Child("lun"), "lun is required if targetWWNs is specified"))
	case *s.Lun < 0 || *s.Lun > 255:
		errs = append(errs, field.Invalid(at.Child("lun"), *s.Lun, validation.InclusiveRangeError(0, 255)))
	}
	return errs
}

func flex(driver string, options map[string]string, at *field.Path) field.ErrorList {
	errs := refName(driver, at.Child("driver"))
	for key := range options {
		domain, _, _ := strings.Cut(key, "/")
		if domain = "." + strings.ToLower(domain); strings.HasSuffix(domain, ".kubernetes.io") || strings.HasSuffix(domain, ".k8s.io") {
			errs = append(errs, field.Invalid(at.Child("options").Key(key), key, "kubernetes.io and k8s.io namespaces are reserved"))
		}
	}
	return errs
}

func azureDisk(s *corev1.AzureDiskVolumeSource, at *field.Path) field.ErrorList {
	errs := needs(at, "diskName", s.DiskName, "diskURI", s.DataDiskURI)
	if m := s.CachingMode; m != nil {
		errs = append(errs, supported(*m, at.Child("cachingMode"), corev1.AzureDataDiskCachingNone, corev1.AzureDataDiskCachingReadOnly, corev1.AzureDataDiskCachingReadWrite)...)
	}
	if s.Kind == nil {
		return errs
	}
	errs = append(errs, supported(*s.Kind, at.Child("kind"), corev1.AzureDedicatedBlobDisk, corev1.AzureManagedDisk, corev1.AzureSharedBlobDisk)...)
	managed := strings.HasPrefix(strings.ToLower(s.DataDiskURI), "/subscriptions/")
	if *s.Kind == corev1.AzureManagedDisk && !managed {
		errs = append(errs, field.NotSupported(at.Child("diskURI"), s.DataDiskURI, []string{"/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}"}))
	}
	if *s.Kind != corev1.AzureManagedDisk && !strings.HasPrefix(strings.ToLower(s.DataDiskURI), "https://") {
		errs = append(errs, field.NotSupported(at.Child("diskURI"), s.DataDiskURI, []string{"https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd"}))
	}
	return errs
}

func storageOS(name, namespace string, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if name == "" {
		errs = append(errs, field.Required(at.Child("volumeName"), ""))
	} else {
		errs = append(errs, DNSLabel(name, at.Child("volumeName"))...)
	}
	if namespace != "" {
		errs = append(errs, DNSLabel(namespace, at.Child("volumeNamespace"))...)
	}
	return errs
}

// supported demands one of values.
func supported[T ~string](got T, at *field.Path, values ...T) field.ErrorList {
	if got == "" {
		return field.ErrorList{field.NotSupported(at, got, values)}
	}
	return enum(got, at, values...)
}

// CSIDriverName returns every error of a driver's name.
func CSIDriverName(name string, at *field.Path) field.ErrorList {
	if name == "" {
		return field.ErrorList{field.Required(at, "")}
	}
	var errs field.ErrorList
	if len(name) > 63 {
		errs = append(errs, field.TooLong(at, "", 63))
	}
	for _, msg := range validation.IsDNS1123Subdomain(strings.ToLower(name)) {
		errs = append(errs, field.Invalid(at, name, msg))
	}
	return errs
}
