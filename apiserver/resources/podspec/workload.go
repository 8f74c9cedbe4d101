package podspec

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	unversioned "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// NonNegativeInt refuses a negative number.
func NonNegativeInt[T ~int32 | ~int64](n T, path *field.Path) field.ErrorList {
	if n < 0 {
		return field.ErrorList{field.Invalid(path, n, "must be greater than or equal to 0")}
	}
	return nil
}

// ValidateWorkloadTemplate is the template of a kind that selects the pods it
// makes: the selector must match, and the pods must be of a policy of allowed.
func ValidateWorkloadTemplate(kind string, t *corev1.PodTemplateSpec, selector *metav1.LabelSelector, path *field.Path, allowed ...corev1.RestartPolicy) field.ErrorList {
	var errs field.ErrorList
	if selector == nil {
		errs = append(errs, field.Required(path.Child("selector"), ""))
	} else {
		errs = append(errs, unversioned.ValidateLabelSelector(selector, unversioned.LabelSelectorValidationOptions{}, path.Child("selector"))...)
		if len(selector.MatchLabels)+len(selector.MatchExpressions) == 0 {
			errs = append(errs, field.Invalid(path.Child("selector"), selector, "empty selector is invalid for "+emptyFor(kind)))
		}
	}
	at := path.Child("template")
	if s, err := metav1.LabelSelectorAsSelector(selector); err != nil {
		switch kind {
		case "StatefulSet":
			errs = append(errs, field.Invalid(path.Child("selector"), selector, ""))
		case "DaemonSet":
			// Its selector's own errors say it.
		default:
			errs = append(errs, field.Invalid(path.Child("selector"), selector, "invalid label selector"))
		}
	} else if !s.Empty() && !s.Matches(labels.Set(t.Labels)) {
		errs = append(errs, field.Invalid(at.Child("metadata", "labels"), t.Labels, "`selector` does not match template `labels`"))
	}
	errs = append(errs, ValidateTemplate(t, at)...)
	return append(errs, RestartPolicyOf(kind, t, at, allowed...)...)
}

// emptyFor is how the refusal of an empty selector names the kind; replica sets
// share the deployments' word.
func emptyFor(kind string) string {
	if kind == "ReplicaSet" {
		return "deployment"
	}
	return strings.ToLower(kind)
}

// RestartPolicyOf demands one of the allowed policies.
func RestartPolicyOf(kind string, t *corev1.PodTemplateSpec, at *field.Path, allowed ...corev1.RestartPolicy) field.ErrorList {
	var errs field.ErrorList
	ok := false
	for _, p := range allowed {
		ok = ok || t.Spec.RestartPolicy == p
	}
	if !ok {
		errs = append(errs, field.NotSupported(at.Child("spec", "restartPolicy"), t.Spec.RestartPolicy, allowed))
	}
	if t.Spec.ActiveDeadlineSeconds != nil && len(allowed) == 1 && allowed[0] == corev1.RestartPolicyAlways {
		errs = append(errs, field.Forbidden(at.Child("spec", "activeDeadlineSeconds"), "activeDeadlineSeconds in "+kind+" is not Supported"))
	}
	return errs
}

// NameWarnings are about the names of what makes pods that are called like it.
func NameWarnings(name string) []string {
	if msgs := validation.IsDNS1123Label(name); name != "" && len(msgs) > 0 {
		return []string{fmt.Sprintf("metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS label is recommended: %v", msgs)}
	}
	return nil
}

// IntOrPercent is a count or a share of at most 100 %.
func IntOrPercent(v *intstr.IntOrString, at *field.Path) field.ErrorList {
	if v == nil {
		return nil
	}
	if v.Type == intstr.Int {
		return NonNegativeInt(int32(v.IntValue()), at)
	}
	var errs field.ErrorList
	for _, msg := range validation.IsValidPercent(v.StrVal) {
		errs = append(errs, field.Invalid(at, *v, msg))
	}
	return errs
}

// NotMoreThan100 refuses a share above 100 %.
func NotMoreThan100(v *intstr.IntOrString, at *field.Path) field.ErrorList {
	if v == nil || v.Type != intstr.String || len(validation.IsValidPercent(v.StrVal)) > 0 {
		return nil
	}
	if n, err := intstr.GetScaledValueFromIntOrPercent(v, 100, false); err == nil && n > 100 {
		return field.ErrorList{field.Invalid(at, *v, "must not be greater than 100%")}
	}
	return nil
}

// IsZero tells whether a count or share is none.
func IsZero(v *intstr.IntOrString) bool {
	if v == nil {
		return true
	}
	n, err := intstr.GetScaledValueFromIntOrPercent(v, 100, false)
	return err == nil && n == 0
}
