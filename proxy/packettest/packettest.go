// Package packettest is the one test that every writer of service rules passes:
// packets between network namespaces, through a node that has the rules. It
// needs root, and is for tests only.
package packettest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"skiff/proxy/conntrack"
	"skiff/proxy/state"
)

// Writer is what is tested.
type Writer interface {
	Sync(ctx context.Context, t *state.Table, full bool) error
	Intact() (bool, error)
}

// Kit makes and takes away what a Writer writes. All functions run on a thread
// in the node's namespace.
type Kit struct {
	// New makes a writer for a node that knows its pods so, and whose node ports
	// answer on its addresses in nodePorts; none is all.
	New func(local state.Local, v6 bool, nodePorts ...netip.Prefix) (Writer, error)
	// Localhost tells whether node ports answer on 127.0.0.1.
	Localhost bool
	// LongAffinity tells that a session affinity lasts as long as what the kernel
	// remembers of the client's connections.
	LongAffinity bool
	// Flush removes all rules, as another program may do.
	Flush func() error
	// Clean removes what the proxy wrote, and Left lists what of it is there.
	Clean func() error
	Left  func() ([]string, error)
}

const (
	clusterIP = "10.96.0.7"
	publicIP  = "203.0.113.9"
	nodePort  = 30080
)

type bench struct {
	*World
	kit    Kit
	writer Writer
	table  *state.Table
}

// Run sends packets.
func Run(t *testing.T, kit Kit) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	b := &bench{World: NewWorld(t), kit: kit, table: state.NewTable()}
	b.Node.Must(t, func() (err error) {
		b.writer, err = kit.New(byRange(), false)
		return err
	})
	// The order matters: the rules grow and shrink by what changed.
	t.Run("cluster IP", b.clusterIP)
	t.Run("no endpoints", b.noEndpoints)
	t.Run("removed endpoint", b.removedEndpoint)
	t.Run("node port", b.nodePort)
	t.Run("external traffic policy Local", b.externalLocal)
	t.Run("internal traffic policy Local", b.internalLocal)
	t.Run("terminating endpoints", b.terminating)
	t.Run("traffic distribution", b.distribution)
	t.Run("load balancer", b.loadBalancer)
	t.Run("session affinity", b.affinity)
	t.Run("many endpoints", b.manyEndpoints)
	t.Run("UDP", b.udp)
	t.Run("SCTP", b.sctp)
	t.Run("two families", b.twoFamilies)
	t.Run("node port addresses", b.nodePortAddresses)
	t.Run("pods known by their links", b.byLink)
	t.Run("repair", b.repair)
	t.Run("restart under load", b.restartUnderLoad)
	t.Run("restart", b.restart)
	t.Run("clean", b.clean)
}

func service(edit ...func(*v1.Service)) *v1.Service {
	s := &v1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"},
		Spec: v1.ServiceSpec{
			Type: v1.ServiceTypeClusterIP, ClusterIP: clusterIP, ClusterIPs: []string{clusterIP},
			Ports: []v1.ServicePort{{Port: 80, Protocol: v1.ProtocolTCP}},
		},
	}
	for _, f := range edit {
		f(s)
	}
	return s
}

func onNodePort(s *v1.Service) {
	s.Spec.Type = v1.ServiceTypeNodePort
	s.Spec.Ports[0].NodePort = nodePort
}

func onBalancer(s *v1.Service) {
	onNodePort(s)
	s.Spec.Type = v1.ServiceTypeLoadBalancer
	s.Status.LoadBalancer.Ingress = []v1.LoadBalancerIngress{{IP: publicIP}}
}

func sticky(s *v1.Service) { s.Spec.SessionAffinity = v1.ServiceAffinityClientIP }

// at is an endpoint; only those on node n1 are local.
func at(ip, node string) discovery.Endpoint {
	return discovery.Endpoint{Addresses: []string{ip}, NodeName: ptr.To(node)}
}

func (b *bench) set(t *testing.T, s *v1.Service, eps ...discovery.Endpoint) {
	t.Helper()
	slice := &discovery.EndpointSlice{
		AddressType: discovery.AddressTypeIPv4, Endpoints: eps,
		Ports: []discovery.EndpointPort{{Name: ptr.To(s.Spec.Ports[0].Name), Port: ptr.To[int32](Port), Protocol: ptr.To(s.Spec.Ports[0].Protocol)}},
	}
	stale, _ := b.table.Set(types.NamespacedName{Namespace: s.Namespace, Name: s.Name}, state.Ports(s, []*discovery.EndpointSlice{slice}, state.Node{Name: "n1", Zone: "z1"}))
	b.sync(t, false)
	b.Node.Must(t, func() error {
		_, err := conntrack.Forget(stale, false)
		return err
	})
}

