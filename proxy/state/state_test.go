package state

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

func service(edit ...func(*v1.Service)) *v1.Service {
	s := &v1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "s"},
		Spec: v1.ServiceSpec{
			Type: v1.ServiceTypeClusterIP, ClusterIP: "10.96.0.1", ClusterIPs: []string{"10.96.0.1"},
			Ports: []v1.ServicePort{{Name: "http", Port: 80, Protocol: v1.ProtocolTCP}},
		},
	}
	for _, f := range edit {
		f(s)
	}
	return s
}

func nodePort(s *v1.Service) {
	s.Spec.Type = v1.ServiceTypeNodePort
	s.Spec.Ports[0].NodePort = 30080
}

func externalLocal(s *v1.Service) {
	s.Spec.ExternalTrafficPolicy = v1.ServiceExternalTrafficPolicyLocal
}

func internalLocal(s *v1.Service) {
	s.Spec.InternalTrafficPolicy = ptr.To(v1.ServiceInternalTrafficPolicyLocal)
}

func endpoint(ip, node string, edit ...func(*discovery.Endpoint)) discovery.Endpoint {
	e := discovery.Endpoint{Addresses: []string{ip}, NodeName: ptr.To(node)}
	for _, f := range edit {
		f(&e)
	}
	return e
}

// condition gives ready, serving and terminating.
func condition(ready, serving, terminating bool) func(*discovery.Endpoint) {
	return func(e *discovery.Endpoint) {
		e.Conditions = discovery.EndpointConditions{Ready: &ready, Serving: &serving, Terminating: &terminating}
	}
}

func hintZone(zone string) func(*discovery.Endpoint) {
	return func(e *discovery.Endpoint) {
		e.Hints = &discovery.EndpointHints{ForZones: []discovery.ForZone{{Name: zone}}}
	}
}

func hintNode(node string) func(*discovery.Endpoint) {
	return func(e *discovery.Endpoint) {
		e.Hints = &discovery.EndpointHints{ForNodes: []discovery.ForNode{{Name: node}}}
	}
}

func slice(eps ...discovery.Endpoint) *discovery.EndpointSlice {
	family := discovery.AddressTypeIPv4
	if len(eps) > 0 && strings.Contains(eps[0].Addresses[0], ":") {
		family = discovery.AddressTypeIPv6
	}
	return &discovery.EndpointSlice{
		AddressType: family, Endpoints: eps,
		Ports: []discovery.EndpointPort{{Name: ptr.To("http"), Port: ptr.To[int32](8080), Protocol: ptr.To(v1.ProtocolTCP)}},
	}
}

func addrs(eps []Endpoint) string {
	var out []string
	for _, e := range eps {
		out = append(out, e.Addr.Addr().String())
	}
	return strings.Join(out, " ")
}

