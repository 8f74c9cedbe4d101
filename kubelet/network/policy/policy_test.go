package policy

import (
	"context"
	"errors"
	"net"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netns"
	v1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
)

func makePod(ns, name, node, ip string, labels map[string]string) *v1.Pod {
	return &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name, Labels: labels},
		Spec: v1.PodSpec{NodeName: node, Containers: []v1.Container{{Ports: []v1.ContainerPort{
			{Name: "web", ContainerPort: 8080, Protocol: v1.ProtocolTCP}, {Name: "dns", ContainerPort: 53, Protocol: v1.ProtocolUDP},
		}}}},
		Status: v1.PodStatus{Phase: v1.PodRunning, PodIP: ip, PodIPs: []v1.PodIP{{IP: ip}}},
	}
}

func makePolicy(edit func(*networkingv1.NetworkPolicySpec)) *networkingv1.NetworkPolicy {
	np := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "p"}}
	np.Spec.PodSelector.MatchLabels = map[string]string{"app": "server"}
	np.Spec.PolicyTypes = []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}
	edit(&np.Spec)
	return np
}

func podsLike(labels map[string]string) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: labels}
}

func port(p intstr.IntOrString) networkingv1.NetworkPolicyPort {
	return networkingv1.NetworkPolicyPort{Port: &p}
}

