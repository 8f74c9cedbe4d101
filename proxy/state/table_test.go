package state

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
)

func udpPorts(ips ...string) []Port {
	s := service(func(s *v1.Service) { s.Spec.Ports[0].Protocol = v1.ProtocolUDP })
	sl := slice()
	sl.Ports[0].Protocol = ptr.To(v1.ProtocolUDP)
	for _, ip := range ips {
		sl.Endpoints = append(sl.Endpoints, endpoint(ip, "n2"))
	}
	return Ports(s, []*discovery.EndpointSlice{sl}, Node{Name: "n1"})
}

func TestStaleFlows(t *testing.T) {
	tcp := Ports(service(), []*discovery.EndpointSlice{slice(endpoint("10.0.0.1", "n1"))}, Node{Name: "n1"})
	for name, tc := range map[string]struct {
		before, after []Port
		want          []string
	}{
		"first endpoint":        {before: udpPorts(), after: udpPorts("10.0.0.1"), want: []string{"ns/s:http to none"}},
		"new service":           {after: udpPorts("10.0.0.1"), want: []string{"ns/s:http to none"}},
		"new without endpoints": {after: udpPorts()},
		"second endpoint":       {before: udpPorts("10.0.0.1"), after: udpPorts("10.0.0.1", "10.0.0.2")},
		"endpoint gone":         {before: udpPorts("10.0.0.1", "10.0.0.2"), after: udpPorts("10.0.0.2"), want: []string{"ns/s:http to 10.0.0.1:8080"}},
		"service gone":          {before: udpPorts("10.0.0.1"), want: []string{"ns/s:http to 10.0.0.1:8080"}},
		"TCP ends by itself":    {before: tcp},
	} {
		t.Run(name, func(t *testing.T) {
			table := NewTable()
			key := types.NamespacedName{Namespace: "ns", Name: "s"}
			table.Set(key, tc.before)
			stale, _ := table.Set(key, tc.after)
			var got []string
			for _, f := range stale {
				to := "none"
				if f.Endpoint.Addr.IsValid() {
					to = f.Endpoint.Addr.String()
				}
				got = append(got, fmt.Sprintf("%s to %s", f.Port.Name, to))
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("stale flows (-want +got):\n%s", diff)
			}
		})
	}
}

func TestTableCountsChanges(t *testing.T) {
	table := NewTable()
	versions := func() map[string]uint64 {
		out := map[string]uint64{}
		table.Each(func(p *Port, version uint64) { out[p.Name.Name] = version })
		return out
	}
	a, b := types.NamespacedName{Namespace: "ns", Name: "a"}, types.NamespacedName{Namespace: "ns", Name: "b"}
	named := func(n string, ports []Port) []Port {
		for i := range ports {
			ports[i].Name.Name = n
		}
		return ports
	}
	set := func(n types.NamespacedName, ports []Port, want bool) {
		t.Helper()
		if _, changed := table.Set(n, ports); changed != want {
			t.Errorf("%s: changed %v, want %v", n, changed, want)
		}
	}
	set(a, named("a", udpPorts("10.0.0.1")), true)
	set(b, named("b", udpPorts("10.0.0.1")), true)
	set(a, named("a", udpPorts("10.0.0.1")), false)
	set(b, named("b", udpPorts("10.0.0.2")), true)
	if diff := cmp.Diff(map[string]uint64{"a": 1, "b": 3}, versions()); diff != "" {
		t.Errorf("versions (-want +got):\n%s", diff)
	}
	set(a, nil, true)
	set(a, nil, false)
	if table.Len() != 1 {
		t.Errorf("%d services, want 1", table.Len())
	}
}