// Covers: proxy.traffic-policy, proxy.terminating
func TestEndpointsOfPolicies(t *testing.T) {
	ending, down := condition(false, true, true), condition(false, false, false)
	for name, tc := range map[string]struct {
		service         *v1.Service
		endpoints       []discovery.Endpoint
		zone            string
		cluster, local  string
		hasAny          bool
		usesLocal       bool
		internalIsLocal bool
		localReady      int
	}{
		"ready ones": {
			service:   service(),
			endpoints: []discovery.Endpoint{endpoint("10.0.0.2", "n2"), endpoint("10.0.0.1", "n1"), endpoint("10.0.0.3", "n1", down)},
			cluster:   "10.0.0.1 10.0.0.2", local: "10.0.0.1", hasAny: true, localReady: 1,
		},
		"none": {service: service()},
		"only unready ones": {
			service: service(), endpoints: []discovery.Endpoint{endpoint("10.0.0.1", "n1", down)},
		},
		"those that end are the last resort": {
			service: service(), endpoints: []discovery.Endpoint{endpoint("10.0.0.1", "n1", ending), endpoint("10.0.0.2", "n2", ending), endpoint("10.0.0.3", "n2", condition(false, false, true))},
			cluster: "10.0.0.1 10.0.0.2", local: "10.0.0.1", hasAny: true,
		},
		"those that end give way to ready ones": {
			service: service(), endpoints: []discovery.Endpoint{endpoint("10.0.0.1", "n1", ending), endpoint("10.0.0.2", "n2")},
			cluster: "10.0.0.2", local: "10.0.0.1", hasAny: true,
		},
		"external policy Local": {
			service: service(nodePort, externalLocal), endpoints: []discovery.Endpoint{endpoint("10.0.0.2", "n2")},
			cluster: "10.0.0.2", hasAny: true, usesLocal: true,
		},
		"external policy Local without an external address": {
			service: service(externalLocal), endpoints: []discovery.Endpoint{endpoint("10.0.0.1", "n1")},
			cluster: "10.0.0.1", local: "10.0.0.1", hasAny: true, localReady: 1,
		},
		"internal policy Local": {
			service: service(internalLocal), endpoints: []discovery.Endpoint{endpoint("10.0.0.1", "n1"), endpoint("10.0.0.2", "n2")},
			cluster: "10.0.0.1 10.0.0.2", local: "10.0.0.1", hasAny: true, usesLocal: true, internalIsLocal: true, localReady: 1,
		},
		"hints of zones": {
			service: service(), zone: "a",
			endpoints: []discovery.Endpoint{endpoint("10.0.0.1", "n2", hintZone("a")), endpoint("10.0.0.2", "n3", hintZone("b"))},
			cluster:   "10.0.0.1", hasAny: true,
		},
		"hints of zones without one for this": {
			service: service(), zone: "c",
			endpoints: []discovery.Endpoint{endpoint("10.0.0.1", "n2", hintZone("a")), endpoint("10.0.0.2", "n3", hintZone("b"))},
			cluster:   "10.0.0.1 10.0.0.2", hasAny: true,
		},
		"hints that are not complete": {
			service: service(), zone: "a",
			endpoints: []discovery.Endpoint{endpoint("10.0.0.1", "n2", hintZone("a")), endpoint("10.0.0.2", "n3")},
			cluster:   "10.0.0.1 10.0.0.2", hasAny: true,
		},
		"hints on a node without a zone": {
			service:   service(),
			endpoints: []discovery.Endpoint{endpoint("10.0.0.1", "n2", hintZone("a"))},
			cluster:   "10.0.0.1", hasAny: true,
		},
		"hints of an unready endpoint do not count": {
			service: service(), zone: "a",
			endpoints: []discovery.Endpoint{endpoint("10.0.0.1", "n2", hintZone("a")), endpoint("10.0.0.2", "n3", down), endpoint("10.0.0.3", "n3", hintZone("b"))},
			cluster:   "10.0.0.1", hasAny: true,
		},
		"hints of those that end": {
			service: service(), zone: "a",
			endpoints: []discovery.Endpoint{endpoint("10.0.0.1", "n2", hintZone("a"), ending), endpoint("10.0.0.2", "n3", hintZone("b"), ending)},
			cluster:   "10.0.0.1 10.0.0.2", hasAny: true,
		},
		"hints of nodes": {
			service: service(), zone: "a",
			endpoints: []discovery.Endpoint{endpoint("10.0.0.1", "n1", hintNode("n1")), endpoint("10.0.0.2", "n2", hintNode("n2"))},
			cluster:   "10.0.0.1", local: "10.0.0.1", hasAny: true, localReady: 1,
		},
	} {
		t.Run(name, func(t *testing.T) {
			ports := Ports(tc.service, []*discovery.EndpointSlice{slice(tc.endpoints...)}, Node{Name: "n1", Zone: tc.zone})
			if len(ports) != 1 {
				t.Fatalf("%d ports, want 1", len(ports))
			}
			p := ports[0]
			internal := tc.cluster
			if tc.internalIsLocal {
				internal = tc.local
			}
			want := []any{tc.cluster, tc.local, internal, tc.hasAny, tc.usesLocal, tc.localReady}
			got := []any{addrs(p.Cluster), addrs(p.Local), addrs(p.Internal()), p.HasAny, p.UsesLocal(), p.LocalReady}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("cluster, local, internal, any, uses local, local ready (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDuplicateEndpoints(t *testing.T) {
	ports := Ports(service(), []*discovery.EndpointSlice{
		slice(endpoint("10.0.0.1", "n1", condition(false, true, true))), slice(endpoint("10.0.0.1", "n1")),
	}, Node{Name: "n1"})
	if got := ports[0].Cluster; len(got) != 1 || !got[0].Ready {
		t.Errorf("an address in two slices: %+v, want one ready endpoint", got)
	}
}

func TestAddresses(t *testing.T) {
	balanced := func(s *v1.Service) {
		nodePort(s)
		externalLocal(s)
		s.Spec.Type, s.Spec.HealthCheckNodePort = v1.ServiceTypeLoadBalancer, 31000
		s.Spec.ClusterIPs = []string{"10.96.0.1", "fd00::1"}
		s.Spec.ExternalIPs = []string{"192.0.2.1", "2001:db8::1"}
		s.Spec.LoadBalancerSourceRanges = []string{" 10.0.0.7/8", "2001:db8::/32"}
		s.Status.LoadBalancer.Ingress = []v1.LoadBalancerIngress{
			{IP: "203.0.113.1"}, {IP: "2001:db8::2"}, {Hostname: "lb.example.com"},
			{IP: "203.0.113.2", IPMode: ptr.To(v1.LoadBalancerIPModeProxy)}, {IP: "203.0.113.3", IPMode: ptr.To(v1.LoadBalancerIPModeVIP)},
		}
	}
	sticky := func(seconds *int32) func(*v1.Service) {
		return func(s *v1.Service) {
			s.Spec.SessionAffinity = v1.ServiceAffinityClientIP
			if seconds != nil {
				s.Spec.SessionAffinityConfig = &v1.SessionAffinityConfig{ClientIP: &v1.ClientIPConfig{TimeoutSeconds: seconds}}
			}
		}
	}
	for name, tc := range map[string]struct {
		service *v1.Service
		v6      bool
		want    string
	}{
		"IPv4 of two": {service: service(balanced), want: "10.96.0.1:80 node 30080 external [192.0.2.1] lb [203.0.113.1 203.0.113.3] from [10.0.0.0/8] health 31000 affinity 0"},
		"IPv6 of two": {service: service(balanced), v6: true, want: "[fd00::1]:80 node 30080 external [2001:db8::1] lb [2001:db8::2] from [2001:db8::/32] health 31000 affinity 0"},
		"other family": {
			service: service(), v6: true,
		},
		"affinity":            {service: service(sticky(nil)), want: "10.96.0.1:80 node 0 external [] lb [] from [] health 0 affinity 10800"},
		"affinity for a time": {service: service(sticky(ptr.To[int32](7))), want: "10.96.0.1:80 node 0 external [] lb [] from [] health 0 affinity 7"},
		"headless":            {service: service(func(s *v1.Service) { s.Spec.ClusterIP, s.Spec.ClusterIPs = "None", []string{"None"} })},
		"external name":       {service: service(func(s *v1.Service) { s.Spec.Type = v1.ServiceTypeExternalName })},
		"of another proxy":    {service: service(func(s *v1.Service) { s.Labels = map[string]string{proxyNameLabel: "mine"} })},
	} {
		t.Run(name, func(t *testing.T) {
			got := ""
			for _, p := range Ports(tc.service, nil, Node{IPv6: tc.v6}) {
				got += fmt.Sprintf("%s node %d external %v lb %v from %v health %d affinity %d", netip.AddrPortFrom(p.ClusterIP, p.Port), p.NodePort, p.ExternalIP, p.LoadBalancerIPs, p.SourceRanges, p.HealthCheckNodePort, p.AffinitySeconds)
			}
			if got != tc.want {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
		})
	}
}

func TestDualStackEndpoints(t *testing.T) {
	s := service(func(s *v1.Service) { s.Spec.ClusterIPs = []string{"10.96.0.1", "fd00::1"} })
	both := []*discovery.EndpointSlice{slice(endpoint("10.0.0.1", "n1")), slice(endpoint("fd01::1", "n1"))}
	for v6, want := range map[bool]string{false: "10.0.0.1", true: "fd01::1"} {
		if got := addrs(Ports(s, both, Node{Name: "n1", IPv6: v6})[0].Cluster); got != want {
			t.Errorf("IPv6 %v: endpoints %s, want %s", v6, got, want)
		}
	}
}
