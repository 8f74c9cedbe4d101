package proxy

import (
	"context"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netns"
	v1 "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/utils/ptr"

	"skiff/proxy/nftables"
)

// space is a network namespace.
type space struct{ ns netns.NsHandle }

func newSpace(t *testing.T) space {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	for _, program := range []string{"iptables", "nft"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("needs %s", program)
		}
	}
	var s space
	var err error
	onThread(func() { s.ns, err = netns.New() })
	if err != nil {
		t.Skipf("network namespaces cannot be made: %v", err)
	}
	t.Cleanup(func() { s.ns.Close() })
	return s
}

// onThread runs f on a thread that nothing else ever runs on.
func onThread(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // the thread ends with the goroutine
		f()
	}()
	<-done
}

// do runs f in the namespace.
func (s space) do(t *testing.T, f func()) {
	onThread(func() {
		if err := netns.Set(s.ns); err != nil {
			t.Error(err)
			return
		}
		f()
	})
}

// nft runs the program in the namespace.
func (s space) nft(t *testing.T, args ...string) (text string) {
	t.Helper()
	s.do(t, func() {
		out, err := exec.Command("nft", args...).CombinedOutput()
		if err != nil {
			t.Errorf("nft %s: %v: %s", strings.Join(args, " "), err, out)
		}
		text = string(out)
	})
	return text
}

// rules are all there are in the namespace.
func (s space) rules(t *testing.T) string {
	t.Helper()
	return s.nft(t, "list", "ruleset")
}

// oneService are objects of a Service with an endpoint, and how each mode leads
// there.
func oneService() (*v1.Service, *discovery.EndpointSlice, map[Mode]string) {
	service := &v1.Service{ObjectMeta: object("s"), Spec: v1.ServiceSpec{
		ClusterIP: "10.96.0.1", ClusterIPs: []string{"10.96.0.1"}, Ports: []v1.ServicePort{{Port: 80, Protocol: v1.ProtocolTCP}},
	}}
	slice := &discovery.EndpointSlice{ObjectMeta: object("s-1"), AddressType: discovery.AddressTypeIPv4,
		Ports:     []discovery.EndpointPort{{Name: ptr.To(""), Port: ptr.To[int32](8080), Protocol: ptr.To(v1.ProtocolTCP)}},
		Endpoints: []discovery.Endpoint{{Addresses: []string{"10.0.0.1"}}},
	}
	return service, slice, map[Mode]string{IPTables: "10.0.0.1:8080", NFTables: "10.0.0.1 . 8080"}
}

// run runs a proxy in the namespace until ctx ends, and returns once it has
// written its rules.
func (s space) run(ctx context.Context, t *testing.T, cfg Config) (p *Proxy, done chan error) {
	t.Helper()
	done = make(chan error, 1)
	s.do(t, func() {
		var err error
		if p, err = New(cfg); err != nil {
			t.Error(err)
		}
	})
	if p == nil {
		t.FailNow()
	}
	go s.do(t, func() { done <- p.Run(ctx) })
	eventually(t, "the rules are written", func() bool { return p.synced.Load() != 0 })
	return p, done
}

// eventualLimit is long enough for a machine that is emulated.
const eventualLimit = 2 * time.Minute

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for limit := time.After(eventualLimit); !is(); {
		select {
		case <-time.After(10 * time.Millisecond):
		case <-limit:
			t.Fatalf("%s: not within %v", what, eventualLimit)
		}
	}
}

// TestRun runs a whole proxy in a namespace of its own, one mode after the other.
func TestRun(t *testing.T) {
	s := newSpace(t)
	service, slice, leads := oneService()
	has := map[Mode]string{IPTables: "KUBE-SERVICES", NFTables: "table ip kube-proxy"}
	for _, mode := range []Mode{IPTables, NFTables, IPTables} {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		_, done := s.run(ctx, t, Config{Client: fake.NewClientset(service, slice), NodeName: "n1", Mode: mode, HealthzAddress: "127.0.0.1:0"})
		cancel()
		if err := <-done; err != nil {
			t.Errorf("%s: Run: %v", mode, err)
		}
		text := s.rules(t)
		for m, sign := range has {
			if got := strings.Contains(text, sign); got != (m == mode) {
				t.Errorf("mode %s: %s is in the kernel: %v", mode, sign, got)
			}
		}
		if !strings.Contains(text, leads[mode]) {
			t.Errorf("mode %s: no rule leads to the endpoint", mode)
		}
	}
	s.do(t, func() {
		if err := Clean(); err != nil {
			t.Error(err)
		}
	})
	if text := s.rules(t); strings.Contains(text, "KUBE-") || strings.Contains(text, "kube-proxy") {
		t.Errorf("left after Clean:\n%s", text)
	}
}