func (b *bench) sync(t *testing.T, full bool) {
	t.Helper()
	b.Node.Must(t, func() error { return b.writer.Sync(context.Background(), b.table, full) })
}

// reaches asks until every one of the names has answered, and no other. Each
// must see the caller as seen, unless that is empty.
func (b *bench) reaches(t *testing.T, from *Space, to, seen string, names ...string) {
	t.Helper()
	left := map[string]bool{}
	for _, n := range names {
		left[n] = true
	}
	wanted := fmt.Sprint(names)
	// One of two endpoints is missed sixty times in a row never.
	for range 60 {
		who, saw, err := from.Ask("tcp", to, patience)
		if err != nil {
			t.Fatalf("%s: %v, want an answer of %s", to, err, wanted)
		}
		if seen != "" && saw != seen {
			t.Fatalf("%s: %s sees the caller as %s, want %s", to, who, saw, seen)
		}
		known := false
		for _, n := range names {
			known = known || n == who
		}
		if !known {
			t.Fatalf("%s: %s answers, want %s", to, who, wanted)
		}
		if delete(left, who); len(left) == 0 {
			return
		}
	}
	t.Errorf("%s: never an answer of %v", to, left)
}

func (b *bench) refused(t *testing.T, from *Space, to string) {
	t.Helper()
	if who, _, err := from.Ask("tcp", to, patience); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("%s: answer %q, error %v, want refused", to, who, err)
	}
}

func (b *bench) silent(t *testing.T, from *Space, to string) {
	t.Helper()
	who, _, err := from.Ask("tcp", to, impatience)
	var timeout net.Error
	if !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("%s: answer %q, error %v, want silence", to, who, err)
	}
}

func (b *bench) clusterIP(t *testing.T) {
	b.set(t, service(), at(pod1IP, "n1"), at(pod2IP, "n2"))
	b.reaches(t, b.Client, clusterIP+":80", "", "pod1", "pod2")
	b.reaches(t, b.Node, clusterIP+":80", "", "pod1", "pod2")
	b.reaches(t, b.Pod1, clusterIP+":80", "", "pod1", "pod2")
	b.set(t, service(), at(pod2IP, "n2"))
	b.reaches(t, b.Pod1, clusterIP+":80", pod1IP, "pod2")
	b.reaches(t, b.Client, clusterIP+":80", "10.2.2.1", "pod2")
	// A pod that reaches itself gets an answer by way of the node, also where
	// nobody says that it is on this one.
	b.set(t, service(), at(pod1IP, "n1"))
	b.reaches(t, b.Pod1, clusterIP+":80", "10.2.1.1", "pod1")
	b.set(t, service(), discovery.Endpoint{Addresses: []string{pod2IP}})
	b.reaches(t, b.Pod2, clusterIP+":80", "10.2.2.1", "pod2")
}

func (b *bench) noEndpoints(t *testing.T) {
	b.set(t, service())
	b.refused(t, b.Client, clusterIP+":80")
	b.refused(t, b.Node, clusterIP+":80")
	b.set(t, service(onNodePort))
	b.refused(t, b.Client, nodeIP+":30080")
}

func (b *bench) removedEndpoint(t *testing.T) {
	b.set(t, service(), at(pod1IP, "n1"), at(pod2IP, "n2"))
	b.reaches(t, b.Client, clusterIP+":80", "", "pod1", "pod2")
	b.set(t, service(), at(pod1IP, "n1"))
	for range 10 {
		b.reaches(t, b.Client, clusterIP+":80", "", "pod1")
	}
}

func (b *bench) nodePort(t *testing.T) {
	b.set(t, service(onNodePort), at(pod1IP, "n1"), at(pod2IP, "n2"))
	b.reaches(t, b.Client, nodeIP+":30080", "", "pod1", "pod2")
	b.reaches(t, b.Pod1, nodeIP+":30080", "", "pod1", "pod2")
	b.reaches(t, b.Node, nodeIP+":30080", "", "pod1", "pod2")
	if b.kit.Localhost {
		b.reaches(t, b.Node, "127.0.0.1:30080", "", "pod1", "pod2")
	}
	b.set(t, service(), at(pod1IP, "n1"))
	b.refused(t, b.Client, nodeIP+":30080")
}

