package core

import (
	"context"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	unversioned "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"skiff/apiserver/resources/podspec"
)

func validateNode(_ context.Context, n *corev1.Node) field.ErrorList {
	errs := taints(n.Spec.Taints, specPath.Child("taints"))
	for name, q := range n.Status.Capacity {
		errs = append(errs, podspec.NonNegative(q, statusPath.Child("capacity").Key(string(name)))...)
	}
	for name, q := range n.Status.Allocatable {
		errs = append(errs, podspec.NonNegative(q, statusPath.Child("allocatable").Key(string(name)))...)
	}
	return append(errs, podCIDRs(n)...)
}

func podCIDRs(n *corev1.Node) field.ErrorList {
	var errs field.ErrorList
	at := specPath.Child("podCIDRs")
	seen := map[string]bool{}
	v6 := 0
	for i, c := range n.Spec.PodCIDRs {
		p, err := netip.ParsePrefix(c)
		if err != nil {
			errs = append(errs, field.Invalid(at.Index(i), c, "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"))
			continue
		}
		if seen[c] {
			errs = append(errs, field.Duplicate(at.Index(i), c))
		}
		seen[c] = true
		if p.Addr().Is6() {
			v6++
		}
	}
	if len(errs) == 0 && len(n.Spec.PodCIDRs) > 1 && (len(n.Spec.PodCIDRs) > 2 || v6 != 1) {
		errs = append(errs, field.Invalid(at, n.Spec.PodCIDRs, "may specify no more than one CIDR for each IP family"))
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
		for _, msg := range validation.IsValidLabelValue(t.Value) {
			errs = append(errs, field.Invalid(at.Child("value"), t.Value, msg))
		}
		switch t.Effect {
		case corev1.TaintEffectNoSchedule, corev1.TaintEffectPreferNoSchedule, corev1.TaintEffectNoExecute:
		case "":
			errs = append(errs, field.Required(at.Child("effect"), ""))
		default:
			errs = append(errs, field.NotSupported(at.Child("effect"), t.Effect, []corev1.TaintEffect{corev1.TaintEffectNoExecute, corev1.TaintEffectNoSchedule, corev1.TaintEffectPreferNoSchedule}))
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

func validateNodeUpdate(ctx context.Context, n, old *corev1.Node) field.ErrorList {
	errs := validateNode(ctx, n)
	errs = append(errs, nodeStatus(&n.Status)...)
	addresses := map[corev1.NodeAddress]bool{}
	for i, a := range n.Status.Addresses {
		if addresses[a] {
			errs = append(errs, field.Duplicate(statusPath.Child("addresses").Index(i), a))
		}
		addresses[a] = true
	}
	if len(old.Spec.PodCIDRs) > 0 {
		same := len(old.Spec.PodCIDRs) == len(n.Spec.PodCIDRs)
		for i := 0; same && i < len(n.Spec.PodCIDRs); i++ {
			same = n.Spec.PodCIDRs[i] == old.Spec.PodCIDRs[i]
		}
		if !same {
			errs = append(errs, field.Forbidden(specPath.Child("podCIDRs"), "node updates may not change podCIDR except from \"\" to valid"))
		}
	}
	if old.Spec.ProviderID != "" && n.Spec.ProviderID != old.Spec.ProviderID {
		errs = append(errs, field.Forbidden(specPath.Child("providerID"), "node updates may not change providerID except from \"\" to valid"))
	}
	if c := n.Spec.ConfigSource; c != nil && c.ConfigMap == nil {
		errs = append(errs, field.Invalid(specPath.Child("configSource"), c, "exactly one reference subfield must be non-nil"))
	}
	return errs
}

// nodeStatus is what a kubelet says of its node beyond amounts. Its configuration
// of old is not looked at: nobody sets it any more.
func nodeStatus(s *corev1.NodeStatus) field.ErrorList {
	var errs field.ErrorList
	for i, f := range s.DeclaredFeatures {
		at := statusPath.Child("declaredFeatures").Index(i)
		if i > 0 && f <= s.DeclaredFeatures[i-1] {
			errs = append(errs, field.Invalid(at, f, "list must be sorted and have no duplicates"))
		}
		if f == "" {
			errs = append(errs, field.Required(at, ""))
		}
	}
	return errs
}
