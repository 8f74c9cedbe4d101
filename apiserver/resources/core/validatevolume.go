package core

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/diff"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"skiff/apiserver/resources/podspec"
)

func validatePV(_ context.Context, pv *corev1.PersistentVolume) field.ErrorList {
	return podspec.ValidatePersistentVolumeSpec(&pv.Spec, pv.Name, specPath)
}

func validatePVUpdate(ctx context.Context, pv, old *corev1.PersistentVolume) field.ErrorList {
	errs := validatePV(ctx, pv)
	// A volume may be given once what it is grown with.
	if c := pv.Spec.CSI; c != nil && c.ControllerExpandSecretRef != nil && old.Spec.CSI != nil && old.Spec.CSI.ControllerExpandSecretRef == nil {
		pv = pv.DeepCopy()
		pv.Spec.CSI.ControllerExpandSecretRef = nil
	}
	if !equality.Semantic.DeepEqual(pv.Spec.PersistentVolumeSource, old.Spec.PersistentVolumeSource) {
		errs = append(errs, field.Forbidden(specPath.Child("persistentvolumesource"), fmt.Sprintf("spec.persistentvolumesource is immutable after creation\n%v", diff.Diff(old.Spec.PersistentVolumeSource, pv.Spec.PersistentVolumeSource))))
	}
	errs = append(errs, apivalidation.ValidateImmutableField(pv.Spec.VolumeMode, old.Spec.VolumeMode, field.NewPath("volumeMode"))...)
	if old.Spec.NodeAffinity != nil && !equality.Semantic.DeepEqual(pv.Spec.NodeAffinity, old.Spec.NodeAffinity) {
		errs = append(errs, field.Invalid(field.NewPath("nodeAffinity"), pv.Spec.NodeAffinity, "field is immutable, except for updating from beta label to GA"))
	}
	if old.Spec.VolumeAttributesClassName != nil && pv.Spec.VolumeAttributesClassName == nil {
		errs = append(errs, field.Forbidden(specPath.Child("volumeAttributesClassName"), "update from non-nil value to nil is forbidden"))
	}
	return errs
}

func validatePVC(_ context.Context, c *corev1.PersistentVolumeClaim) field.ErrorList {
	return podspec.ValidateClaimSpec(&c.Spec, specPath)
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
	if old.Status.Phase == corev1.ClaimBound {
		was.Spec.VolumeAttributesClassName = is.Spec.VolumeAttributesClassName
	}
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
	for name, q := range c.Status.AllocatedResources {
		at := statusPath.Child("allocatedResources")
		errs = append(errs, claimResource(name, at)...)
		errs = append(errs, podspec.NonNegative(q, at.Key(string(name)))...)
	}
	for name, state := range c.Status.AllocatedResourceStatuses {
		at := statusPath.Child("allocatedResourceStatus")
		errs = append(errs, claimResource(name, at)...)
		known := []corev1.ClaimResourceStatus{corev1.PersistentVolumeClaimControllerResizeInProgress, corev1.PersistentVolumeClaimControllerResizeInfeasible,
			corev1.PersistentVolumeClaimNodeResizeInProgress, corev1.PersistentVolumeClaimNodeResizeInfeasible, corev1.PersistentVolumeClaimNodeResizePending}
		slices.Sort(known)
		if !slices.Contains(known, state) {
			errs = append(errs, field.NotSupported(at.Key(string(name)), state, known))
		}
	}
	return errs
}

// claimResource is the key of a claim's allocated resource: storage, or one with a domain.
func claimResource(name corev1.ResourceName, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, msg := range validation.IsQualifiedName(string(name)) {
		errs = append(errs, field.Invalid(at, name, msg))
	}
	if len(errs) == 0 && name != corev1.ResourceStorage && !strings.Contains(string(name), "/") {
		errs = append(errs, field.NotSupported(at, name, []corev1.ResourceName{corev1.ResourceStorage}))
	}
	return errs
}
