package ipvs

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"skiff/proxy/state"
)

// testPort is a port of the Service default/web with an endpoint on this node and one
// on another.
func testPort(edit ...func(*state.Port)) *state.Port {
	p := &state.Port{
		Name:      state.PortName{NamespacedName: types.NamespacedName{Namespace: "default", Name: "web"}, Protocol: v1.ProtocolTCP},
		ClusterIP: netip.MustParseAddr("10.96.0.1"), Port: 80, HasAny: true,
		Cluster: []state.Endpoint{
			{Addr: netip.MustParseAddrPort("10.244.0.2:8080"), Local: true, Ready: true},
			{Addr: netip.MustParseAddrPort("10.244.1.2:8080"), Ready: true},
		},
	}
	p.Local = p.Cluster[:1]
	for _, f := range edit {
		f(p)
	}
	return p
}

// text is a server in one line.
func text(name serverName, s server) string {
	var ends []string
	for _, at := range slices.SortedFunc(maps.Keys(s.endpoints), netip.AddrPort.Compare) {
		ends = append(ends, fmt.Sprintf("%s=%d", at, s.endpoints[at]))
	}
	return fmt.Sprintf("%s %s %s %d: %s", name.protocol, name.at, s.scheduler, s.affinity, strings.Join(ends, " "))
}

func TestServers(t *testing.T) {
	own := netip.MustParseAddr("192.0.2.1")
	public := netip.MustParseAddr("203.0.113.9")
	nodePort := func(p *state.Port) { p.NodePort = 30080 }
	balanced := func(ip netip.Addr) func(*state.Port) {
		return func(p *state.Port) { p.LoadBalancerIPs = []netip.Addr{ip} }
	}
	external := func(p *state.Port) { p.ExternalLocal = true }
	const both, here = "10.244.0.2:8080=1 10.244.1.2:8080=1", "10.244.0.2:8080=1"
	for _, tc := range []struct {
		name      string
		port      *state.Port
		want      []string
		addresses string
		// sets are what the table has of each, by the address and port.
		sets map[string]string
	}{
		{name: "cluster IP", port: testPort(), want: []string{"TCP 10.96.0.1:80 lc 0: " + both}, addresses: "[10.96.0.1]",
			sets: map[string]string{setServed: "10.96.0.1:80", setInternal: "10.96.0.1:80"}},
		{name: "internal policy Local", port: testPort(func(p *state.Port) { p.InternalLocal = true }), want: []string{"TCP 10.96.0.1:80 lc 0: " + here}, addresses: "[10.96.0.1]",
			sets: map[string]string{setServed: "10.96.0.1:80", setInternal: "10.96.0.1:80"}},
		{name: "affinity", port: testPort(func(p *state.Port) { p.AffinitySeconds = 10800 }), want: []string{"TCP 10.96.0.1:80 lc 10800: " + both}, addresses: "[10.96.0.1]",
			sets: map[string]string{setServed: "10.96.0.1:80", setInternal: "10.96.0.1:80"}},
		{name: "node port", port: testPort(nodePort), want: []string{"TCP 10.96.0.1:80 lc 0: " + both, "TCP 192.0.2.1:30080 lc 0: " + both}, addresses: "[10.96.0.1]",
			sets: map[string]string{setServed: "10.96.0.1:80 192.0.2.1:30080", setInternal: "10.96.0.1:80", setExternal: "192.0.2.1:30080"}},
		{name: "load balancer", port: testPort(balanced(public)), want: []string{"TCP 10.96.0.1:80 lc 0: " + both, "TCP 203.0.113.9:80 lc 0: " + both}, addresses: "[10.96.0.1 203.0.113.9]",
			sets: map[string]string{setServed: "10.96.0.1:80 203.0.113.9:80", setInternal: "10.96.0.1:80", setExternal: "203.0.113.9:80"}},
		{name: "load balancer with the node's address", port: testPort(balanced(own)), want: []string{"TCP 10.96.0.1:80 lc 0: " + both, "TCP 192.0.2.1:80 lc 0: " + both}, addresses: "[10.96.0.1]",
			sets: map[string]string{setServed: "10.96.0.1:80 192.0.2.1:80", setInternal: "10.96.0.1:80", setExternal: "192.0.2.1:80"}},
		{name: "external policy Local", port: testPort(nodePort, external), want: []string{"TCP 10.96.0.1:80 lc 0: " + both, "TCP 192.0.2.1:30080 lc 0: " + here}, addresses: "[10.96.0.1]",
			sets: map[string]string{setServed: "10.96.0.1:80 192.0.2.1:30080", setInternal: "10.96.0.1:80", mapEverywhere: "192.0.2.1:30080"}},
		{name: "external policy Local, none here", port: testPort(nodePort, external, func(p *state.Port) { p.Local = nil }),
			want: []string{"TCP 10.96.0.1:80 lc 0: " + both, "TCP 192.0.2.1:30080 lc 0: "}, addresses: "[10.96.0.1]",
			sets: map[string]string{setServed: "10.96.0.1:80", setInternal: "10.96.0.1:80", mapEverywhere: "192.0.2.1:30080", mapRefused: "192.0.2.1:30080"}},
		{name: "no endpoints", port: testPort(func(p *state.Port) { p.Cluster, p.Local, p.HasAny = nil, nil, false }), want: []string{"TCP 10.96.0.1:80 lc 0: "}, addresses: "[10.96.0.1]",
			sets: map[string]string{mapRefused: "10.96.0.1:80"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := &Config{Options: Options{Scheduler: "lc"}}
			nodes := []netip.Addr{own}
			wish := c.servers(nodes, nodes, tc.port)
			var got []string
			for name, s := range wish.servers {
				got = append(got, text(name, s))
			}
			slices.Sort(got)
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
			if text := fmt.Sprint(wish.addresses); text != tc.addresses {
				t.Errorf("addresses %s, want %s", text, tc.addresses)
			}
			content := c.content(nodes, nodes, tc.port)
			sets := map[string]string{}
			for in, elements := range content.Elements {
				if in == setHairpin || in == setAddresses {
					continue
				}
				var keys []string
				for k := range elements {
					keys = append(keys, strings.ReplaceAll(k, " . tcp . ", ":"))
				}
				slices.Sort(keys)
				sets[in] = strings.Join(keys, " ")
			}
			if diff := cmp.Diff(tc.sets, sets); diff != "" {
				t.Error(diff)
			}
			if _, ok := content.Elements[setAddresses][own.String()]; ok {
				t.Error("all other ports of the node's own address are closed")
			}
		})
	}
}

