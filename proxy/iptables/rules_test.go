package iptables

import (
	"bytes"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"skiff/proxy/state"
)

var update = flag.Bool("update", false, "write the golden files")

func ep(text string, local bool) state.Endpoint {
	return state.Endpoint{Addr: netip.MustParseAddrPort(text), Local: local, Ready: true, Serving: true}
}

func port(name string, edit ...func(*state.Port)) state.Port {
	p := state.Port{
		Name:      state.PortName{NamespacedName: types.NamespacedName{Namespace: "ns", Name: name}, Port: "http", Protocol: v1.ProtocolTCP},
		ClusterIP: netip.MustParseAddr("10.96.0.1"), Port: 80, HasAny: true,
		Cluster: []state.Endpoint{ep("10.0.0.1:8080", true), ep("10.0.1.1:8080", false)}, Local: []state.Endpoint{ep("10.0.0.1:8080", true)},
	}
	for _, f := range edit {
		f(&p)
	}
	return p
}

func table(ports ...state.Port) *state.Table {
	t := state.NewTable()
	for _, p := range ports {
		t.Set(p.Name.NamespacedName, []state.Port{p})
	}
	return t
}

func TestGoldenRules(t *testing.T) {
	public := func(p *state.Port) {
		p.NodePort = 30080
		p.ExternalIP = []netip.Addr{netip.MustParseAddr("192.0.2.1")}
		p.LoadBalancerIPs = []netip.Addr{netip.MustParseAddr("203.0.113.1")}
	}
	nothing := func(p *state.Port) { p.Cluster, p.Local, p.HasAny = nil, nil, false }
	remote := func(p *state.Port) { p.Cluster, p.Local = p.Cluster[1:], nil }
	outside := func(p *state.Port) { p.ExternalLocal, p.HealthCheckNodePort = true, 31000 }
	v6 := func(p *state.Port) {
		p.ClusterIP = netip.MustParseAddr("fd00::1")
		p.Cluster = []state.Endpoint{ep("[fd01::1]:8080", true)}
		p.Local = p.Cluster
	}
	plain := Config{Local: state.Local{Ranges: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}, MasqueradeBit: 14, LocalhostNodePorts: true}
	counted := plain
	counted.Counted = true
	for name, tc := range map[string]struct {
		config Config
		ports  []state.Port
	}{
		"empty":                  {config: plain},
		"cluster-ip":             {config: plain, ports: []state.Port{port("s")}},
		"no-endpoints":           {config: plain, ports: []state.Port{port("s", public, nothing)}},
		"public":                 {config: plain, ports: []state.Port{port("s", public)}},
		"counted":                {config: counted, ports: []state.Port{port("s", public)}},
		"external-local":         {config: plain, ports: []state.Port{port("s", public, outside)}},
		"external-local-remote":  {config: plain, ports: []state.Port{port("s", public, outside, remote)}},
		"internal-local":         {config: plain, ports: []state.Port{port("s", func(p *state.Port) { p.InternalLocal = true })}},
		"internal-local-remote":  {config: plain, ports: []state.Port{port("s", remote, func(p *state.Port) { p.InternalLocal = true })}},
		"affinity":               {config: plain, ports: []state.Port{port("s", func(p *state.Port) { p.AffinitySeconds = 10800 })}},
		"source-ranges":          {config: plain, ports: []state.Port{port("s", public, func(p *state.Port) { p.SourceRanges = []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")} })}},
		"masquerade-all-udp":     {config: Config{MasqueradeAll: true, MasqueradeBit: 3}, ports: []state.Port{port("s", func(p *state.Port) { p.Name.Protocol = v1.ProtocolUDP })}},
		"ipv6-node-port-address": {config: Config{IPv6: true, MasqueradeBit: 14, NodePortAddresses: []netip.Prefix{netip.MustParsePrefix("fd02::/64")}}, ports: []state.Port{port("s", v6)}},
	} {
		t.Run(name, func(t *testing.T) {
			inputs, _ := Rules(&tc.config, table(tc.ports...), Written{}, true)
			got := bytes.Join(inputs, nil)
			path := filepath.Join("testdata", name+".rules")
			if *update {
				if err := os.WriteFile(path, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("rules (-want +got); run with -update when the change is meant:\n%s", diff)
			}
		})
	}
}

// The kernel setting for node ports on 127.0.0.1 opens the host's loopback to its
// neighbours; the rules close it again (CVE-2020-8558).
func TestLoopbackIsClosedToNeighbours(t *testing.T) {
	drop := `! -s 127.0.0.0/8 -d 127.0.0.0/8 -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP`
	for _, on := range []bool{true, false} {
		inputs, _ := Rules(&Config{MasqueradeBit: 14, LocalhostNodePorts: on}, table(), Written{}, true)
		got := bytes.Join(inputs, nil)
		if strings.Contains(string(got), drop) != on {
			t.Errorf("with node ports on the loopback %v, the rules are\n%s", on, got)
		}
	}
}

// A Service of type LoadBalancer that has no address yet gets no rule that could
// take other packets: each rule of its own names an address, a port and a
// protocol (CVE-2021-25736).
func TestNoRuleWithoutAnAddress(t *testing.T) {
	inputs, _ := Rules(&Config{MasqueradeBit: 14}, table(port("s", func(p *state.Port) { p.LoadBalancerIPs, p.NodePort = nil, 0 })), Written{}, true)
	got := bytes.Join(inputs, nil)
	seen := 0
	for rule := range strings.Lines(string(got)) {
		if !strings.HasPrefix(rule, "-A KUBE-SERVICES ") || strings.Contains(rule, "-j KUBE-NODEPORTS") {
			continue
		}
		seen++
		for _, want := range []string{" -d 10.96.0.1", " --dport 80", " -p tcp"} {
			if !strings.Contains(rule, want) {
				t.Errorf("no%s in %s", want, rule)
			}
		}
	}
	if seen == 0 || strings.Contains(string(got), "KUBE-EXT-") {
		t.Errorf("%d rules of the Service in\n%s", seen, got)
	}
}

// TestIncremental sees only what changed: the chains of a Service that did not
// are left alone, those of one that is gone are removed.
func TestIncremental(t *testing.T) {
	c := Config{MasqueradeBit: 14}
	tab := table(port("a"), port("b"))
	_, written := Rules(&c, tab, Written{}, true)
	gone := port("b")
	moved := port("b", func(p *state.Port) { p.Cluster = p.Cluster[:1] })
	tab.Set(moved.Name.NamespacedName, []state.Port{moved})
	inputs, next := Rules(&c, tab, written, false)
	text := string(bytes.Join(inputs, nil))
	a := port("a")
	for chain, want := range map[string]bool{
		prefixCluster + portHash(&a):             false,
		endpointChain(&a, &a.Cluster[0]):         false,
		prefixCluster + portHash(&moved):         true,
		endpointChain(&moved, &moved.Cluster[0]): false, // it is as it was
	} {
		if got := strings.Contains(text, ":"+chain+" - [0:0]"); got != want {
			t.Errorf("chain %s is written: %v, want %v", chain, got, want)
		}
	}
	if left := endpointChain(&gone, &gone.Cluster[1]); !strings.Contains(text, "-X "+left+"\n") {
		t.Errorf("chain %s of an endpoint that is gone is not removed", left)
	} else if _, ok := next.chains[left]; ok {
		t.Errorf("chain %s is still remembered", left)
	}
	if again, _ := Rules(&c, tab, next, false); bytes.Contains(bytes.Join(again, nil), []byte("-A "+prefixCluster)) {
		t.Errorf("a table without changes writes chains of Services:\n%s", again)
	}
	if whole, _ := Rules(&c, tab, next, true); !bytes.Contains(bytes.Join(whole, nil), []byte("-A "+prefixCluster+portHash(&a))) {
		t.Error("a full write leaves a chain out")
	}
}

// TestCounts counts all rules, also where few are written.
func TestCounts(t *testing.T) {
	c := Config{MasqueradeBit: 14}
	nothing := port("b", func(p *state.Port) { p.Cluster, p.Local, p.HasAny = nil, nil, false })
	tab := table(port("a", func(p *state.Port) { p.NodePort = 30080 }), nothing)
	all, _ := Rules(&c, tab, Written{}, true)
	_, before := Rules(&c, table(), Written{}, true)
	some, next := Rules(&c, tab, before, false)
	_, next = Rules(&c, tab, next, false)
	w := Writer{cfg: c, written: &next, last: count(some)}
	total, last := w.Counts()
	if diff := cmp.Diff(count(all), total); diff != "" {
		t.Errorf("total (-want +got):\n%s", diff)
	}
	if total["filter"] < 4 || total["nat"] < 10 || last["nat"] == 0 {
		t.Errorf("total %v, last %v", total, last)
	}
}

// TestManyChains are more than one run gets: the run that leads to them is the
// last, and none is told to a run before those that it jumps to.
func TestManyChains(t *testing.T) {
	tab := state.NewTable()
	for i := range chainsAtOnce {
		p := port(fmt.Sprint("s", i))
		tab.Set(p.Name.NamespacedName, []state.Port{p})
	}
	inputs, _ := Rules(&Config{MasqueradeBit: 14}, tab, Written{}, true)
	if len(inputs) != 3 {
		t.Errorf("%d runs for %d chains, want 3", len(inputs), 3*chainsAtOnce)
	}
	known := map[string]bool{"RETURN": true, "MARK": true, "MASQUERADE": true, "DNAT": true, "DROP": true, "ACCEPT": true}
	for i, input := range inputs {
		for text := range strings.Lines(string(input)) {
			if name, ok := strings.CutPrefix(text, ":"); ok {
				known[strings.Fields(name)[0]] = true
			}
		}
		for text := range strings.Lines(string(input)) {
			fields := strings.Fields(text)
			if j := slices.Index(fields, "-j"); j >= 0 && !known[fields[j+1]] {
				t.Errorf("run %d: no chain for %s", i, text)
			}
			if strings.HasPrefix(text, "-A "+chainServices) && i < len(inputs)-1 {
				t.Errorf("run %d of %d leads packets: %s", i, len(inputs), text)
			}
		}
	}
}