func TestCompute(t *testing.T) {
	end := int32(90)
	udp := v1.ProtocolUDP
	in := input{
		node: "n1",
		pods: []*v1.Pod{
			makePod("a", "server", "n1", "10.0.0.2", map[string]string{"app": "server"}),
			makePod("a", "client", "n2", "10.0.1.2", map[string]string{"app": "client"}),
			makePod("b", "other", "n2", "10.0.1.3", map[string]string{"app": "client"}),
			makePod("a", "far", "n2", "10.0.1.4", map[string]string{"app": "server"}),
		},
		namespaces: []*v1.Namespace{
			{ObjectMeta: metav1.ObjectMeta{Name: "a"}},
			{ObjectMeta: metav1.ObjectMeta{Name: "b", Labels: map[string]string{"team": "x"}}},
		},
	}
	for _, tc := range []struct {
		name    string
		edit    func(*networkingv1.NetworkPolicySpec)
		ingress []string // rules; nil when not isolated
		egress  []string
	}{
		{name: "nothing is let in", edit: func(*networkingv1.NetworkPolicySpec) {}, ingress: []string{"drop"}},
		{name: "no types and no egress rules mean ingress", edit: func(s *networkingv1.NetworkPolicySpec) { s.PolicyTypes = nil }, ingress: []string{"drop"}},
		{name: "all are let in", edit: func(s *networkingv1.NetworkPolicySpec) {
			s.Ingress = []networkingv1.NetworkPolicyIngressRule{{}}
		}, ingress: []string{"return", "drop"}},
		{name: "ports", edit: func(s *networkingv1.NetworkPolicySpec) {
			a, b := port(intstr.FromInt32(80)), port(intstr.FromString("dns"))
			a.EndPort, b.Protocol = &end, &udp
			s.Ingress = []networkingv1.NetworkPolicyIngressRule{{Ports: []networkingv1.NetworkPolicyPort{a, b}}}
		}, ingress: []string{"tcp dport 80-90 return", "udp dport 53 return", "drop"}},
		{name: "a name that no port has lets no one in", edit: func(s *networkingv1.NetworkPolicySpec) {
			s.Ingress = []networkingv1.NetworkPolicyIngressRule{{Ports: []networkingv1.NetworkPolicyPort{port(intstr.FromString("none"))}}}
		}, ingress: []string{"drop"}},
		{name: "addresses", edit: func(s *networkingv1.NetworkPolicySpec) {
			s.Ingress = []networkingv1.NetworkPolicyIngressRule{{From: []networkingv1.NetworkPolicyPeer{{IPBlock: &networkingv1.IPBlock{CIDR: "10.0.0.0/8", Except: []string{"10.1.0.0/16"}}}}}}
		}, ingress: []string{"ip saddr 10.0.0.0/8 ip saddr != 10.1.0.0/16 return", "drop"}},
		{name: "pods of a namespace", edit: func(s *networkingv1.NetworkPolicySpec) {
			s.Ingress = []networkingv1.NetworkPolicyIngressRule{{From: []networkingv1.NetworkPolicyPeer{{NamespaceSelector: podsLike(map[string]string{"team": "x"})}}}}
		}, ingress: []string{"ip saddr {10.0.1.3} return", "ip6 saddr {} return", "drop"}},
		{name: "egress by name", edit: func(s *networkingv1.NetworkPolicySpec) {
			s.PolicyTypes = []networkingv1.PolicyType{networkingv1.PolicyTypeEgress}
			s.Egress = []networkingv1.NetworkPolicyEgressRule{{
				To:    []networkingv1.NetworkPolicyPeer{{PodSelector: podsLike(map[string]string{"app": "client"})}},
				Ports: []networkingv1.NetworkPolicyPort{port(intstr.FromString("web"))},
			}}
		}, egress: []string{"ip daddr . tcp dport {10.0.1.2 . 8080} return", "drop"}},
		{name: "egress by name to a range with an exception", edit: func(s *networkingv1.NetworkPolicySpec) {
			s.PolicyTypes = []networkingv1.PolicyType{networkingv1.PolicyTypeEgress}
			s.Egress = []networkingv1.NetworkPolicyEgressRule{{
				To:    []networkingv1.NetworkPolicyPeer{{IPBlock: &networkingv1.IPBlock{CIDR: "10.0.1.0/24", Except: []string{"10.0.1.3/32"}}}},
				Ports: []networkingv1.NetworkPolicyPort{port(intstr.FromString("web"))},
			}}
		}, egress: []string{"ip daddr . tcp dport {10.0.1.2 . 8080,10.0.1.4 . 8080} return", "drop"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			in.policies = []*networkingv1.NetworkPolicy{makePolicy(tc.edit)}
			got, err := compute(in)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.ingress, rulesFor(got, ingressMap+"4", "10.0.0.2")); diff != "" {
				t.Errorf("ingress: %s", diff)
			}
			if diff := cmp.Diff(tc.egress, rulesFor(got, egressMap+"4", "10.0.0.2")); diff != "" {
				t.Errorf("egress: %s", diff)
			}
			if n := len(got.verdicts[ingressMap+"4"]); n > 1 {
				t.Errorf("pods of other nodes are guarded: %v", got.verdicts)
			}
		})
	}
}

// rulesFor are the rules that guard an address, with sets written out.
func rulesFor(s *state, mapName, ip string) []string {
	verdict, ok := s.verdicts[mapName][ip]
	if !ok {
		return nil
	}
	var out []string
	for _, rule := range s.chains[strings.TrimPrefix(verdict, "jump ")] {
		for name, set := range s.sets {
			rule = strings.ReplaceAll(rule, "@"+name+" ", "{"+strings.Join(sorted(set.elements), ",")+"} ")
		}
		out = append(out, rule)
	}
	return out
}

