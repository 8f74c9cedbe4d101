package nftables

import (
	"context"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/knftables"

	"skiff/proxy/state"
)

func port(name, ip string, edit ...func(*state.Port)) state.Port {
	ep := func(text string, local bool) state.Endpoint {
		return state.Endpoint{Addr: netip.MustParseAddrPort(text), Local: local, Ready: true, Serving: true}
	}
	p := state.Port{
		Name:      state.PortName{NamespacedName: types.NamespacedName{Namespace: "ns", Name: name}, Port: "http", Protocol: v1.ProtocolTCP},
		ClusterIP: netip.MustParseAddr(ip), Port: 80, HasAny: true,
		Cluster: []state.Endpoint{ep("10.0.0.1:8080", true), ep("10.0.1.1:8080", false)}, Local: []state.Endpoint{ep("10.0.0.1:8080", true)},
	}
	for _, f := range edit {
		f(&p)
	}
	return p
}

func TestRules(t *testing.T) {
	c := &Config{Local: state.Local{Ranges: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}, MasqueradeBit: 14}
	for name, tc := range map[string]struct {
		edit func(*state.Port)
		// want are map elements by key; chains by their kind.
		want map[string]map[string]string
	}{
		"cluster IP": {
			edit: func(*state.Port) {},
			want: map[string]map[string]string{setClusterIPs: {"10.96.0.1": ""}, mapServices: {"10.96.0.1 . tcp . 80": "goto pick-2"},
				"endpoint-0": {"10.96.0.1 . tcp . 80": "10.0.0.1 . 8080"}, "endpoint-1": {"10.96.0.1 . tcp . 80": "10.0.1.1 . 8080"}},
		},
		"node port": {
			edit: func(p *state.Port) { p.NodePort, p.Cluster = 30080, p.Cluster[:1] },
			want: map[string]map[string]string{setClusterIPs: {"10.96.0.1": ""}, mapServices: {"10.96.0.1 . tcp . 80": "goto pick-1"},
				mapNodePorts: {"tcp . 30080": "external"}, "endpoint-0": {"10.96.0.1 . tcp . 80": "10.0.0.1 . 8080"},
				"nodeport-endpoint-0": {"tcp . 30080": "10.0.0.1 . 8080"}},
		},
		"affinity": {
			edit: func(p *state.Port) { p.AffinitySeconds = 10 },
			want: map[string]map[string]string{setClusterIPs: {"10.96.0.1": ""}, mapServices: {"10.96.0.1 . tcp . 80": "service"}},
		},
		"more endpoints than maps": {
			edit: func(p *state.Port) {
				for i := range endpointMaps {
					p.Cluster = append(p.Cluster, state.Endpoint{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 2, byte(i)}), 8080)})
				}
			},
			want: map[string]map[string]string{setClusterIPs: {"10.96.0.1": ""}, mapServices: {"10.96.0.1 . tcp . 80": "service"}},
		},
		"nothing anywhere": {
			edit: func(p *state.Port) { p.Cluster, p.Local, p.HasAny, p.NodePort = nil, nil, false, 30080 },
			want: map[string]map[string]string{setClusterIPs: {"10.96.0.1": ""},
				mapNoEndpoints: {"10.96.0.1 . tcp . 80": "goto reject-chain"}, mapNoNodePorts: {"tcp . 30080": "goto reject-chain"}},
		},
		"external policy Local with a remote endpoint": {
			edit: func(p *state.Port) {
				p.Cluster, p.Local, p.ExternalLocal, p.NodePort = p.Cluster[1:], nil, true, 30080
			},
			want: map[string]map[string]string{setClusterIPs: {"10.96.0.1": ""}, mapServices: {"10.96.0.1 . tcp . 80": "service"},
				mapNodePorts: {"tcp . 30080": "external"}, mapNoNodePorts: {"tcp . 30080": "drop"}},
		},
		"internal policy Local": {
			edit: func(p *state.Port) { p.InternalLocal = true },
			want: map[string]map[string]string{setClusterIPs: {"10.96.0.1": ""}, mapServices: {"10.96.0.1 . tcp . 80": "goto pick-1"},
				"endpoint-0": {"10.96.0.1 . tcp . 80": "10.0.0.1 . 8080"}},
		},
		"load balancer for some": {
			edit: func(p *state.Port) {
				p.LoadBalancerIPs = []netip.Addr{netip.MustParseAddr("203.0.113.1")}
				p.SourceRanges = []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}
			},
			want: map[string]map[string]string{setClusterIPs: {"10.96.0.1": ""},
				mapServices: {"10.96.0.1 . tcp . 80": "goto pick-2", "203.0.113.1 . tcp . 80": "external"}, mapFirewall: {"203.0.113.1 . tcp . 80": "firewall"},
				"endpoint-0": {"10.96.0.1 . tcp . 80": "10.0.0.1 . 8080", "203.0.113.1 . tcp . 80": "10.0.0.1 . 8080"},
				"endpoint-1": {"10.96.0.1 . tcp . 80": "10.0.1.1 . 8080", "203.0.113.1 . tcp . 80": "10.0.1.1 . 8080"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := port("s", "10.96.0.1", tc.edit)
			content := Rules(c, &p)
			got := map[string]map[string]string{}
			delete(content.Elements, setHairpin)
			for in, m := range content.Elements {
				got[in] = map[string]string{}
				for k, v := range m {
					for kind, chain := range map[string]string{"service": "service-", "local": "local-", "external": "external-", "firewall": "firewall-"} {
						if to := "goto " + chain; len(v) > len(to) && v[:len(to)] == to {
							if content.Chains[v[len("goto "):]] == nil {
								t.Errorf("%s: no chain for %q", in, v)
							}
							v = kind
						}
					}
					got[in][k] = v
				}
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("elements (-want +got):\n%s", diff)
			}
		})
	}
}

