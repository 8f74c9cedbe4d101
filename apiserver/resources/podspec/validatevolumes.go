package podspec

import (
	"reflect"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	unversioned "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func validateVolumes(list []corev1.Volume, at *field.Path) (map[string]*corev1.VolumeSource, field.ErrorList) {
	var errs field.ErrorList
	found := map[string]*corev1.VolumeSource{}
	for i := range list {
		v, at := &list[i], at.Index(i)
		if v.Name == "" {
			errs = append(errs, field.Required(at.Child("name"), ""))
		} else {
			errs = append(errs, DNSLabel(v.Name, at.Child("name"))...)
		}
		if _, dup := found[v.Name]; dup {
			errs = append(errs, field.Duplicate(at.Child("name"), v.Name))
		}
		bad := volumeSource(&v.VolumeSource, v.Name, at)
		if errs = append(errs, bad...); len(bad) == 0 {
			found[v.Name] = &v.VolumeSource
		}
	}
	return found, errs
}

// volumeSource demands exactly one source, and checks the one.
func volumeSource(s *corev1.VolumeSource, volume string, at *field.Path) field.ErrorList {
	s, errs := firstSource(s, at)
	if s == nil {
		return append(errs, field.Required(at, "must specify a volume type"))
	}
	switch {
	case s.HostPath != nil:
		errs = append(errs, hostPath(s.HostPath, at.Child("hostPath"))...)
	case s.EmptyDir != nil:
		if q := s.EmptyDir.SizeLimit; q != nil && q.Sign() < 0 {
			errs = append(errs, field.Forbidden(at.Child("emptyDir", "sizeLimit"), "SizeLimit field must be a valid resource quantity"))
		}
	case s.Secret != nil:
		at := at.Child("secret")
		if s.Secret.SecretName == "" {
			errs = append(errs, field.Required(at.Child("secretName"), ""))
		}
		errs = append(errs, fileMode(s.Secret.DefaultMode, at.Child("defaultMode"))...)
		errs = append(errs, keyPaths(s.Secret.Items, at.Child("items"))...)
	case s.ConfigMap != nil:
		at := at.Child("configMap")
		errs = append(errs, refName(s.ConfigMap.Name, at.Child("name"))...)
		errs = append(errs, fileMode(s.ConfigMap.DefaultMode, at.Child("defaultMode"))...)
		errs = append(errs, keyPaths(s.ConfigMap.Items, at.Child("items"))...)
	case s.DownwardAPI != nil:
		at := at.Child("downwardAPI")
		errs = append(errs, fileMode(s.DownwardAPI.DefaultMode, at.Child("defaultMode"))...)
		errs = append(errs, downward(s.DownwardAPI.Items, at)...)
	case s.Projected != nil:
		errs = append(errs, projected(s.Projected, at.Child("projected"))...)
	case s.PersistentVolumeClaim != nil:
		errs = append(errs, refName(s.PersistentVolumeClaim.ClaimName, at.Child("persistentVolumeClaim", "claimName"))...)
	case s.CSI != nil:
		at := at.Child("csi")
		errs = append(errs, CSIDriverName(s.CSI.Driver, at.Child("driver"))...)
		if r := s.CSI.NodePublishSecretRef; r != nil {
			errs = append(errs, refName(r.Name, at.Child("nodePublishSecretRef", "name"))...)
		}
	case s.Ephemeral != nil:
		at := at.Child("ephemeral", "volumeClaimTemplate")
		t := s.Ephemeral.VolumeClaimTemplate
		if t == nil {
			errs = append(errs, field.Required(at, ""))
			break
		}
		errs = append(errs, unversioned.ValidateLabels(t.Labels, at.Child("metadata", "labels"))...)
		errs = append(errs, apivalidation.ValidateAnnotations(t.Annotations, at.Child("metadata", "annotations"))...)
		errs = append(errs, ValidateClaimSpec(&t.Spec, at.Child("spec"))...)
	case s.Image != nil:
		if p := s.Image.PullPolicy; p != "" {
			errs = append(errs, enum(p, at.Child("image", "pullPolicy"), corev1.PullAlways, corev1.PullIfNotPresent, corev1.PullNever)...)
		}
	default:
		errs = append(errs, networkSource(s, volume, at)...)
	}
	return errs
}