// TestPackets sends packets between two namespaces through one with the rules.
//
// Covers: net.policy
func TestPackets(t *testing.T) {
	w := newWorld(t)
	for _, tc := range []struct {
		name         string
		policies     []*networkingv1.NetworkPolicy
		web, metrics bool
	}{
		{name: "no policy", web: true, metrics: true},
		{name: "nothing is let in", policies: []*networkingv1.NetworkPolicy{makePolicy(func(*networkingv1.NetworkPolicySpec) {})}},
		{name: "one port for one peer", policies: []*networkingv1.NetworkPolicy{makePolicy(func(s *networkingv1.NetworkPolicySpec) {
			s.Ingress = []networkingv1.NetworkPolicyIngressRule{{
				From:  []networkingv1.NetworkPolicyPeer{{PodSelector: podsLike(map[string]string{"app": "client"})}},
				Ports: []networkingv1.NetworkPolicyPort{port(intstr.FromString("web"))},
			}}
		})}, web: true},
		{name: "the client may go nowhere", policies: []*networkingv1.NetworkPolicy{makePolicy(func(s *networkingv1.NetworkPolicySpec) {
			s.PodSelector = *podsLike(map[string]string{"app": "client"})
			s.PolicyTypes = []networkingv1.PolicyType{networkingv1.PolicyTypeEgress}
		})}},
		{name: "the client may go by a port's name", policies: []*networkingv1.NetworkPolicy{makePolicy(func(s *networkingv1.NetworkPolicySpec) {
			s.PodSelector = *podsLike(map[string]string{"app": "client"})
			s.PolicyTypes = []networkingv1.PolicyType{networkingv1.PolicyTypeEgress}
			s.Egress = []networkingv1.NetworkPolicyEgressRule{{Ports: []networkingv1.NetworkPolicyPort{port(intstr.FromString("web"))}}}
		})}, web: true},
		{name: "a range with an exception that the client is in", policies: []*networkingv1.NetworkPolicy{makePolicy(func(s *networkingv1.NetworkPolicySpec) {
			s.Ingress = []networkingv1.NetworkPolicyIngressRule{{From: []networkingv1.NetworkPolicyPeer{{IPBlock: &networkingv1.IPBlock{CIDR: "10.0.0.0/8", Except: []string{"10.9.0.0/16", "10.0.0.0/24"}}}}}}
		})}},
		{name: "a range with an exception that it is not in", policies: []*networkingv1.NetworkPolicy{makePolicy(func(s *networkingv1.NetworkPolicySpec) {
			s.Ingress = []networkingv1.NetworkPolicyIngressRule{{From: []networkingv1.NetworkPolicyPeer{{IPBlock: &networkingv1.IPBlock{CIDR: "10.0.0.0/8", Except: []string{"10.9.0.0/16", "10.0.0.64/26"}}}}}}
		})}, web: true, metrics: true},
		{name: "a range of ports", policies: []*networkingv1.NetworkPolicy{makePolicy(func(s *networkingv1.NetworkPolicySpec) {
			p := port(intstr.FromInt32(9000))
			p.EndPort = ptr.To[int32](9100)
			s.Ingress = []networkingv1.NetworkPolicyIngressRule{{Ports: []networkingv1.NetworkPolicyPort{p}}}
		})}, metrics: true},
		{name: "other protocols", policies: []*networkingv1.NetworkPolicy{makePolicy(func(s *networkingv1.NetworkPolicySpec) {
			sctp, udp := port(intstr.FromInt32(8080)), port(intstr.FromInt32(8080))
			sctp.Protocol, udp.Protocol = ptr.To(v1.ProtocolSCTP), ptr.To(v1.ProtocolUDP)
			every := networkingv1.NetworkPolicyPort{Protocol: ptr.To(v1.ProtocolSCTP)}
			s.Ingress = []networkingv1.NetworkPolicyIngressRule{{Ports: []networkingv1.NetworkPolicyPort{sctp, udp, every}}}
		})}},
		{name: "two policies add up", policies: []*networkingv1.NetworkPolicy{
			makePolicy(func(*networkingv1.NetworkPolicySpec) {}),
			makePolicy(func(s *networkingv1.NetworkPolicySpec) {
				s.Ingress = []networkingv1.NetworkPolicyIngressRule{{Ports: []networkingv1.NetworkPolicyPort{port(intstr.FromInt32(9090))}}}
			}),
		}, metrics: true},
		{name: "the client may go to a range by one port", policies: []*networkingv1.NetworkPolicy{makePolicy(func(s *networkingv1.NetworkPolicySpec) {
			s.PodSelector = *podsLike(map[string]string{"app": "client"})
			s.PolicyTypes = []networkingv1.PolicyType{networkingv1.PolicyTypeEgress}
			s.Egress = []networkingv1.NetworkPolicyEgressRule{{
				To:    []networkingv1.NetworkPolicyPeer{{IPBlock: &networkingv1.IPBlock{CIDR: "10.0.1.0/24"}}},
				Ports: []networkingv1.NetworkPolicyPort{port(intstr.FromInt32(9090))},
			}}
		})}, metrics: true},
		{name: "no policy again", web: true, metrics: true},
	} {
		w.apply(t, twoPods(tc.policies...))
		for address, want := range map[string]bool{"10.0.1.2:8080": tc.web, "10.0.1.2:9090": tc.metrics} {
			if err := w.open(t, address); (err == nil) != want {
				t.Errorf("%s: connection to %s: %v, want open %v", tc.name, address, err, want)
			}
		}
	}
}

