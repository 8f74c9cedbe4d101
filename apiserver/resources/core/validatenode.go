package core

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	unversioned "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	netutils "k8s.io/utils/net"
	"k8s.io/utils/ptr"

	"skiff/apiserver/resources/podspec"
)

// taintsAnnotation is where taints were before they had a field.
const taintsAnnotation = "scheduler.alpha.kubernetes.io/taints"

func validateNode(_ context.Context, n *corev1.Node) field.ErrorList {
	errs := nodeAnnotations(n.Annotations, metaPath.Child("annotations"))
	errs = append(errs, taints(n.Spec.Taints, metaPath.Child("taints"))...)
	errs = append(errs, nodeAmounts(&n.Status)...)
	if s := n.Status.NodeInfo.Swap; s != nil && s.Capacity != nil && *s.Capacity <= 0 {
		errs = append(errs, field.Invalid(metaPath.Child("nodeSwapStatus", "capacity"), *s.Capacity, "must be greater than zero"))
	}
	errs = append(errs, declaredFeatures(n.Status.DeclaredFeatures, statusPath.Child("declaredFeatures"))...)
	return append(errs, podCIDRs(n)...)
}

// nodeAmounts names resources as fields of the amounts, not as their keys.
func nodeAmounts(s *corev1.NodeStatus) field.ErrorList {
	var errs field.ErrorList
	for name, q := range s.Capacity {
		errs = append(errs, nodeAmount(name, q, statusPath.Child("capacity", string(name)))...)
	}
	for name, q := range s.Allocatable {
		errs = append(errs, nodeAmount(name, q, statusPath.Child("allocatable", string(name)))...)
	}
	return errs
}

func nodeAmount(name corev1.ResourceName, q resource.Quantity, at *field.Path) field.ErrorList {
	errs := podspec.NonNegative(q, at)
	if (wholeNumbers[name] || podspec.ExtendedResource(name)) && q.MilliValue()%1000 != 0 {
		errs = append(errs, field.Invalid(at, q.String(), "must be an integer"))
	}
	return errs
}

// nodeAnnotations are taints and signatures of pods that old clients keep there.
func nodeAnnotations(annotations map[string]string, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if text := annotations[taintsAnnotation]; text != "" {
		var list []corev1.Taint
		if err := json.Unmarshal([]byte(text), &list); err != nil {
			errs = append(errs, field.Invalid(at, taintsAnnotation, err.Error()))
		} else {
			errs = append(errs, taints(list, at.Child(taintsAnnotation))...)
		}
	}
	if text := annotations[corev1.PreferAvoidPodsAnnotationKey]; text != "" {
		var avoid corev1.AvoidPods
		if err := json.Unmarshal([]byte(text), &avoid); err != nil {
			return append(errs, field.Invalid(at.Child("AvoidPods"), corev1.PreferAvoidPodsAnnotationKey, err.Error()))
		}
		for i, e := range avoid.PreferAvoidPods {
			at := at.Child(corev1.PreferAvoidPodsAnnotationKey).Index(i).Child("PodSignature")
			if c := e.PodSignature.PodController; c == nil {
				errs = append(errs, field.Required(at, ""))
			} else if !ptr.Deref(c.Controller, false) {
				errs = append(errs, field.Invalid(at.Child("PodController", "Controller"), false, "must point to a controller"))
			}
		}
	}
	return errs
}

func podCIDRs(n *corev1.Node) field.ErrorList {
	var errs field.ErrorList
	at := specPath.Child("podCIDRs")
	for i, c := range n.Spec.PodCIDRs {
		errs = append(errs, validation.IsValidCIDRForLegacyField(at.Index(i), c, true, nil)...)
	}
	if len(n.Spec.PodCIDRs) > 1 {
		dual, err := netutils.IsDualStackCIDRStrings(n.Spec.PodCIDRs)
		if err != nil {
			errs = append(errs, field.InternalError(at, fmt.Errorf("invalid PodCIDRs. failed to check with dual stack with error:%w", err)))
		}
		if !dual || len(n.Spec.PodCIDRs) > 2 {
			errs = append(errs, field.Invalid(at, n.Spec.PodCIDRs, "may specify no more than one CIDR for each IP family"))
		}
	}
	return errs
}