func TestSteps(t *testing.T) {
	name := serverName{netip.MustParseAddrPort("10.96.0.1:80"), v1.ProtocolTCP}
	datagrams := serverName{name.at, v1.ProtocolUDP}
	ends := func(weights ...int) server {
		s := server{scheduler: "rr", endpoints: map[netip.AddrPort]int{}}
		for i, w := range weights {
			if w >= 0 {
				s.endpoints[netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 8080)] = w
			}
		}
		return s
	}
	sticky := ends(1)
	sticky.affinity = 10
	for _, tc := range []struct {
		name       string
		of         serverName
		have, want *server
		steps      []string
		// left is what the kernel has in the end, where that is not what is wanted.
		left string
	}{
		{name: "new", of: name, want: new(ends(1, 1)), steps: []string{"add server", "add 10.0.0.0:8080=1", "add 10.0.0.1:8080=1"}},
		{name: "the same", of: name, have: new(ends(1)), want: new(ends(1))},
		{name: "affinity", of: name, have: new(ends(1)), want: &sticky, steps: []string{"set server"}},
		{name: "one endpoint more", of: name, have: new(ends(1)), want: new(ends(1, 1)), steps: []string{"add 10.0.0.1:8080=1"}},
		{name: "one less keeps its connections", of: name, have: new(ends(1, 1)), want: new(ends(1)), steps: []string{"set 10.0.0.1:8080=0"},
			left: "TCP 10.96.0.1:80 rr 0: 10.0.0.0:8080=1 10.0.0.1:8080=0"},
		{name: "one that is ending", of: name, have: new(ends(1, 0)), want: new(ends(1)), left: "TCP 10.96.0.1:80 rr 0: 10.0.0.0:8080=1 10.0.0.1:8080=0"},
		{name: "one that comes back", of: name, have: new(ends(1, 0)), want: new(ends(1, 1)), steps: []string{"set 10.0.0.1:8080=1"}},
		{name: "one less of UDP goes", of: datagrams, have: new(ends(1, 1)), want: new(ends(1)), steps: []string{"remove 10.0.0.1:8080"}},
		{name: "gone", of: name, have: new(ends(1)), steps: []string{"remove server"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			of := func(s *server) map[serverName]server {
				if s == nil {
					return map[serverName]server{}
				}
				return map[serverName]server{tc.of: *s}
			}
			have := of(tc.have)
			var got []string
			for _, s := range steps(have, of(tc.want)) {
				got = append(got, map[deed]string{
					addServer: "add server", setServer: "set server", removeServer: "remove server",
					addEndpoint: fmt.Sprintf("add %s=%d", s.endpoint, s.weight), setEndpoint: fmt.Sprintf("set %s=%d", s.endpoint, s.weight),
					removeEndpoint: "remove " + s.endpoint.String(),
				}[s.do])
				took(have, s)
			}
			if diff := cmp.Diff(tc.steps, got); diff != "" {
				t.Error(diff)
			}
			want := tc.left
			if want == "" && tc.want != nil {
				want = text(tc.of, *tc.want)
			}
			left := ""
			if s, ok := have[tc.of]; ok {
				left = text(tc.of, s)
			}
			if left != want {
				t.Errorf("the kernel has %s, want %s", left, want)
			}
		})
	}
}