// TestUpdatesLeaveNoGap changes the policies while the client asks all the time:
// what all of them allow is never refused, what none allows never open.
func TestUpdatesLeaveNoGap(t *testing.T) {
	w := newWorld(t)
	// Datagrams tell a packet that is lost from one that is late: nobody sends them
	// again.
	within(t, w.router, w.server, func() {
		c, err := net.ListenPacket("udp", ":53")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		go func() {
			b := make([]byte, 16)
			for {
				n, from, err := c.ReadFrom(b)
				if err != nil {
					return
				}
				_, _ = c.WriteTo(b[:n], from) // who asked may be gone
			}
		}()
	})
	// Each lets the client in by that port alone, in another way.
	client := []networkingv1.NetworkPolicyPeer{{PodSelector: podsLike(map[string]string{"app": "client"})}}
	block := []networkingv1.NetworkPolicyPeer{{IPBlock: &networkingv1.IPBlock{CIDR: "10.0.0.0/24"}}}
	var ways [][]*networkingv1.NetworkPolicy
	for _, from := range [][]networkingv1.NetworkPolicyPeer{nil, client, block} {
		for _, number := range []intstr.IntOrString{intstr.FromInt32(53), intstr.FromString("dns")} {
			p := port(number)
			p.Protocol = ptr.To(v1.ProtocolUDP)
			way := makePolicy(func(s *networkingv1.NetworkPolicySpec) {
				s.Ingress = []networkingv1.NetworkPolicyIngressRule{{From: from, Ports: []networkingv1.NetworkPolicyPort{p}}}
			})
			closed := makePolicy(func(*networkingv1.NetworkPolicySpec) {})
			closed.Name = "closed"
			ways = append(ways, []*networkingv1.NetworkPolicy{way}, []*networkingv1.NetworkPolicy{closed, way})
		}
	}
	w.apply(t, twoPods(ways[0]...))
	stop := make(chan struct{})
	var asking sync.WaitGroup
	for what, ask := range map[string]func() error{
		"a datagram that all allow": func() error {
			c, err := net.Dial("udp", "10.0.1.2:53")
			if err != nil {
				return err
			}
			defer c.Close()
			if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
				return err
			}
			if _, err := c.Write([]byte("hello")); err != nil {
				return err
			}
			_, err = c.Read(make([]byte, 16))
			return err
		},
		"a connection that none allows": func() error {
			c, err := net.DialTimeout("tcp", "10.0.1.2:9090", 20*time.Millisecond)
			if err == nil {
				c.Close()
				return errors.New("it is open")
			}
			return nil
		},
	} {
		asking.Go(func() {
			runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
			if err := netns.Set(w.client); err != nil {
				t.Error(err)
				return
			}
			for n := 0; ; n++ {
				select {
				case <-stop:
					if n == 0 {
						t.Errorf("%s: never asked", what)
					}
					return
				default:
				}
				if err := ask(); err != nil {
					t.Errorf("%s, after %d: %v", what, n, err)
					return
				}
			}
		})
	}
	for range 3 {
		for _, way := range ways {
			w.apply(t, twoPods(way...))
		}
	}
	close(stop)
	asking.Wait()
}

