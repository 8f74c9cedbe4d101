package serviceip

import (
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"
)

// families settles which families a Service has addresses of, and by which policy. A
// Service never gains or loses a family but by its policy.
func (a *Allocator) families(svc, old *corev1.Service) field.ErrorList {
	s, at := &svc.Spec, field.NewPath("spec")
	if old != nil && unchangedPreference(&old.Spec, s) {
		return nil
	}
	headless := s.ClusterIP == corev1.ClusterIPNone
	if s.IPFamilyPolicy == nil {
		s.IPFamilyPolicy = ptr.To(corev1.IPFamilyPolicySingleStack)
		if headless && len(s.Selector) == 0 {
			s.IPFamilyPolicy = ptr.To(corev1.IPFamilyPolicyRequireDualStack)
		}
	}
	single := *s.IPFamilyPolicy == corev1.IPFamilyPolicySingleStack
	var errs field.ErrorList
	if old != nil {
		errs = released(s, &old.Spec, single, at)
	}
	if single && len(s.ClusterIPs) == 2 {
		errs = append(errs, field.Invalid(at.Child("ipFamilyPolicy"), s.IPFamilyPolicy, "must be 'RequireDualStack' or 'PreferDualStack' when multiple cluster IPs are specified"))
	}
	if single && len(s.IPFamilies) == 2 {
		errs = append(errs, field.Invalid(at.Child("ipFamilyPolicy"), s.IPFamilyPolicy, "must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified"))
	}
	have := a.configured()
	for i, ip := range s.ClusterIPs {
		addr, err := netip.ParseAddr(ip)
		if err != nil || i < len(s.IPFamilies) {
			continue // none, or validation says what is wrong with it
		}
		f := familyOf(addr)
		if !slices.Contains(have, f) {
			errs = append(errs, field.Invalid(at.Child("clusterIPs").Index(i), s.ClusterIPs, fmt.Sprintf("%s is not configured on this cluster", f)))
			continue
		}
		s.IPFamilies = append(s.IPFamilies, f)
	}
	both := []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}
	for i, f := range s.IPFamilies {
		if !slices.Contains(both, f) {
			errs = append(errs, field.NotSupported(at.Child("ipFamilies").Index(i), f, both))
		}
	}
	if len(errs) > 0 {
		return errs
	}
	if headless && len(s.Selector) == 0 {
		// Whoever writes its endpoints decides, and the cluster need not have them.
		have = []corev1.IPFamily{have[0], other(have[0])}
	}
	if *s.IPFamilyPolicy == corev1.IPFamilyPolicyRequireDualStack && len(have) < 2 {
		errs = append(errs, field.Invalid(at.Child("ipFamilyPolicy"), s.IPFamilyPolicy, "this cluster is not configured for dual-stack services"))
	}
	for i, f := range s.IPFamilies {
		if !slices.Contains(have, f) {
			errs = append(errs, field.Invalid(at.Child("ipFamilies").Index(i), f, "not configured on this cluster"))
		}
	}
	if len(errs) > 0 {
		return errs
	}
	if len(s.IPFamilies) == 0 {
		s.IPFamilies = have[:1:1]
	}
	if !single && len(s.IPFamilies) == 1 && len(have) == 2 {
		s.IPFamilies = append(slices.Clip(s.IPFamilies), other(s.IPFamilies[0]))
	}
	return nil
}

// configured are the cluster's families, the primary first.
func (a *Allocator) configured() []corev1.IPFamily {
	var out []corev1.IPFamily
	for _, p := range a.cfg.CIDRs {
		out = append(out, familyOf(p.Addr()))
	}
	return out
}

func other(f corev1.IPFamily) corev1.IPFamily {
	if f == corev1.IPv4Protocol {
		return corev1.IPv6Protocol
	}
	return corev1.IPv4Protocol
}

// unchangedPreference tells that a Service keeps both its preference for two families
// and what it has: it stays as it is when the cluster gains or loses a family.
func unchangedPreference(old, s *corev1.ServiceSpec) bool {
	const prefer = corev1.IPFamilyPolicyPreferDualStack
	return ptr.Deref(old.IPFamilyPolicy, "") == prefer && ptr.Deref(s.IPFamilyPolicy, "") == prefer &&
		slices.Equal(old.IPFamilies, s.IPFamilies) && slices.Equal(old.ClusterIPs, s.ClusterIPs)
}

// released gives up the second family where the policy says so, and refuses that
// where it does not.
func released(s, old *corev1.ServiceSpec, single bool, at *field.Path) field.ErrorList {
	if single {
		if len(s.ClusterIPs) > 1 && slices.Equal(s.ClusterIPs, old.ClusterIPs) {
			s.ClusterIPs = s.ClusterIPs[:1]
		}
		if len(s.IPFamilies) > 1 && slices.Equal(s.IPFamilies, old.IPFamilies) {
			s.IPFamilies = s.IPFamilies[:1]
		}
		return nil
	}
	var errs field.ErrorList
	if n := len(s.ClusterIPs); n > 0 && n < len(old.ClusterIPs) {
		errs = append(errs, field.Invalid(at.Child("ipFamilyPolicy"), s.IPFamilyPolicy, "must be 'SingleStack' to release the secondary cluster IP"))
	}
	if n := len(s.IPFamilies); n > 0 && n < len(old.IPFamilies) {
		errs = append(errs, field.Invalid(at.Child("ipFamilyPolicy"), s.IPFamilyPolicy, "must be 'SingleStack' to release the secondary IP family"))
	}
	return errs
}
