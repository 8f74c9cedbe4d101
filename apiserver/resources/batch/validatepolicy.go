package batch

import (
	"fmt"
	"slices"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"skiff/apiserver/resources/podspec"
)

func failurePolicy(s *batchv1.JobSpec, at *field.Path) field.ErrorList {
	if s.PodFailurePolicy == nil {
		return nil
	}
	var errs field.ErrorList
	if len(s.PodFailurePolicy.Rules) > 20 {
		return field.ErrorList{field.TooMany(at.Child("rules"), len(s.PodFailurePolicy.Rules), 20)}
	}
	for i, r := range s.PodFailurePolicy.Rules {
		at := at.Child("rules").Index(i)
		switch r.Action {
		case batchv1.PodFailurePolicyActionFailJob, batchv1.PodFailurePolicyActionIgnore, batchv1.PodFailurePolicyActionCount:
		case batchv1.PodFailurePolicyActionFailIndex:
			if s.BackoffLimitPerIndex == nil {
				errs = append(errs, field.Invalid(at.Child("action"), r.Action, "requires the backoffLimitPerIndex to be set"))
			}
		case "":
			errs = append(errs, field.Required(at.Child("action"), `valid values: ["Count" "FailIndex" "FailJob" "Ignore"]`))
		default:
			errs = append(errs, field.NotSupported(at.Child("action"), r.Action, []batchv1.PodFailurePolicyAction{
				batchv1.PodFailurePolicyActionCount, batchv1.PodFailurePolicyActionFailIndex, batchv1.PodFailurePolicyActionFailJob, batchv1.PodFailurePolicyActionIgnore}))
		}
		switch {
		case r.OnExitCodes != nil && len(r.OnPodConditions) > 0:
			errs = append(errs, field.Invalid(at, field.OmitValueType{}, "specifying both OnExitCodes and OnPodConditions is not supported"))
		case r.OnExitCodes == nil && len(r.OnPodConditions) == 0:
			errs = append(errs, field.Invalid(at, field.OmitValueType{}, "specifying one of OnExitCodes and OnPodConditions is required"))
		}
		if r.OnExitCodes != nil {
			errs = append(errs, exitCodes(r.OnExitCodes, &s.Template.Spec, at.Child("onExitCodes"))...)
		}
		errs = append(errs, podConditions(r.OnPodConditions, at.Child("onPodConditions"))...)
	}
	return errs
}

func exitCodes(e *batchv1.PodFailurePolicyOnExitCodesRequirement, spec *corev1.PodSpec, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	known := []batchv1.PodFailurePolicyOnExitCodesOperator{batchv1.PodFailurePolicyOnExitCodesOpIn, batchv1.PodFailurePolicyOnExitCodesOpNotIn}
	if e.Operator == "" {
		errs = append(errs, field.Required(at.Child("operator"), fmt.Sprintf("valid values: %q", known)))
	} else if !slices.Contains(known, e.Operator) {
		errs = append(errs, field.NotSupported(at.Child("operator"), e.Operator, known))
	}
	if name := e.ContainerName; name != nil {
		is := func(c corev1.Container) bool { return c.Name == *name }
		if !slices.ContainsFunc(spec.Containers, is) && !slices.ContainsFunc(spec.InitContainers, is) {
			errs = append(errs, field.Invalid(at.Child("containerName"), *name, "must be one of the container or initContainer names in the pod template"))
		}
	}
	at = at.Child("values")
	switch n := len(e.Values); {
	case n == 0:
		errs = append(errs, field.Invalid(at, e.Values, "at least one value is required"))
	case n > 255:
		errs = append(errs, field.TooMany(at, n, 255))
	}
	seen := map[int32]bool{}
	ordered := true
	for i, v := range e.Values {
		if e.Operator == batchv1.PodFailurePolicyOnExitCodesOpIn && v == 0 {
			errs = append(errs, field.Invalid(at.Index(i), v, "must not be 0 for the In operator"))
		}
		if seen[v] {
			errs = append(errs, field.Duplicate(at.Index(i), v))
		} else if i > 0 && v < e.Values[i-1] {
			ordered = false
		}
		seen[v] = true
	}
	if !ordered {
		errs = append(errs, field.Invalid(at, e.Values, "must be ordered"))
	}
	return errs
}

func podConditions(list []batchv1.PodFailurePolicyOnPodConditionsPattern, at *field.Path) field.ErrorList {
	if n := len(list); n > 20 {
		return field.ErrorList{field.TooMany(at, n, 20)}
	}
	known := []corev1.ConditionStatus{corev1.ConditionFalse, corev1.ConditionTrue, corev1.ConditionUnknown}
	var errs field.ErrorList
	for i, c := range list {
		at := at.Index(i)
		for _, msg := range validation.IsQualifiedName(string(c.Type)) {
			errs = append(errs, field.Invalid(at.Child("type"), c.Type, msg))
		}
		if c.Status == "" {
			errs = append(errs, field.Required(at.Child("status"), fmt.Sprintf("valid values: %q", known)))
		} else if !slices.Contains(known, c.Status) {
			errs = append(errs, field.NotSupported(at.Child("status"), c.Status, known))
		}
	}
	return errs
}

func successPolicy(s *batchv1.JobSpec, at *field.Path) field.ErrorList {
	if s.SuccessPolicy == nil {
		return nil
	}
	rules := s.SuccessPolicy.Rules
	at = at.Child("rules")
	switch n := len(rules); {
	case n == 0:
		return field.ErrorList{field.Required(at, "at least one rules must be specified when the successPolicy is specified")}
	case n > 20:
		return field.ErrorList{field.TooMany(at, n, 20)}
	}
	var errs field.ErrorList
	for i, r := range rules {
		at := at.Index(i)
		if r.SucceededCount == nil && r.SucceededIndexes == nil {
			errs = append(errs, field.Required(at, "at least one of succeededCount or succeededIndexes must be specified"))
		}
		var chosen []int32
		if r.SucceededIndexes != nil {
			var bad field.ErrorList
			chosen, bad = indexes(*r.SucceededIndexes, ptr.Deref(s.Completions, 0), at, "succeededIndexes")
			errs = append(errs, bad...)
		}
		if n := r.SucceededCount; n != nil {
			errs = append(errs, podspec.NonNegativeInt(*n, at.Child("succeededCount"))...)
			if most := ptr.Deref(s.Completions, 0); *n > most {
				errs = append(errs, field.Invalid(at.Child("succeededCount"), *n, fmt.Sprintf("must be less than or equal to %d (the number of specified completions)", most)))
			}
			if most := int32(len(chosen)); r.SucceededIndexes != nil && *n > most {
				errs = append(errs, field.Invalid(at.Child("succeededCount"), *n, fmt.Sprintf("must be less than or equal to %d (the number of indexes in the specified succeededIndexes field)", most)))
			}
		}
	}
	return errs
}
