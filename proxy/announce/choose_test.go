package announce

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

func node(name string, edit ...func(*v1.Node)) *v1.Node {
	n := &v1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{}}}
	n.Status.Conditions = []v1.NodeCondition{{Type: v1.NodeReady, Status: v1.ConditionTrue}}
	for _, f := range edit {
		f(n)
	}
	return n
}

func notReady(n *v1.Node) { n.Status.Conditions[0].Status = v1.ConditionUnknown }
func excluded(n *v1.Node) { n.Labels[v1.LabelNodeExcludeBalancers] = "" }

func balancer(name string, ips ...string) *v1.Service {
	s := &v1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: v1.ServiceSpec{Type: v1.ServiceTypeLoadBalancer}}
	for _, ip := range ips {
		s.Status.LoadBalancer.Ingress = append(s.Status.LoadBalancer.Ingress, v1.LoadBalancerIngress{IP: ip})
	}
	return s
}

func ours(ip netip.Addr) bool { return strings.HasPrefix(ip.String(), "10.1.0.") || ip.Is6() }

// owners are the nodes that come first.
func owners(w *world) map[netip.Addr]string {
	out := map[netip.Addr]string{}
	for ip, rank := range w.choose() {
		out[ip] = rank[0]
	}
	return out
}

func TestChoose(t *testing.T) {
	on := func(node string, ready bool) []*discovery.EndpointSlice {
		return []*discovery.EndpointSlice{{Endpoints: []discovery.Endpoint{{NodeName: &node, Conditions: discovery.EndpointConditions{Ready: &ready}}}}}
	}
	local := func(s *v1.Service) { s.Spec.ExternalTrafficPolicy = v1.ServiceExternalTrafficPolicyLocal }
	for _, tc := range []struct {
		name   string
		nodes  []*v1.Node
		edit   func(*v1.Service)
		slices []*discovery.EndpointSlice
		want   string // the node that has 10.1.0.77; empty is none
	}{
		{name: "the only node", nodes: []*v1.Node{node("n1")}, want: "n1"},
		{name: "a node that is not ready", nodes: []*v1.Node{node("n1", notReady), node("n2")}, want: "n2"},
		{name: "a node that is kept from balancers", nodes: []*v1.Node{node("n1", excluded), node("n2")}, want: "n2"},
		{name: "all are kept from balancers", nodes: []*v1.Node{node("n1", excluded)}, want: "n1"},
		{name: "a node that is about to go", nodes: []*v1.Node{node("n1", func(n *v1.Node) { n.Spec.Taints = []v1.Taint{{Key: taintToBeDeleted}} }), node("n2")}, want: "n2"},
		{name: "no node is ready", nodes: []*v1.Node{node("n1", notReady)}},
		{name: "the endpoints are on one", nodes: []*v1.Node{node("n1"), node("n2"), node("n3")}, edit: local, slices: on("n3", true), want: "n3"},
		{name: "the endpoint is not ready", nodes: []*v1.Node{node("n1"), node("n3")}, edit: local, slices: on("n3", false)},
		{name: "another cloud's address", nodes: []*v1.Node{node("n1")}, edit: func(s *v1.Service) { s.Status.LoadBalancer.Ingress[0].IP = "192.0.2.1" }},
		{name: "no address", nodes: []*v1.Node{node("n1")}, edit: func(s *v1.Service) {
			s.Status.LoadBalancer.Ingress[0].IP, s.Status.LoadBalancer.Ingress[0].Hostname = "", "lb"
		}},
		{name: "a proxy answers on it", nodes: []*v1.Node{node("n1")}, edit: func(s *v1.Service) { s.Status.LoadBalancer.Ingress[0].IPMode = ptr.To(v1.LoadBalancerIPModeProxy) }},
		{name: "not a balancer any more", nodes: []*v1.Node{node("n1")}, edit: func(s *v1.Service) { s.Spec.Type = v1.ServiceTypeClusterIP }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := balancer("web", "10.1.0.77")
			if tc.edit != nil {
				tc.edit(s)
			}
			w := world{nodes: tc.nodes, services: []*v1.Service{s}, ours: ours, slices: func(*v1.Service) []*discovery.EndpointSlice { return tc.slices }}
			want := map[netip.Addr]string{}
			if tc.want != "" {
				want[netip.MustParseAddr("10.1.0.77")] = tc.want
			}
			if diff := cmp.Diff(want, owners(&w), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestChooseSpreads has the addresses on all nodes, and those of a node that goes on
// the others, while theirs stay.
func TestChooseSpreads(t *testing.T) {
	var services []*v1.Service
	for i := range 60 {
		services = append(services, balancer(fmt.Sprint("s", i), fmt.Sprint("10.1.0.", i+10)))
	}
	w := world{nodes: []*v1.Node{node("n1"), node("n2"), node("n3")}, services: services, ours: ours}
	before := owners(&w)
	count := map[string]int{}
	for _, n := range before {
		count[n]++
	}
	for _, n := range w.nodes {
		if count[n.Name] < 10 {
			t.Errorf("node %s has %d of 60 addresses", n.Name, count[n.Name])
		}
	}
	notReady(w.nodes[1])
	for ip, n := range owners(&w) {
		if n == "n2" || before[ip] != "n2" && n != before[ip] {
			t.Errorf("%s went from %s to %s", ip, before[ip], n)
		}
	}
}

// TestRank has the one that comes next take over when the first has gone.
func TestRank(t *testing.T) {
	nodes := []string{"n1", "n2", "n3", "n4", "n5"}
	for i := range 20 {
		ip := netip.AddrFrom4([4]byte{10, 1, 0, byte(i)})
		before := rank(ip, nodes)
		if len(before) != ranked {
			t.Fatalf("%s has %v", ip, before)
		}
		left := slices.DeleteFunc(slices.Clone(nodes), func(n string) bool { return n == before[0] })
		if after := rank(ip, left); after[0] != before[1] || after[1] != before[2] {
			t.Errorf("%s has %v, and %v without the first", ip, before, after)
		}
	}
}