// TestSameExternalAddress is two Services that name one address: the first by
// name has it, and the other takes over when it is gone.
func TestSameExternalAddress(t *testing.T) {
	public := func(p *state.Port) { p.ExternalIP = []netip.Addr{netip.MustParseAddr("203.0.113.1")} }
	a, b := port("a", "10.96.0.1", public), port("b", "10.96.0.2", public)
	table := state.NewTable()
	for _, p := range []state.Port{b, a} {
		table.Set(p.Name.NamespacedName, []state.Port{p})
	}
	nft := knftables.NewFake(knftables.IPv4Family, Table)
	w := newWriter(Config{MasqueradeBit: 14}.layout(), nft)
	holder := func() string {
		t.Helper()
		if err := w.Sync(context.Background(), table, false); err != nil {
			t.Fatal(err)
		}
		e := nft.Table.Maps[mapServices].FindElement("203.0.113.1", "tcp", "80")
		if e == nil {
			return ""
		}
		return e.Value[0]
	}
	first := w.layout.Rules(&a).Elements[mapServices]["203.0.113.1 . tcp . 80"]
	second := w.layout.Rules(&b).Elements[mapServices]["203.0.113.1 . tcp . 80"]
	if got := holder(); got != first {
		t.Errorf("%q has the address, want %q", got, first)
	}
	table.Set(a.Name.NamespacedName, nil)
	if got := holder(); got != second {
		t.Errorf("%q has the address, want %q", got, second)
	}
	if n := len(nft.Table.Maps[mapServices].Elements); n != 2 {
		t.Errorf("%d elements are left, want 2", n)
	}
}

// TestIncremental writes no more than what changed.
func TestIncremental(t *testing.T) {
	table := state.NewTable()
	for _, p := range []state.Port{port("a", "10.96.0.1"), port("b", "10.96.0.2")} {
		table.Set(p.Name.NamespacedName, []state.Port{p})
	}
	w := newWriter(Config{MasqueradeBit: 14}.layout(), knftables.NewFake(knftables.IPv4Family, Table))
	if err := w.Sync(context.Background(), table, false); err != nil {
		t.Fatal(err)
	}
	operations := func() int {
		tx := w.nft.NewTransaction()
		before, next := w.take(table)
		w.diff(tx, before, next)
		return tx.NumOperations()
	}
	if n := operations(); n != 0 {
		t.Errorf("%d operations without a change", n)
	}
	b := port("b", "10.96.0.2", func(p *state.Port) { p.Cluster = p.Cluster[1:] })
	table.Set(b.Name.NamespacedName, []state.Port{b})
	// The endpoint that stays is the first now, so each number's element changes;
	// the Service's leads to a chain for one. The other Service still needs that
	// for two.
	if n := operations(); n != 7 {
		t.Errorf("%d operations for an endpoint less, want 7", n)
	}
	table.Set(b.Name.NamespacedName, nil)
	// Its three elements and the chain that no one else uses.
	if n := operations(); n != 5 {
		t.Errorf("%d operations for a Service less, want 5", n)
	}
}