// sourcesInOrder are the sources of a volume by their names in JSON, in the order
// in which the first of several is the one that counts.
func sourcesInOrder() []string {
	return strings.Fields("emptyDir hostPath gitRepo gcePersistentDisk awsElasticBlockStore secret nfs iscsi glusterfs flocker " +
		"persistentVolumeClaim rbd cinder cephfs quobyte downwardAPI fc flexVolume configMap azureFile vsphereVolume " +
		"photonPersistentDisk portworxVolume azureDisk storageos projected scaleIO csi ephemeral image")
}

// firstSource is a volume with the first of its sources alone, and the errors of
// there being others. Two of these are told by other names than their fields have.
func firstSource(s *corev1.VolumeSource, at *field.Path) (*corev1.VolumeSource, field.ErrorList) {
	in := reflect.ValueOf(s).Elem()
	fields := make(map[string]int, in.NumField())
	for i := range in.NumField() {
		name, _, _ := strings.Cut(in.Type().Field(i).Tag.Get("json"), ",")
		fields[name] = i
	}
	var first *corev1.VolumeSource
	var errs field.ErrorList
	for _, name := range sourcesInOrder() {
		source := in.Field(fields[name])
		if source.IsNil() {
			continue
		}
		if first == nil {
			first = &corev1.VolumeSource{}
			reflect.ValueOf(first).Elem().Field(fields[name]).Set(source)
			continue
		}
		switch name {
		case "cephfs":
			name = "cephFS"
		case "downwardAPI":
			name = "downwarAPI"
		}
		errs = append(errs, field.Forbidden(at.Child(name), "may not specify more than 1 volume type"))
	}
	return first, errs
}

func hostPath(s *corev1.HostPathVolumeSource, at *field.Path) field.ErrorList {
	if s.Path == "" {
		return field.ErrorList{field.Required(at.Child("path"), "")}
	}
	errs := noDotDot(s.Path, at.Child("path"))
	if t := s.Type; t != nil && *t != corev1.HostPathUnset {
		known := []corev1.HostPathType{corev1.HostPathUnset, corev1.HostPathBlockDev, corev1.HostPathCharDev, corev1.HostPathDirectory,
			corev1.HostPathDirectoryOrCreate, corev1.HostPathFile, corev1.HostPathFileOrCreate, corev1.HostPathSocket}
		errs = append(errs, enum(*t, at.Child("type"), known...)...)
	}
	return errs
}

func noDotDot(p string, at *field.Path) field.ErrorList {
	if hasDotDot(p) {
		return field.ErrorList{field.Invalid(at, p, "must not contain '..'")}
	}
	return nil
}

func hasDotDot(p string) bool {
	for _, part := range strings.Split(p, "/") {
		if part == ".." {
			return true
		}
	}
	return false
}

func fileMode(mode *int32, at *field.Path) field.ErrorList {
	if mode != nil && (*mode > 0o777 || *mode < 0) {
		return field.ErrorList{field.Invalid(at, *mode, "must be a number between 0 and 0777 (octal), both inclusive")}
	}
	return nil
}

func keyPaths(items []corev1.KeyToPath, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, item := range items {
		at := at.Index(i)
		if item.Key == "" {
			errs = append(errs, field.Required(at.Child("key"), ""))
		}
		errs = append(errs, filePath(item.Path, at.Child("path"))...)
		errs = append(errs, fileMode(item.Mode, at.Child("mode"))...)
	}
	return errs
}

