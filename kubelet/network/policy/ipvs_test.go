package policy

import (
	"context"
	"net/netip"
	"testing"

	v1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apitypes "k8s.io/apimachinery/pkg/types"

	"skiff/proxy/ipvs"
	servicestate "skiff/proxy/state"
)

// TestIPVS sends packets to a pod by a Service's address, which IPVS leads past the
// hook that forwarded packets pass.
func TestIPVS(t *testing.T) {
	if err := ipvs.Available(); err != nil {
		t.Skip(err)
	}
	w := newWorld(t)
	services, err := ipvs.NewWriter(ipvs.Config{MasqueradeBit: 14, Local: servicestate.Local{Ranges: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/16")}}})
	if err != nil {
		t.Fatal(err)
	}
	name := apitypes.NamespacedName{Namespace: "a", Name: "web"}
	table := servicestate.NewTable()
	table.Set(name, []servicestate.Port{{
		Name: servicestate.PortName{NamespacedName: name, Protocol: v1.ProtocolTCP}, ClusterIP: netip.MustParseAddr("10.96.0.1"), Port: 80, HasAny: true,
		Cluster: []servicestate.Endpoint{{Addr: netip.MustParseAddrPort("10.0.1.2:8080"), Local: true, Ready: true}},
	}})
	if err := services.Sync(context.Background(), table, true); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name     string
		policies []*networkingv1.NetworkPolicy
		open     bool
	}{
		{name: "no policy", open: true},
		{name: "nothing is let in", policies: []*networkingv1.NetworkPolicy{makePolicy(func(*networkingv1.NetworkPolicySpec) {})}},
		{name: "the client is let in", policies: []*networkingv1.NetworkPolicy{makePolicy(func(s *networkingv1.NetworkPolicySpec) {
			s.Ingress = []networkingv1.NetworkPolicyIngressRule{{From: []networkingv1.NetworkPolicyPeer{{PodSelector: podsLike(map[string]string{"app": "client"})}}}}
		})}, open: true},
		{name: "the client may go nowhere", policies: []*networkingv1.NetworkPolicy{makePolicy(func(s *networkingv1.NetworkPolicySpec) {
			s.PodSelector = *podsLike(map[string]string{"app": "client"})
			s.PolicyTypes = []networkingv1.PolicyType{networkingv1.PolicyTypeEgress}
		})}},
		{name: "no policy again", open: true},
	} {
		w.apply(t, twoPods(tc.policies...))
		if err := w.open(t, "10.96.0.1:80"); (err == nil) != tc.open {
			t.Errorf("%s: %v, want open %v", tc.name, err, tc.open)
		}
	}
}