// TestNodeCIDR knows pods by the ranges of the node, which it gets late, and gets
// others when its object is made anew.
func TestNodeCIDR(t *testing.T) {
	service, slice, leads := oneService()
	for _, mode := range []Mode{IPTables, NFTables} {
		t.Run(string(mode), func(t *testing.T) {
			s := newSpace(t)
			node := &v1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}
			client := fake.NewClientset(service, slice, node)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			done := make(chan error, 1)
			go s.do(t, func() {
				p, err := New(Config{Client: client, NodeName: "n1", Mode: mode, MinSyncPeriod: time.Millisecond, DetectLocal: DetectLocal{Mode: NodeCIDR},
					ClusterCIDRs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}})
				if err == nil {
					err = p.Run(ctx)
				}
				done <- err
			})
			for _, own := range []string{"10.244.1.0/24", "10.244.7.0/24"} {
				node.Spec.PodCIDRs = []string{own}
				if _, err := client.CoreV1().Nodes().Update(ctx, node, metav1.UpdateOptions{}); err != nil {
					t.Fatal(err)
				}
				eventually(t, "rules tell pods by "+own, func() bool {
					rules := s.rules(t)
					return strings.Contains(rules, own) && strings.Contains(rules, leads[mode])
				})
			}
			if rules := s.rules(t); strings.Contains(rules, "10.0.0.0/8") || strings.Contains(rules, "10.244.1.0/24") {
				t.Errorf("other ranges than the node's are in the rules:\n%s", rules)
			}
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
}

// TestInvalidPackets has packets without a connection dropped, but where the kernel is
// told to be liberal about them.
func TestInvalidPackets(t *testing.T) {
	s := newSpace(t)
	for _, mode := range []Mode{IPTables, NFTables} {
		for _, liberal := range []bool{false, true} {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			_, done := s.run(ctx, t, Config{Client: fake.NewClientset(), NodeName: "n1", Mode: mode, Conntrack: Conntrack{TCPBeLiberal: liberal}})
			cancel()
			if err := <-done; err != nil {
				t.Errorf("%s: Run: %v", mode, err)
			}
			if drops := strings.Contains(s.rules(t), "ct state invalid"); drops == liberal {
				t.Errorf("mode %s, liberal %v: dropped: %v", mode, liberal, drops)
			}
		}
	}
}

// TestRepair flushes the rules of a running proxy as another program may do, in
// every way that there is, and takes all of them away at the end.
//
// Covers: proxy.repair
func TestRepair(t *testing.T) {
	service, slice, leads := oneService()
	for _, mode := range []Mode{IPTables, NFTables} {
		t.Run(string(mode), func(t *testing.T) {
			s := newSpace(t)
			// Another program's rules stay.
			s.nft(t, "add table ip kept")
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			_, done := s.run(ctx, t, Config{
				Client: fake.NewClientset(service, slice), NodeName: "n1", Mode: mode, MinSyncPeriod: time.Millisecond, SyncPeriod: 20 * time.Millisecond,
			})
			flushes := map[Mode][][]string{
				IPTables: {
					{"iptables", "-t", "nat", "-F"}, {"iptables", "-t", "nat", "-F", "PREROUTING"}, {"iptables", "-t", "filter", "-F"},
					{"nft", "flush", "table", "ip", "nat"}, {"nft", "delete", "table", "ip", "nat"},
					{"iptables", "-t", "nat", "-F", "KUBE-SERVICES"}, {"iptables", "-t", "nat", "-F", "KUBE-MARK-MASQ"},
					{"iptables", "-t", "nat", "-F", "KUBE-POSTROUTING"}, {"iptables", "-t", "filter", "-F", "KUBE-FORWARD"},
				},
				NFTables: {{"nft", "flush", "table", "ip", nftables.Table}, {"nft", "delete", "table", "ip", nftables.Table}, {"nft", "flush", "chain", "ip", nftables.Table, "services"}},
			}
			whole := func() string {
				return strings.Join(slices.Sorted(strings.Lines(withoutCounters(s.rules(t)))), "")
			}
			before := whole()
			if !strings.Contains(before, leads[mode]) {
				t.Fatalf("no rule leads to the endpoint:\n%s", before)
			}
			for _, flush := range flushes[mode] {
				s.do(t, func() {
					if out, err := exec.Command(flush[0], flush[1:]...).CombinedOutput(); err != nil {
						t.Errorf("%v: %v: %s", flush, err, out)
					}
				})
				eventually(t, strings.Join(flush, " ")+" is repaired", func() bool { return whole() == before })
			}
			s.nft(t, "flush", "ruleset")
			s.nft(t, "add table ip kept")
			eventually(t, "the flush of everything is repaired", func() bool { return whole() == before })
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
			s.do(t, func() {
				if err := Clean(); err != nil {
					t.Error(err)
				}
			})
			text := s.rules(t)
			for _, mark := range []string{"KUBE", "kube", "10.0.0.1", "10.96.0.1"} {
				if strings.Contains(text, mark) {
					t.Errorf("%s is left after Clean:\n%s", mark, text)
				}
			}
			if !strings.Contains(text, "table ip kept") {
				t.Error("another program's table is gone")
			}
		})
	}
}

// withoutCounters is a listing without what packets change.
func withoutCounters(rules string) string {
	return regexp.MustCompile(`counter packets \d+ bytes \d+ ?`).ReplaceAllString(rules, "")
}
