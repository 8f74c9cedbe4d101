package podspec

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	unversioned "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"
)

// AccessModes returns every error of how a volume may be mounted; none is what
// is said where there are none.
func AccessModes(list []corev1.PersistentVolumeAccessMode, at *field.Path, none string) field.ErrorList {
	if len(list) == 0 {
		return field.ErrorList{field.Required(at, none)}
	}
	known := []corev1.PersistentVolumeAccessMode{corev1.ReadOnlyMany, corev1.ReadWriteMany, corev1.ReadWriteOnce, corev1.ReadWriteOncePod}
	var errs field.ErrorList
	alone, others := false, false
	for _, m := range list {
		if !slices.Contains(known, m) {
			errs = append(errs, field.NotSupported(at, m, known))
		}
		alone = alone || m == corev1.ReadWriteOncePod
		others = others || m != corev1.ReadWriteOncePod
	}
	if alone && others {
		errs = append(errs, field.Forbidden(at, "may not use ReadWriteOncePod with other access modes"))
	}
	return errs
}

// ValidateClaimSpec returns every error of a claim's specification.
func ValidateClaimSpec(s *corev1.PersistentVolumeClaimSpec, at *field.Path) field.ErrorList {
	errs := AccessModes(s.AccessModes, at.Child("accessModes"), "at least 1 access mode is required")
	errs = append(errs, unversioned.ValidateLabelSelector(s.Selector, unversioned.LabelSelectorValidationOptions{}, at.Child("selector"))...)
	size, ok := s.Resources.Requests[corev1.ResourceStorage]
	requests := at.Child("resources").Key(string(corev1.ResourceStorage))
	if !ok {
		errs = append(errs, field.Required(requests, ""))
	} else if size.Sign() <= 0 {
		errs = append(errs, field.Invalid(requests, size.String(), mustBePositive))
	}
	if n := ptr.Deref(s.StorageClassName, ""); n != "" {
		errs = append(errs, subdomain(n, at.Child("storageClassName"))...)
	}
	if n := ptr.Deref(s.VolumeAttributesClassName, ""); n != "" {
		errs = append(errs, subdomain(n, at.Child("volumeAttributesClassName"))...)
	}
	if s.VolumeMode != nil {
		errs = append(errs, supported(*s.VolumeMode, at.Child("volumeMode"), corev1.PersistentVolumeBlock, corev1.PersistentVolumeFilesystem)...)
	}
	if d := s.DataSource; d != nil {
		errs = append(errs, dataSource(d.APIGroup, d.Kind, d.Name, at.Child("dataSource"))...)
	}
	if d := s.DataSourceRef; d != nil {
		errs = append(errs, dataSource(d.APIGroup, d.Kind, d.Name, at.Child("dataSourceRef"))...)
		if ns := ptr.Deref(d.Namespace, ""); ns != "" {
			errs = append(errs, DNSLabel(ns, at.Child("dataSourceRef", "namespace"))...)
			if s.DataSource != nil {
				errs = append(errs, field.Invalid(at, at.Child("dataSource").String(), "may not be specified when dataSourceRef.namespace is specified"))
			}
		} else if s.DataSource != nil &&
			(ptr.Deref(d.APIGroup, "") != ptr.Deref(s.DataSource.APIGroup, "") || d.Kind != s.DataSource.Kind || d.Name != s.DataSource.Name) {
			errs = append(errs, field.Invalid(at, at.Child("dataSource").String(), "must match dataSourceRef"))
		}
	}
	return errs
}

func dataSource(group *string, kind, name string, at *field.Path) field.ErrorList {
	errs := needs(at, "name", name, "kind", kind)
	apiGroup := ptr.Deref(group, "")
	if apiGroup == "" {
		if kind != "PersistentVolumeClaim" {
			errs = append(errs, field.Invalid(at, kind, "must be 'PersistentVolumeClaim' when referencing the default apiGroup"))
		}
		return errs
	}
	return append(errs, subdomain(apiGroup, at.Child("apiGroup"))...)
}
