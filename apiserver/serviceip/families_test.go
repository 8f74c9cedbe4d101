package serviceip

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

// TestFamilies: who says how many families, and of which, gets these or is told why not.
//
// Covers: api.service-ips
func TestFamilies(t *testing.T) {
	const (
		v4, v6  = corev1.IPv4Protocol, corev1.IPv6Protocol
		single  = corev1.IPFamilyPolicySingleStack
		prefer  = corev1.IPFamilyPolicyPreferDualStack
		require = corev1.IPFamilyPolicyRequireDualStack
	)
	selector := map[string]string{"a": "b"}
	spec := func(policy corev1.IPFamilyPolicy, families []corev1.IPFamily, ips ...string) *corev1.ServiceSpec {
		s := &corev1.ServiceSpec{Selector: selector, IPFamilies: families, ClusterIPs: ips}
		if policy != "" {
			s.IPFamilyPolicy = &policy
		}
		if len(ips) > 0 {
			s.ClusterIP = ips[0]
		}
		return s
	}
	headless := func(policy corev1.IPFamilyPolicy, families ...corev1.IPFamily) *corev1.ServiceSpec {
		s := spec(policy, families, corev1.ClusterIPNone)
		s.Selector = nil
		return s
	}
	one, two := []string{"10.96.0.0/16"}, []string{"10.96.0.0/16", "fd00::/112"}
	for name, tc := range map[string]struct {
		cidrs    []string
		old, svc *corev1.ServiceSpec
		policy   corev1.IPFamilyPolicy
		families []corev1.IPFamily
		err      string
	}{
		"default":                      {cidrs: two, svc: spec("", nil), policy: single, families: []corev1.IPFamily{v4}},
		"preferred on one":             {cidrs: one, svc: spec(prefer, nil), policy: prefer, families: []corev1.IPFamily{v4}},
		"preferred on two":             {cidrs: two, svc: spec(prefer, nil), policy: prefer, families: []corev1.IPFamily{v4, v6}},
		"the other one first":          {cidrs: two, svc: spec(prefer, []corev1.IPFamily{v6}), policy: prefer, families: []corev1.IPFamily{v6, v4}},
		"by the address":               {cidrs: two, svc: spec("", nil, "fd00::5"), policy: single, families: []corev1.IPFamily{v6}},
		"required on one":              {cidrs: one, svc: spec(require, nil), err: `spec.ipFamilyPolicy: Invalid value: "RequireDualStack": this cluster is not configured for dual-stack services`},
		"not configured":               {cidrs: one, svc: spec(prefer, []corev1.IPFamily{v4, v6}), err: `spec.ipFamilies[1]: Invalid value: "IPv6": not configured on this cluster`},
		"address not configured":       {cidrs: one, svc: spec("", nil, "fd00::5"), err: `spec.clusterIPs[0]: Invalid value: ["fd00::5"]: IPv6 is not configured on this cluster`},
		"two, without the policy":      {cidrs: two, svc: spec("", []corev1.IPFamily{v4, v6}), err: `spec.ipFamilyPolicy: Invalid value: "SingleStack": must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified`},
		"unknown":                      {cidrs: two, svc: spec("", []corev1.IPFamily{"IPv5"}), err: `spec.ipFamilies[0]: Unsupported value: "IPv5": supported values: "IPv4", "IPv6"`},
		"no selector, headless":        {cidrs: one, svc: headless(""), policy: require, families: []corev1.IPFamily{v4, v6}},
		"no selector, headless, one":   {cidrs: one, svc: headless(single, v6), policy: single, families: []corev1.IPFamily{v6}},
		"given up":                     {cidrs: two, old: spec(require, []corev1.IPFamily{v4, v6}, "10.96.0.5", "fd00::5"), svc: spec(single, []corev1.IPFamily{v4, v6}, "10.96.0.5", "fd00::5"), policy: single, families: []corev1.IPFamily{v4}},
		"given up against the policy":  {cidrs: two, old: spec(require, []corev1.IPFamily{v4, v6}, "10.96.0.5", "fd00::5"), svc: spec(require, []corev1.IPFamily{v4, v6}, "10.96.0.5"), err: `spec.ipFamilyPolicy: Invalid value: "RequireDualStack": must be 'SingleStack' to release the secondary cluster IP`},
		"a preference is not upgraded": {cidrs: two, old: spec(prefer, []corev1.IPFamily{v4}, "10.96.0.5"), svc: spec(prefer, []corev1.IPFamily{v4}, "10.96.0.5"), policy: prefer, families: []corev1.IPFamily{v4}},
	} {
		t.Run(name, func(t *testing.T) {
			a := &Allocator{}
			for _, c := range tc.cidrs {
				a.cfg.CIDRs = append(a.cfg.CIDRs, netip.MustParsePrefix(c))
			}
			svc := &corev1.Service{Spec: *tc.svc}
			var old *corev1.Service
			if tc.old != nil {
				old = &corev1.Service{Spec: *tc.old}
			}
			got := ""
			if err := a.families(svc, old).ToAggregate(); err != nil {
				got = err.Error()
			}
			if got != tc.err {
				t.Fatalf("error %s, want %s", got, tc.err)
			}
			if tc.err != "" {
				return
			}
			if d := cmp.Diff([]any{tc.policy, tc.families}, []any{ptr.Deref(svc.Spec.IPFamilyPolicy, ""), svc.Spec.IPFamilies}); d != "" {
				t.Errorf("policy and families (-want +got):\n%s", d)
			}
			if n := len(svc.Spec.ClusterIPs); n > len(svc.Spec.IPFamilies) {
				t.Errorf("%d addresses of %d families", n, len(svc.Spec.IPFamilies))
			}
		})
	}
}
