package core

import (
	"context"
	"fmt"
	"reflect"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	unversioned "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/diff"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"skiff/apiserver/resources/podspec"
)

var (
	accessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadOnlyMany, corev1.ReadWriteMany, corev1.ReadWriteOnce, corev1.ReadWriteOncePod}
	volumeModes = []corev1.PersistentVolumeMode{corev1.PersistentVolumeBlock, corev1.PersistentVolumeFilesystem}
)

func modes(list []corev1.PersistentVolumeAccessMode, at *field.Path, none string) field.ErrorList {
	if len(list) == 0 {
		return field.ErrorList{field.Required(at, none)}
	}
	var errs field.ErrorList
	alone, others := false, false
	for _, m := range list {
		if bad := required(m, at, accessModes...); len(bad) > 0 {
			errs = append(errs, field.NotSupported(at, m, accessModes))
		}
		alone = alone || m == corev1.ReadWriteOncePod
		others = others || m != corev1.ReadWriteOncePod
	}
	if alone && others {
		errs = append(errs, field.Forbidden(at, "may not use ReadWriteOncePod with other access modes"))
	}
	return errs
}

func className(name string, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, msg := range apivalidation.NameIsDNSSubdomain(name, false) {
		errs = append(errs, field.Invalid(at, name, msg))
	}
	return errs
}

func positive(list corev1.ResourceList, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for name, q := range list {
		if q.Sign() <= 0 {
			errs = append(errs, field.Invalid(at.Key(string(name)), q.String(), "must be greater than zero"))
		}
	}
	return errs
}

func validatePV(_ context.Context, pv *corev1.PersistentVolume) field.ErrorList {
	s := &pv.Spec
	errs := modes(s.AccessModes, specPath.Child("accessModes"), "")
	if len(s.Capacity) == 0 {
		errs = append(errs, field.Required(specPath.Child("capacity"), ""))
	}
	if _, ok := s.Capacity[corev1.ResourceStorage]; !ok || len(s.Capacity) > 1 {
		errs = append(errs, field.NotSupported(specPath.Child("capacity"), s.Capacity, []corev1.ResourceName{corev1.ResourceStorage}))
	}
	errs = append(errs, positive(s.Capacity, specPath.Child("capacity"))...)
	if p := s.PersistentVolumeReclaimPolicy; p != "" {
		errs = append(errs, required(p, specPath.Child("persistentVolumeReclaimPolicy"), corev1.PersistentVolumeReclaimDelete, corev1.PersistentVolumeReclaimRecycle, corev1.PersistentVolumeReclaimRetain)...)
	}
	if a := s.NodeAffinity; a != nil {
		at := specPath.Child("nodeAffinity")
		if a.Required == nil {
			errs = append(errs, field.Required(at.Child("required"), "must specify required node constraints"))
		} else {
			errs = append(errs, podspec.ValidateNodeSelector(a.Required, at.Child("required"))...)
		}
	}
	errs = append(errs, pvSource(pv)...)
	if s.StorageClassName != "" {
		errs = append(errs, className(s.StorageClassName, specPath.Child("storageClassName"))...)
	}
	if s.VolumeMode != nil {
		errs = append(errs, required(*s.VolumeMode, specPath.Child("volumeMode"), volumeModes...)...)
	}
	if c := s.VolumeAttributesClassName; c != nil {
		at := specPath.Child("volumeAttributesClassName")
		if *c == "" {
			errs = append(errs, field.Required(at, "an empty string is disallowed"))
		}
		if s.CSI == nil {
			errs = append(errs, field.Required(specPath.Child("csi"), "has to be specified when using volumeAttributesClassName"))
		}
	}
	return errs
}