func (b *bench) externalLocal(t *testing.T) {
	local := func(s *v1.Service) { s.Spec.ExternalTrafficPolicy = v1.ServiceExternalTrafficPolicyLocal }
	b.set(t, service(onNodePort, local), at(pod1IP, "n1"), at(pod2IP, "n2"))
	for range 10 {
		b.reaches(t, b.Client, nodeIP+":30080", clientIP, "pod1")
	}
	b.reaches(t, b.Client, clusterIP+":80", "", "pod1", "pod2")
	b.set(t, service(onNodePort, local), at(pod2IP, "n2"))
	// Another node has one: a balancer should ask there.
	b.silent(t, b.Client, nodeIP+":30080")
	// Pods and the node may use it.
	b.reaches(t, b.Pod1, nodeIP+":30080", "", "pod2")
	b.reaches(t, b.Node, nodeIP+":30080", "", "pod2")
}

func (b *bench) internalLocal(t *testing.T) {
	local := func(s *v1.Service) { s.Spec.InternalTrafficPolicy = ptr.To(v1.ServiceInternalTrafficPolicyLocal) }
	b.set(t, service(local), at(pod1IP, "n1"), at(pod2IP, "n2"))
	for range 10 {
		b.reaches(t, b.Pod2, clusterIP+":80", pod2IP, "pod1")
	}
	b.set(t, service(local), at(pod2IP, "n2"))
	b.silent(t, b.Pod1, clusterIP+":80")
	b.set(t, service(local, onNodePort), at(pod2IP, "n2"))
	b.reaches(t, b.Client, nodeIP+":30080", "", "pod2")
	b.silent(t, b.Pod1, clusterIP+":80")
}

func (b *bench) loadBalancer(t *testing.T) {
	b.set(t, service(onBalancer), at(pod1IP, "n1"), at(pod2IP, "n2"))
	b.reaches(t, b.Client, publicIP+":80", "", "pod1", "pod2")
	// A balancer may have the node's own address.
	onNode := func(s *v1.Service) { s.Status.LoadBalancer.Ingress[0].IP = nodeIP }
	b.set(t, service(onBalancer, onNode), at(pod1IP, "n1"), at(pod2IP, "n2"))
	b.reaches(t, b.Client, nodeIP+":80", "", "pod1", "pod2")
	b.reaches(t, b.Node, nodeIP+":80", "", "pod1", "pod2")
	b.reaches(t, b.Pod1, nodeIP+":80", "", "pod1", "pod2")
	only := func(r ...string) func(*v1.Service) {
		return func(s *v1.Service) { s.Spec.LoadBalancerSourceRanges = r }
	}
	b.set(t, service(onBalancer, only("192.0.2.0/24", " 10.1.0.0/24")), at(pod1IP, "n1"))
	b.reaches(t, b.Client, publicIP+":80", "", "pod1")
	b.silent(t, b.Pod2, publicIP+":80")
	b.set(t, service(onBalancer, only("192.0.2.0/24")), at(pod1IP, "n1"))
	b.silent(t, b.Client, publicIP+":80")
	b.set(t, service(onBalancer))
	b.refused(t, b.Client, publicIP+":80")
	b.set(t, service(func(s *v1.Service) { s.Spec.ExternalIPs = []string{publicIP} }), at(pod2IP, "n2"))
	b.reaches(t, b.Client, publicIP+":80", "", "pod2")
}

func (b *bench) affinity(t *testing.T) {
	b.set(t, service(sticky), at(pod1IP, "n1"), at(pod2IP, "n2"))
	first, _, err := b.Client.Ask("tcp", clusterIP+":80", patience)
	if err != nil {
		t.Fatal(err)
	}
	for range 30 {
		if who, _, err := b.Client.Ask("tcp", clusterIP+":80", patience); err != nil || who != first {
			t.Fatalf("%s answers, then %s (%v)", first, who, err)
		}
	}
	for _, seconds := range []int32{100, 200} {
		timed := func(s *v1.Service) {
			s.Spec.SessionAffinityConfig = &v1.SessionAffinityConfig{ClientIP: &v1.ClientIPConfig{TimeoutSeconds: &seconds}}
		}
		b.set(t, service(sticky, timed), at(pod1IP, "n1"), at(pod2IP, "n2"))
		first, _, err = b.Client.Ask("tcp", clusterIP+":80", patience)
		if err != nil {
			t.Fatal(err)
		}
	}
	if !b.kit.LongAffinity {
		first = b.forgets(t, first)
	} else if first, _, err = b.Client.Ask("tcp", clusterIP+":80", patience); err != nil {
		t.Fatal(err)
	}
	// An endpoint that is gone holds nobody.
	other, ip, node := "pod2", pod2IP, "n2"
	if first == "pod2" {
		other, ip, node = "pod1", pod1IP, "n1"
	}
	b.set(t, service(sticky), at(ip, node))
	b.reaches(t, b.Client, clusterIP+":80", "", other)
}