func filePath(p string, at *field.Path) field.ErrorList {
	if p == "" {
		return field.ErrorList{field.Required(at, "")}
	}
	errs := localPath(p, at)
	if strings.HasPrefix(p, "..") && !hasDotDot(p) {
		errs = append(errs, field.Invalid(at, p, "must not start with '..'"))
	}
	return errs
}

func downward(items []corev1.DownwardAPIVolumeFile, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, f := range items {
		errs = append(errs, filePath(f.Path, at.Child("path"))...)
		switch {
		case f.FieldRef == nil && f.ResourceFieldRef == nil:
			errs = append(errs, field.Required(at, "one of fieldRef and resourceFieldRef is required"))
		case f.FieldRef != nil && f.ResourceFieldRef != nil:
			errs = append(errs, field.Invalid(at, "resource", "fieldRef and resourceFieldRef can not be specified simultaneously"))
		case f.FieldRef != nil:
			errs = append(errs, fieldRef(f.FieldRef, volumeFields, at.Child("fieldRef"))...)
		default:
			errs = append(errs, resourceRef(f.ResourceFieldRef, true, at.Child("resourceFieldRef"))...)
		}
		errs = append(errs, fileMode(f.Mode, at.Child("mode"))...)
	}
	return errs
}

func projected(p *corev1.ProjectedVolumeSource, at *field.Path) field.ErrorList {
	errs := fileMode(p.DefaultMode, at.Child("defaultMode"))
	paths := sets.New[string]()
	// take claims a path within the volume; of names what has it.
	take := func(p, of string) {
		if p == "" {
			return
		}
		if paths.Has(p) {
			errs = append(errs, field.Invalid(at, of, "conflicting duplicate paths"))
		}
		paths.Insert(p)
	}
	for i := range p.Sources {
		s, at := &p.Sources[i], at.Child("sources").Index(i)
		n := 0
		if s.Secret != nil {
			n++
			errs = append(errs, refName(s.Secret.Name, at.Child("secret", "name"))...)
			errs = append(errs, keyPaths(s.Secret.Items, at.Child("secret", "items"))...)
			for _, item := range s.Secret.Items {
				take(item.Path, s.Secret.Name)
			}
		}
		if s.ConfigMap != nil {
			n++
			errs = append(errs, refName(s.ConfigMap.Name, at.Child("configMap", "name"))...)
			errs = append(errs, keyPaths(s.ConfigMap.Items, at.Child("configMap", "items"))...)
			for _, item := range s.ConfigMap.Items {
				take(item.Path, s.ConfigMap.Name)
			}
		}
		if s.DownwardAPI != nil {
			n++
			errs = append(errs, downward(s.DownwardAPI.Items, at.Child("downwardAPI"))...)
			for _, item := range s.DownwardAPI.Items {
				take(item.Path, item.Path)
			}
		}
		if t := s.ServiceAccountToken; t != nil {
			n++
			if t.ExpirationSeconds == nil {
				errs = append(errs, field.Required(at.Child("serviceAccountToken", "expirationSeconds"), ""))
			} else if *t.ExpirationSeconds < 600 {
				errs = append(errs, field.Invalid(at.Child("serviceAccountToken", "expirationSeconds"), *t.ExpirationSeconds, "may not specify a duration less than 10 minutes"))
			}
			errs = append(errs, filePath(t.Path, at.Child("serviceAccountToken", "path"))...)
		}
		if s.ClusterTrustBundle != nil {
			n++
			errs = append(errs, trustBundle(s.ClusterTrustBundle, at.Child("clusterTrustBundle"))...)
			take(s.ClusterTrustBundle.Path, s.ClusterTrustBundle.Path)
		}
		if c := s.PodCertificate; c != nil {
			n++
			errs = append(errs, podCertificate(c, at.Child("podCertificate"))...)
			for _, p := range []string{c.CredentialBundlePath, c.KeyPath, c.CertificateChainPath} {
				take(p, p)
			}
		}
		if n > 1 {
			errs = append(errs, field.Forbidden(at, "may not specify more than 1 volume type per source"))
		}
	}
	return errs
}