// pvSource demands exactly one source.
func pvSource(pv *corev1.PersistentVolume) field.ErrorList {
	var errs field.ErrorList
	value := reflect.ValueOf(&pv.Spec.PersistentVolumeSource).Elem()
	n := 0
	for i := range value.NumField() {
		if value.Field(i).IsNil() {
			continue
		}
		if n++; n > 1 {
			name, _, _ := strings.Cut(value.Type().Field(i).Tag.Get("json"), ",")
			errs = append(errs, field.Forbidden(specPath.Child(name), "may not specify more than 1 volume type"))
		}
	}
	if n == 0 {
		errs = append(errs, field.Required(specPath, "must specify a volume type"))
	}
	s := &pv.Spec
	need := func(text string, path ...string) {
		if text == "" {
			errs = append(errs, field.Required(specPath.Child(path[0], path[1:]...), ""))
		}
	}
	noDots := func(p string, at *field.Path) {
		for _, part := range strings.Split(p, "/") {
			if part == ".." {
				errs = append(errs, field.Invalid(at, p, "must not contain '..'"))
				return
			}
		}
	}
	switch {
	case s.HostPath != nil:
		need(s.HostPath.Path, "hostPath", "path")
		noDots(s.HostPath.Path, specPath.Child("hostPath", "path"))
		if s.HostPath.Path == "/" && s.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimRecycle {
			errs = append(errs, field.Forbidden(specPath.Child("persistentVolumeReclaimPolicy"), "may not be 'recycle' for a hostPath mount of '/'"))
		}
	case s.Local != nil:
		need(s.Local.Path, "local", "path")
		noDots(s.Local.Path, specPath.Child("local", "path"))
		if s.NodeAffinity == nil {
			errs = append(errs, field.Required(metaPath.Child("annotations"), "Local volume requires node affinity"))
		}
	case s.NFS != nil:
		need(s.NFS.Server, "nfs", "server")
		need(s.NFS.Path, "nfs", "path")
		if s.NFS.Path != "" && !strings.HasPrefix(s.NFS.Path, "/") {
			errs = append(errs, field.Invalid(specPath.Child("nfs", "path"), s.NFS.Path, "must be an absolute path"))
		}
	case s.CSI != nil:
		need(s.CSI.Driver, "csi", "driver")
		need(s.CSI.VolumeHandle, "csi", "volumeHandle")
	case s.ISCSI != nil:
		need(s.ISCSI.TargetPortal, "iscsi", "targetPortal")
		need(s.ISCSI.IQN, "iscsi", "iqn")
	}
	return errs
}

func validatePVUpdate(ctx context.Context, pv, old *corev1.PersistentVolume) field.ErrorList {
	errs := validatePV(ctx, pv)
	if !equality.Semantic.DeepEqual(pv.Spec.PersistentVolumeSource, old.Spec.PersistentVolumeSource) {
		errs = append(errs, field.Forbidden(specPath.Child("persistentvolumesource"), fmt.Sprintf("spec.persistentvolumesource is immutable after creation\n%v", diff.Diff(old.Spec.PersistentVolumeSource, pv.Spec.PersistentVolumeSource))))
	}
	errs = append(errs, apivalidation.ValidateImmutableField(pv.Spec.VolumeMode, old.Spec.VolumeMode, field.NewPath("volumeMode"))...)
	if old.Spec.NodeAffinity != nil && !equality.Semantic.DeepEqual(pv.Spec.NodeAffinity, old.Spec.NodeAffinity) {
		errs = append(errs, field.Invalid(field.NewPath("nodeAffinity"), pv.Spec.NodeAffinity, "field is immutable"))
	}
	return errs
}

func validatePVC(_ context.Context, c *corev1.PersistentVolumeClaim) field.ErrorList {
	return claimSpec(&c.Spec, specPath)
}

