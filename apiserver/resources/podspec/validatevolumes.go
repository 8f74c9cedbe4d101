package podspec

import (
	"path"
	"reflect"
	"strings"

	corev1 "k8s.io/api/core/v1"
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
			errs = append(errs, dnsLabel(v.Name, at.Child("name"))...)
		}
		if _, dup := found[v.Name]; dup {
			errs = append(errs, field.Duplicate(at.Child("name"), v.Name))
		}
		found[v.Name] = &v.VolumeSource
		errs = append(errs, volumeSource(&v.VolumeSource, at)...)
	}
	return found, errs
}

// volumeSource demands exactly one source, and checks the one.
func volumeSource(s *corev1.VolumeSource, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	n := 0
	value := reflect.ValueOf(s).Elem()
	for i := range value.NumField() {
		if value.Field(i).IsNil() {
			continue
		}
		if n++; n > 1 {
			name, _, _ := strings.Cut(value.Type().Field(i).Tag.Get("json"), ",")
			errs = append(errs, field.Forbidden(at.Child(name), "may not specify more than 1 volume type"))
		}
	}
	if n == 0 {
		return append(errs, field.Required(at, "must specify a volume type"))
	}
	switch {
	case s.HostPath != nil:
		at := at.Child("hostPath")
		if s.HostPath.Path == "" {
			errs = append(errs, field.Required(at.Child("path"), ""))
		} else if hasDotDot(s.HostPath.Path) {
			errs = append(errs, field.Invalid(at.Child("path"), s.HostPath.Path, "must not contain '..'"))
		}
		if t := s.HostPath.Type; t != nil {
			switch *t {
			case corev1.HostPathUnset, corev1.HostPathDirectoryOrCreate, corev1.HostPathDirectory, corev1.HostPathFileOrCreate,
				corev1.HostPathFile, corev1.HostPathSocket, corev1.HostPathCharDev, corev1.HostPathBlockDev:
			default:
				errs = append(errs, field.NotSupported(at.Child("type"), *t, []corev1.HostPathType{corev1.HostPathUnset, corev1.HostPathBlockDev,
					corev1.HostPathCharDev, corev1.HostPathDirectory, corev1.HostPathDirectoryOrCreate, corev1.HostPathFile, corev1.HostPathFileOrCreate, corev1.HostPathSocket}))
			}
		}
	case s.EmptyDir != nil:
		if q := s.EmptyDir.SizeLimit; q != nil {
			errs = append(errs, NonNegative(*q, at.Child("emptyDir", "sizeLimit"))...)
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
		errs = append(errs, downward(s.DownwardAPI.Items, at.Child("items"))...)
	case s.Projected != nil:
		errs = append(errs, projected(s.Projected, at.Child("projected"))...)
	case s.PersistentVolumeClaim != nil:
		errs = append(errs, refName(s.PersistentVolumeClaim.ClaimName, at.Child("persistentVolumeClaim", "claimName"))...)
	case s.NFS != nil:
		at := at.Child("nfs")
		errs = append(errs, refName(s.NFS.Server, at.Child("server"))...)
		errs = append(errs, refName(s.NFS.Path, at.Child("path"))...)
		if s.NFS.Path != "" && !path.IsAbs(s.NFS.Path) {
			errs = append(errs, field.Invalid(at.Child("path"), s.NFS.Path, "must be an absolute path"))
		}
	case s.CSI != nil:
		errs = append(errs, refName(s.CSI.Driver, at.Child("csi", "driver"))...)
	case s.Ephemeral != nil:
		if s.Ephemeral.VolumeClaimTemplate == nil {
			errs = append(errs, field.Required(at.Child("ephemeral", "volumeClaimTemplate"), ""))
		}
	}
	return errs
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
	for i, f := range items {
		at := at.Index(i)
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
	take := func(p string, at *field.Path) {
		if p != "" && paths.Has(p) {
			errs = append(errs, field.Invalid(at, p, "conflicting duplicate paths"))
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
				take(item.Path, at.Child("secret"))
			}
		}
		if s.ConfigMap != nil {
			n++
			errs = append(errs, refName(s.ConfigMap.Name, at.Child("configMap", "name"))...)
			errs = append(errs, keyPaths(s.ConfigMap.Items, at.Child("configMap", "items"))...)
			for _, item := range s.ConfigMap.Items {
				take(item.Path, at.Child("configMap"))
			}
		}
		if s.DownwardAPI != nil {
			n++
			errs = append(errs, downward(s.DownwardAPI.Items, at.Child("downwardAPI"))...)
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
		}
		if s.PodCertificate != nil {
			n++
		}
		switch {
		case n > 1:
			errs = append(errs, field.Forbidden(at, "may not specify more than 1 volume type"))
		case n == 0:
			errs = append(errs, field.Required(at, "must specify a volume type"))
		}
	}
	return errs
}
