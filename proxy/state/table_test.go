package state

import (
	"fmt"
	"slices"
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

// TestSince names what changed after a version, until that is too long ago.
func TestSince(t *testing.T) {
	table := NewTable()
	name := func(n int) types.NamespacedName {
		return types.NamespacedName{Namespace: "ns", Name: fmt.Sprintf("s%05d", n)}
	}
	set := func(n int, port uint16) {
		table.Set(name(n), []Port{{Name: PortName{NamespacedName: name(n)}, Port: port}})
	}
	set(2, 1)
	set(1, 1)
	before := table.Version()
	if names, ok := table.Since(before); !ok || len(names) != 0 {
		t.Errorf("nothing has changed: %v, %v", names, ok)
	}
	set(3, 1)
	set(1, 2)
	set(3, 2)
	table.Set(name(2), nil)
	table.Set(name(9), nil) // it was never there
	want := []types.NamespacedName{name(3), name(1), name(2)}
	if names, ok := table.Since(before); !ok || !slices.Equal(names, want) {
		t.Errorf("changed are %v, %v, want %v", names, ok, want)
	}
	order := func() (out []string) {
		table.Each(func(p *Port, _ uint64) { out = append(out, p.Name.Name) })
		return out
	}
	if got := order(); !slices.Equal(got, []string{"s00001", "s00003"}) {
		t.Errorf("the order is %v", got)
	}
	set(0, 1)
	set(2, 1)
	if got := order(); !slices.Equal(got, []string{"s00000", "s00001", "s00002", "s00003"}) {
		t.Errorf("the order after two more is %v", got)
	}
	if table.Of(name(2)) == nil || table.Of(name(9)) != nil {
		t.Error("Of does not tell who is there")
	}
	for n := range 3 * journaled {
		set(4, uint16(n%2))
	}
	if names, ok := table.Since(before); ok {
		t.Errorf("so long ago only %v changed", names)
	}
	if names, ok := table.Since(table.Version() - 5); !ok || !slices.Equal(names, []types.NamespacedName{name(4)}) {
		t.Errorf("lately changed %v, %v", names, ok)
	}
}