func claimSpec(s *corev1.PersistentVolumeClaimSpec, at *field.Path) field.ErrorList {
	errs := modes(s.AccessModes, at.Child("accessModes"), "at least 1 access mode is required")
	errs = append(errs, unversioned.ValidateLabelSelector(s.Selector, unversioned.LabelSelectorValidationOptions{}, at.Child("selector"))...)
	size, ok := s.Resources.Requests[corev1.ResourceStorage]
	requests := at.Child("resources").Key(string(corev1.ResourceStorage))
	if !ok {
		errs = append(errs, field.Required(requests, ""))
	} else if size.Sign() <= 0 {
		errs = append(errs, field.Invalid(requests, size.String(), "must be greater than zero"))
	}
	if n := ptr.Deref(s.StorageClassName, ""); n != "" {
		errs = append(errs, className(n, at.Child("storageClassName"))...)
	}
	if s.VolumeMode != nil {
		errs = append(errs, required(*s.VolumeMode, at.Child("volumeMode"), volumeModes...)...)
	}
	if d := s.DataSource; d != nil {
		errs = append(errs, dataSource(d.APIGroup, d.Kind, d.Name, at.Child("dataSource"))...)
	}
	if d := s.DataSourceRef; d != nil {
		errs = append(errs, dataSource(d.APIGroup, d.Kind, d.Name, at.Child("dataSourceRef"))...)
		if s.DataSource != nil && ptr.Deref(d.Namespace, "") == "" &&
			(ptr.Deref(d.APIGroup, "") != ptr.Deref(s.DataSource.APIGroup, "") || d.Kind != s.DataSource.Kind || d.Name != s.DataSource.Name) {
			errs = append(errs, field.Invalid(at, at.Child("dataSource").String(), "must match dataSourceRef"))
		}
	}
	return errs
}

func dataSource(group *string, kind, name string, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if name == "" {
		errs = append(errs, field.Required(at.Child("name"), ""))
	}
	if kind == "" {
		errs = append(errs, field.Required(at.Child("kind"), ""))
	}
	if ptr.Deref(group, "") == "" && kind != "PersistentVolumeClaim" {
		errs = append(errs, field.Invalid(at, kind, "must be 'PersistentVolumeClaim' when referencing the default apiGroup"))
	}
	return errs
}

func validatePVCUpdate(ctx context.Context, c, old *corev1.PersistentVolumeClaim) field.ErrorList {
	errs := validatePVC(ctx, c)
	was, is := old.DeepCopy(), c.DeepCopy()
	if was.Spec.VolumeName == "" {
		// A claim may be bound to a volume once.
		was.Spec.VolumeName = is.Spec.VolumeName
	}
	if old.Spec.StorageClassName == nil {
		was.Spec.StorageClassName = is.Spec.StorageClassName
	}
	if old.Status.Phase == corev1.ClaimBound {
		before, now := old.Spec.Resources.Requests[corev1.ResourceStorage], c.Spec.Resources.Requests[corev1.ResourceStorage]
		allocated := old.Status.Capacity[corev1.ResourceStorage]
		if now.Cmp(before) < 0 && now.Cmp(allocated) <= 0 {
			errs = append(errs, field.Forbidden(specPath.Child("resources", "requests", "storage"), "field can not be less than status.capacity"))
		}
		if was.Spec.Resources.Requests != nil {
			was.Spec.Resources.Requests[corev1.ResourceStorage] = now
		}
	}
	was.Spec.VolumeAttributesClassName = is.Spec.VolumeAttributesClassName
	if !equality.Semantic.DeepEqual(is.Spec, was.Spec) {
		errs = append(errs, field.Forbidden(specPath, fmt.Sprintf("spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims\n%v", diff.Diff(was.Spec, is.Spec))))
	}
	return append(errs, apivalidation.ValidateImmutableField(c.Spec.VolumeMode, old.Spec.VolumeMode, specPath.Child("volumeMode"))...)
}

func validatePVCStatusUpdate(_ context.Context, c, _ *corev1.PersistentVolumeClaim) field.ErrorList {
	var errs field.ErrorList
	if len(c.Spec.AccessModes) == 0 {
		errs = append(errs, field.Required(specPath.Child("accessModes"), ""))
	}
	for name, q := range c.Status.Capacity {
		errs = append(errs, podspec.NonNegative(q, statusPath.Child("capacity").Key(string(name)))...)
	}
	return errs
}