// forgets waits until who comes back after the time gets another than the first.
func (b *bench) forgets(t *testing.T, first string) string {
	t.Helper()
	again := func() bool {
		<-time.After(1100 * time.Millisecond)
		who, _, err := b.Client.Ask("tcp", clusterIP+":80", patience)
		if err != nil {
			t.Fatal(err)
		}
		return who == first
	}
	short := func(s *v1.Service) {
		s.Spec.SessionAffinityConfig = &v1.SessionAffinityConfig{ClientIP: &v1.ClientIPConfig{TimeoutSeconds: ptr.To[int32](1)}}
	}
	b.set(t, service(sticky, short), at(pod1IP, "n1"), at(pod2IP, "n2"))
	for n := 0; again(); n++ {
		if n == 15 {
			t.Fatal("the affinity outlives its time")
		}
	}
	if first == "pod1" {
		return "pod2"
	}
	return "pod1"
}

func (b *bench) udp(t *testing.T) {
	datagrams := func(s *v1.Service) { s.Spec.Ports[0].Protocol = v1.ProtocolUDP }
	b.set(t, service(datagrams))
	// One socket: its packets are one flow, which the kernel remembers.
	var c net.Conn
	b.Client.Must(t, func() (err error) {
		c, err = net.Dial("udp", clusterIP+":80")
		return err
	})
	defer c.Close()
	if _, _, err := exchange(c, impatience); err == nil {
		t.Fatal("an answer without endpoints")
	}
	for _, ep := range []struct{ name, ip string }{{"pod1", pod1IP}, {"pod2", pod2IP}} {
		b.set(t, service(datagrams), at(ep.ip, "n1"))
		if who, _, err := exchange(c, patience); err != nil || who != ep.name {
			t.Errorf("an old flow gets an answer of %q (%v), want %s", who, err, ep.name)
		}
	}
}

func (b *bench) intact(t *testing.T) (ok bool) {
	t.Helper()
	b.Node.Must(t, func() (err error) {
		ok, err = b.writer.Intact()
		return err
	})
	return ok
}

func (b *bench) repair(t *testing.T) {
	b.set(t, service(onNodePort), at(pod1IP, "n1"))
	if !b.intact(t) {
		t.Error("rules that were just written are not intact")
	}
	b.Node.Must(t, b.kit.Flush)
	if b.intact(t) {
		t.Error("flushed rules are intact")
	}
	b.sync(t, true)
	b.reaches(t, b.Client, clusterIP+":80", "", "pod1")
	b.reaches(t, b.Client, nodeIP+":30080", "", "pod1")
	if !b.intact(t) {
		t.Error("repaired rules are not intact")
	}
}

// restart is a new process over the rules of the one before.
func (b *bench) restart(t *testing.T) {
	b.set(t, service(onNodePort), at(pod1IP, "n1"))
	b.Node.Must(t, func() (err error) {
		b.writer, err = b.kit.New(byRange(), false)
		return err
	})
	b.table = state.NewTable()
	other := service(func(s *v1.Service) { s.Name, s.Spec.ClusterIP, s.Spec.ClusterIPs = "other", "10.96.0.8", nil })
	b.set(t, other, at(pod2IP, "n2"))
	b.reaches(t, b.Client, "10.96.0.8:80", "", "pod2")
	b.refused(t, b.Client, nodeIP+":30080")
	b.Node.Must(t, func() error {
		left, err := b.kit.Left()
		if err != nil {
			return err
		}
		for _, text := range left {
			if containsAny(text, "default/web", clusterIP, pod1IP) {
				t.Errorf("a rule of the Service that is gone: %s", text)
			}
		}
		return nil
	})
}

func (b *bench) clean(t *testing.T) {
	b.Node.Must(t, b.kit.Clean)
	b.Node.Must(t, func() error {
		left, err := b.kit.Left()
		for _, text := range left {
			t.Errorf("left: %s", text)
		}
		return err
	})
	b.Node.Must(t, b.kit.Clean)
}

func containsAny(text string, parts ...string) bool {
	for _, p := range parts {
		if strings.Contains(text, p) {
			return true
		}
	}
	return false
}
