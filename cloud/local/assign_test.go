package local

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

func node(name string, addrs ...string) *v1.Node {
	n := &v1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
	for _, a := range addrs {
		kind := v1.NodeInternalIP
		if out, ok := strings.CutPrefix(a, "+"); ok {
			kind, a = v1.NodeExternalIP, out
		}
		n.Status.Addresses = append(n.Status.Addresses, v1.NodeAddress{Type: kind, Address: a})
	}
	return n
}

func service(name string, port int32, edit ...func(*v1.Service)) *v1.Service {
	s := &v1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name},
		Spec: v1.ServiceSpec{
			Type: v1.ServiceTypeLoadBalancer, ClusterIP: "10.96.0.1", IPFamilies: []v1.IPFamily{v1.IPv4Protocol},
			Ports: []v1.ServicePort{{Port: port, Protocol: v1.ProtocolTCP}},
		},
	}
	for _, f := range edit {
		f(s)
	}
	return s
}

func with(ips ...string) func(*v1.Service) {
	return func(s *v1.Service) {
		for _, ip := range ips {
			s.Status.LoadBalancer.Ingress = append(s.Status.LoadBalancer.Ingress, v1.LoadBalancerIngress{IP: ip})
		}
	}
}

func wanted(ip string) func(*v1.Service) { return func(s *v1.Service) { s.Spec.LoadBalancerIP = ip } }

func dual(policy v1.IPFamilyPolicy) func(*v1.Service) {
	return func(s *v1.Service) {
		s.Spec.IPFamilies = []v1.IPFamily{v1.IPv4Protocol, v1.IPv6Protocol}
		s.Spec.IPFamilyPolicy = ptr.To(policy)
	}
}

func pool(t *testing.T, texts ...string) []Range {
	t.Helper()
	var out []Range
	for _, text := range texts {
		r, err := ParseRange(text)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, r)
	}
	return out
}

func claims(services ...*v1.Service) []claim {
	var out []claim
	for _, s := range services {
		out = append(out, claimOf(s))
	}
	return out
}

func join(addrs []netip.Addr) string {
	var out []string
	for _, a := range addrs {
		out = append(out, a.String())
	}
	return strings.Join(out, " ")
}

func check(t *testing.T, got []netip.Addr, err error, want, fault string) {
	t.Helper()
	if diff := cmp.Diff(want, join(got)); diff != "" {
		t.Errorf("addresses (-want +got):\n%s", diff)
	}
	if fault == "" && err != nil || fault != "" && (err == nil || !strings.Contains(err.Error(), fault)) {
		t.Errorf("error %v, want %q", err, fault)
	}
}

func TestFromPool(t *testing.T) {
	for name, tc := range map[string]struct {
		service *v1.Service
		others  []*v1.Service
		pool    []string
		want    string
		fault   string
	}{
		"first free":            {service: service("a", 80), pool: []string{"192.0.2.1-192.0.2.3"}, want: "192.0.2.1"},
		"after those in use":    {service: service("a", 80), others: []*v1.Service{service("b", 443, with("192.0.2.1"))}, pool: []string{"192.0.2.1-192.0.2.3"}, want: "192.0.2.2"},
		"keeps its own":         {service: service("a", 80, with("192.0.2.3")), pool: []string{"192.0.2.1-192.0.2.3"}, want: "192.0.2.3"},
		"its own left the pool": {service: service("a", 80, with("192.0.2.9")), pool: []string{"192.0.2.1-192.0.2.3"}, want: "192.0.2.1"},
		"full":                  {service: service("a", 80), others: []*v1.Service{service("b", 80, with("192.0.2.1"))}, pool: []string{"192.0.2.1"}, fault: "no free IPv4 address"},
		"second range":          {service: service("a", 80), others: []*v1.Service{service("b", 80, with("192.0.2.1"))}, pool: []string{"192.0.2.1", "198.51.100.0/30"}, want: "198.51.100.1"},
		"asked for":             {service: service("a", 80, wanted("192.0.2.2"), with("192.0.2.1")), pool: []string{"192.0.2.0/28"}, want: "192.0.2.2"},
		"asked for and in use":  {service: service("a", 80, wanted("192.0.2.2")), others: []*v1.Service{service("b", 80, with("192.0.2.2"))}, pool: []string{"192.0.2.0/28"}, fault: "used by Service ns/b"},
		"asked for outside":     {service: service("a", 80, wanted("203.0.113.1")), pool: []string{"192.0.2.0/28"}, fault: "not in the address pool"},
		"both families":         {service: service("a", 80, dual(v1.IPFamilyPolicyPreferDualStack)), pool: []string{"192.0.2.1", "2001:db8::1"}, want: "192.0.2.1 2001:db8::1"},
		"one of two":            {service: service("a", 80, dual(v1.IPFamilyPolicyPreferDualStack)), pool: []string{"2001:db8::1"}, want: "2001:db8::1"},
		"two are required":      {service: service("a", 80, dual(v1.IPFamilyPolicyRequireDualStack)), pool: []string{"2001:db8::1"}, fault: "no free IPv4 address"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := fromPool(newRequest(tc.service), claims(tc.others...), pool(t, tc.pool...))
			check(t, got, err, tc.want, tc.fault)
		})
	}
}