func taints(list []corev1.Taint, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	type key struct {
		key    string
		effect corev1.TaintEffect
	}
	seen := map[key]bool{}
	for i, t := range list {
		at := at.Index(i)
		errs = append(errs, unversioned.ValidateLabelName(t.Key, at.Child("key"))...)
		if msgs := validation.IsValidLabelValue(t.Value); len(msgs) > 0 {
			errs = append(errs, field.Invalid(at.Child("value"), t.Value, strings.Join(msgs, ";")))
		}
		switch t.Effect {
		case corev1.TaintEffectNoSchedule, corev1.TaintEffectPreferNoSchedule, corev1.TaintEffectNoExecute:
		case "":
			errs = append(errs, field.Required(at.Child("effect"), ""))
		default:
			errs = append(errs, field.NotSupported(at.Child("effect"), t.Effect, []corev1.TaintEffect{corev1.TaintEffectNoSchedule, corev1.TaintEffectPreferNoSchedule, corev1.TaintEffectNoExecute}))
		}
		k := key{t.Key, t.Effect}
		if seen[k] {
			d := field.Duplicate(at, t)
			d.Detail = "taints must be unique by key and effect pair"
			errs = append(errs, d)
		}
		seen[k] = true
	}
	return errs
}

// validateNodeUpdate looks at what a status may hold twice, as upstream does.
func validateNodeUpdate(ctx context.Context, n, old *corev1.Node) field.ErrorList {
	return append(validateNode(ctx, n), validateNodeStatusUpdate(ctx, n, old)...)
}

// validateNodeStatusUpdate is what every change must keep to. A status cannot
// change the rest, which is looked at all the same.
func validateNodeStatusUpdate(_ context.Context, n, old *corev1.Node) field.ErrorList {
	errs := nodeAnnotations(n.Annotations, metaPath.Child("annotations"))
	errs = append(errs, nodeAmounts(&n.Status)...)
	errs = append(errs, declaredFeatures(n.Status.DeclaredFeatures, statusPath.Child("declaredFeatures"))...)
	addresses := map[corev1.NodeAddress]bool{}
	for i, a := range n.Status.Addresses {
		if addresses[a] {
			errs = append(errs, field.Duplicate(statusPath.Child("addresses").Index(i), a))
		}
		addresses[a] = true
	}
	errs = append(errs, assignedOnce(n, old)...)
	if c := n.Spec.ConfigSource; c != nil && c.ConfigMap == nil {
		errs = append(errs, field.Invalid(specPath.Child("configSource"), c, "exactly one reference subfield must be non-nil"))
	}
	return append(errs, taints(n.Spec.Taints, metaPath.Child("taints"))...)
}

// assignedOnce is about the fields that a node is given once.
func assignedOnce(n, old *corev1.Node) field.ErrorList {
	var errs field.ErrorList
	if was, is := old.Spec.PodCIDRs, n.Spec.PodCIDRs; len(was) > 0 {
		forbidden := field.Forbidden(specPath.Child("podCIDRs"), "node updates may not change podCIDR except from \"\" to valid")
		if len(was) != len(is) {
			errs = append(errs, forbidden)
		}
		for i := 0; len(was) == len(is) && i < len(is); i++ {
			if was[i] != is[i] {
				errs = append(errs, forbidden)
			}
		}
	}
	provider := specPath.Child("providerID")
	switch was, is := old.Spec.ProviderID, n.Spec.ProviderID; {
	case was != "" && is == "":
		errs = append(errs, field.Invalid(provider, nil, "field cannot be cleared once set"))
	case was != "" && is != was:
		errs = append(errs, field.Invalid(provider, nil, "field cannot be modified once set"))
	}
	if n.Spec.DoNotUseExternalID != old.Spec.DoNotUseExternalID {
		errs = append(errs, field.Forbidden(specPath.Child("externalID"), "may not be updated"))
	}
	return errs
}

// featureName is segments in camel case, of which the first begins with a capital.
var featureName = regexp.MustCompile(`^[A-Z][a-zA-Z0-9]*(\/[a-zA-Z][a-zA-Z0-9]*)*$`)

func declaredFeatures(list []string, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, f := range list {
		if len(f) > validation.DNS1123SubdomainMaxLength {
			errs = append(errs, field.Invalid(at.Index(i), f, fmt.Sprintf("invalid feature name %q: must be no more than %d characters", f, validation.DNS1123SubdomainMaxLength)))
		} else if !featureName.MatchString(f) {
			errs = append(errs, field.Invalid(at.Index(i), f, fmt.Sprintf("invalid feature name %q: must start with an UpperCamelCase segment, with subsequent segments separated by '/' (e.g., MyFeature or MyFeature/mySubFeature), and contain only alphanumeric characters and slashes", f)))
		}
		if i+1 == len(list) {
			break
		}
		switch next := list[i+1]; {
		case f == next:
			errs = append(errs, field.Duplicate(at.Index(i+1), next))
		case f > next:
			errs = append(errs, field.Invalid(at.Index(i+1), next, "list must be sorted alphabetically"))
		}
	}
	return errs
}