// TestGuard gives a pod an address that the API does not tell of yet.
func TestGuard(t *testing.T) {
	w := newWorld(t)
	objects := twoPods(makePolicy(func(*networkingv1.NetworkPolicySpec) {}))
	server := objects.pods[0].DeepCopy()
	objects.pods[0].Status = v1.PodStatus{Phase: v1.PodPending}
	e, stop := w.enforce(t, objects, Config{})
	if err := e.Guard(t.Context(), server, []string{"10.0.1.2"}); err != nil {
		t.Fatal(err)
	}
	if w.open(t, "10.0.1.2:8080") == nil {
		t.Error("the server is open after Guard")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	stop()
	if err := e.Guard(ctx, server, []string{"10.0.1.2"}); !errors.Is(err, context.Canceled) {
		t.Errorf("Guard of an enforcer that does not run: %v, want that the time is over", err)
	}
}

// TestGuardOutlivesTheProcess ends the enforcer between a pod's rules and its status:
// the next one, whose first write is of all rules, has those of the pod too.
func TestGuardOutlivesTheProcess(t *testing.T) {
	w := newWorld(t)
	file := filepath.Join(t.TempDir(), "guarded.json")
	objects := twoPods(makePolicy(func(*networkingv1.NetworkPolicySpec) {}))
	server := objects.pods[0].DeepCopy()
	objects.pods[0].Status = v1.PodStatus{Phase: v1.PodPending}
	e, stop := w.enforce(t, objects, Config{File: file})
	if err := e.Guard(t.Context(), server, []string{"10.0.1.2"}); err != nil {
		t.Fatal(err)
	}
	stop()
	next, _ := w.enforce(t, objects, Config{File: file})
	// Another pod's Guard returns when the first write is over.
	if err := next.Guard(t.Context(), makePod("a", "other", "n1", "", nil), []string{"10.0.1.9"}); err != nil {
		t.Fatal(err)
	}
	if w.open(t, "10.0.1.2:8080") == nil {
		t.Error("the server is open after a restart")
	}
}

func TestEarlyOfTheProcessBefore(t *testing.T) {
	started := makePod("a", "server", "n1", "", nil)
	started.UID = "1"
	pending := func(edit func(*v1.Pod)) []*v1.Pod {
		p := started.DeepCopy()
		p.Status = v1.PodStatus{Phase: v1.PodPending}
		edit(p)
		return []*v1.Pod{p}
	}
	for _, tc := range []struct {
		name string
		told []*v1.Pod
		next bool // another pod gets the address first
		want []string
	}{
		{name: "the API knows no address", told: pending(func(*v1.Pod) {}), want: []string{"server 10.0.0.2"}},
		{name: "the API has it no more"},
		{name: "another of the same name", told: pending(func(p *v1.Pod) { p.UID = "2" })},
		{name: "its address is another's by now", told: pending(func(*v1.Pod) {}), next: true, want: []string{"next 10.0.0.2"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			process := func() *early {
				return &early{file: filepath.Join(t.TempDir(), "guarded.json"), pods: map[types.NamespacedName]*v1.Pod{}, before: map[types.NamespacedName]bool{}}
			}
			first, second := process(), process()
			second.file = first.file
			if err := errors.Join(first.add(started, []string{"10.0.0.2"}), second.load()); err != nil {
				t.Fatal(err)
			}
			if tc.next {
				if err := second.add(makePod("a", "next", "n1", "", nil), []string{"10.0.0.2"}); err != nil {
					t.Fatal(err)
				}
			}
			var got []string
			for _, p := range second.merge(tc.told) {
				for _, ip := range addresses(p) {
					got = append(got, p.Name+" "+ip.String())
				}
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestEarly(t *testing.T) {
	known := makePod("a", "server", "n1", "", nil)
	known.UID = "1"
	other := func(edit func(*v1.Pod)) *v1.Pod {
		p := known.DeepCopy()
		p.Status = v1.PodStatus{Phase: v1.PodPending}
		edit(p)
		return p
	}
	for _, tc := range []struct {
		name string
		told []*v1.Pod
		gone *v1.Pod
		want []string // addresses
		kept bool
	}{
		{name: "the API does not know it yet", want: []string{"10.0.0.2"}, kept: true},
		{name: "the API knows no address", told: []*v1.Pod{other(func(*v1.Pod) {})}, want: []string{"10.0.0.2"}, kept: true},
		{name: "the API knows the address of the sandbox before", told: []*v1.Pod{other(func(p *v1.Pod) { p.Status.PodIP = "10.0.0.9" })}, want: []string{"10.0.0.2"}, kept: true},
		{name: "the API knows the address", told: []*v1.Pod{other(func(p *v1.Pod) { p.Status.PodIP = "10.0.0.2" })}, want: []string{"10.0.0.2"}},
		{name: "the pod is over", told: []*v1.Pod{other(func(p *v1.Pod) { p.Status.Phase = v1.PodFailed })}},
		{name: "the API has the pod before of the same name", told: []*v1.Pod{other(func(p *v1.Pod) { p.UID, p.Status.PodIP = "0", "10.0.0.9" })}, want: []string{"10.0.0.2", "10.0.0.9"}, kept: true},
		{name: "a mirror", told: []*v1.Pod{other(func(p *v1.Pod) {
			p.UID, p.Annotations, p.Status.PodIP = "2", map[string]string{v1.MirrorPodAnnotationKey: "x"}, "10.0.0.2"
		})}, want: []string{"10.0.0.2"}},
		{name: "it is deleted", gone: known},
		{name: "the pod before is deleted", gone: other(func(p *v1.Pod) { p.UID = "0" }), want: []string{"10.0.0.2"}, kept: true},
		{name: "another pod has got its address", gone: nil, told: []*v1.Pod{other(func(p *v1.Pod) { p.Name, p.Status.PodIP = "next", "10.0.0.2" })}, want: []string{"10.0.0.2", "10.0.0.2"}, kept: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := early{pods: map[types.NamespacedName]*v1.Pod{}, before: map[types.NamespacedName]bool{}}
			for _, p := range []*v1.Pod{makePod("a", "earlier", "n1", "", nil), known} {
				if err := e.add(p, []string{"10.0.0.2"}); err != nil {
					t.Fatal(err)
				}
			}
			if tc.gone != nil {
				e.forget(tc.gone)
			}
			var got []string
			for _, p := range e.merge(tc.told) {
				for _, ip := range addresses(p) {
					got = append(got, ip.String())
				}
			}
			slices.Sort(got)
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
			if kept := len(e.pods) > 0; kept != tc.kept {
				t.Errorf("kept: %v, want %v", kept, tc.kept)
			}
		})
	}
}

// TestRepair flushes the rules under a running enforcer.
func TestRepair(t *testing.T) {
	w := newWorld(t)
	_, stop := w.enforce(t, twoPods(makePolicy(func(*networkingv1.NetworkPolicySpec) {})), Config{Check: 10 * time.Millisecond})
	closed := func(when string) {
		t.Helper()
		for end := time.Now().Add(30 * time.Second); w.open(t, "10.0.1.2:8080") == nil; {
			if time.Now().After(end) {
				t.Fatalf("%s: the server stays open", when)
			}
		}
	}
	closed("at first")
	for _, flush := range [][]string{{"flush", "ruleset"}, {"flush", "table", "inet", Table}, {"delete", "table", "inet", Table}} {
		if out, err := exec.Command("nft", flush...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		closed("after nft " + strings.Join(flush, " "))
	}
	stop()
}