func TestFromNodes(t *testing.T) {
	two := []*v1.Node{node("b", "10.0.0.2"), node("a", "10.0.0.1", "fd00::1")}
	for name, tc := range map[string]struct {
		service *v1.Service
		others  []*v1.Service
		nodes   []*v1.Node
		want    string
		fault   string
	}{
		"all nodes":                {service: service("s", 80), nodes: two, want: "10.0.0.1 10.0.0.2"},
		"external first":           {service: service("s", 80), nodes: []*v1.Node{node("a", "10.0.0.1", "+198.51.100.1"), node("b", "10.0.0.2")}, want: "198.51.100.1 10.0.0.2"},
		"other ports share":        {service: service("s", 80), others: []*v1.Service{service("o", 443, with("10.0.0.1", "10.0.0.2"))}, nodes: two, want: "10.0.0.1 10.0.0.2"},
		"other protocols share":    {service: service("s", 80, func(s *v1.Service) { s.Spec.Ports[0].Protocol = v1.ProtocolUDP }), others: []*v1.Service{service("o", 80, with("10.0.0.1"))}, nodes: two, want: "10.0.0.1 10.0.0.2"},
		"port in use":              {service: service("s", 80), others: []*v1.Service{service("o", 80, with("10.0.0.1"))}, nodes: two, fault: "port 80/TCP of the nodes is used by the load balancer of Service ns/o"},
		"port of one without any":  {service: service("s", 80), others: []*v1.Service{service("o", 80)}, nodes: two, want: "10.0.0.1 10.0.0.2"},
		"reserved port":            {service: service("s", 6443), nodes: two, fault: "port 6443/TCP is reserved"},
		"asked for":                {service: service("s", 80, wanted("10.0.0.2")), nodes: two, want: "10.0.0.2"},
		"asked for and no node's":  {service: service("s", 80, wanted("10.0.0.9")), nodes: two, fault: "no node's address"},
		"no addresses yet":         {service: service("s", 80), nodes: []*v1.Node{node("a")}, fault: "no node has an IPv4 address"},
		"both families":            {service: service("s", 80, dual(v1.IPFamilyPolicyPreferDualStack)), nodes: two, want: "10.0.0.1 10.0.0.2 fd00::1"},
		"a family that nobody has": {service: service("s", 80, dual(v1.IPFamilyPolicyRequireDualStack)), nodes: two[:1], fault: "no node has an IPv6 address"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := fromNodes(newRequest(tc.service), claims(tc.others...), tc.nodes, reserved())
			check(t, got, err, tc.want, tc.fault)
		})
	}
}

func TestParseRange(t *testing.T) {
	for name, tc := range map[string]struct{ text, want, fault string }{
		"range":       {text: "192.0.2.1 - 192.0.2.9", want: "192.0.2.1-192.0.2.9"},
		"network":     {text: "192.0.2.17/28", want: "192.0.2.17-192.0.2.30"},
		"pair":        {text: "192.0.2.16/31", want: "192.0.2.16-192.0.2.17"},
		"IPv6":        {text: "2001:db8::/126", want: "2001:db8::-2001:db8::3"},
		"one":         {text: "192.0.2.1", want: "192.0.2.1-192.0.2.1"},
		"backwards":   {text: "192.0.2.9-192.0.2.1", fault: "a later last address"},
		"mixed":       {text: "192.0.2.9-2001:db8::1", fault: "of one family"},
		"no address":  {text: "here", fault: "want FIRST-LAST"},
		"bad network": {text: "192.0.2.0/40", fault: "want FIRST-LAST"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ParseRange(tc.text)
			if tc.fault != "" {
				if err == nil || !strings.Contains(err.Error(), tc.fault) {
					t.Errorf("error %v, want %q", err, tc.fault)
				}
			} else if err != nil || got.String() != tc.want {
				t.Errorf("%s (%v), want %s", got, err, tc.want)
			}
		})
	}
}

func TestInstanceMetadata(t *testing.T) {
	p := New(nil, Config{Region: "r", Zone: "z", Zones: map[string]string{"b": "zb"}})
	waiting := node("a")
	waiting.Annotations = map[string]string{"alpha.kubernetes.io/provided-node-ip": "10.0.0.1, fd00::1"}
	placed := node("b", "10.0.0.2")
	placed.Labels = map[string]string{v1.LabelTopologyZone: "own"}
	for name, tc := range map[string]struct {
		node  *v1.Node
		want  string
		addrs int
	}{
		"waits for its cloud":  {waiting, "local://a z r", 3},
		"zone of the node":     {node("b", "10.0.0.2"), "local://b zb r", 1},
		"zone of its labels":   {placed, "local://b own r", 1},
		"says no address":      {node("c"), "local://c z r", 0},
		"has another provider": {&v1.Node{Spec: v1.NodeSpec{ProviderID: "x://1"}}, "x://1 z r", 0},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := p.InstanceMetadata(t.Context(), tc.node)
			if err != nil {
				t.Fatal(err)
			}
			if got := m.ProviderID + " " + m.Zone + " " + m.Region; got != tc.want || len(m.NodeAddresses) != tc.addrs {
				t.Errorf("%s with %v, want %s with %d addresses", got, m.NodeAddresses, tc.want, tc.addrs)
			}
		})
	}
}
