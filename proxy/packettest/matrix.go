package packettest

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"skiff/proxy/state"
)

// terminating are endpoints that still serve while they end: the last resort.
func (b *bench) terminating(t *testing.T) {
	ending := func(ip, node string) discovery.Endpoint {
		e := at(ip, node)
		e.Conditions = discovery.EndpointConditions{Ready: ptr.To(false), Serving: ptr.To(true), Terminating: ptr.To(true)}
		return e
	}
	local := func(s *v1.Service) { s.Spec.ExternalTrafficPolicy = v1.ServiceExternalTrafficPolicyLocal }
	b.set(t, service(onNodePort), ending(pod1IP, "n1"), at(pod2IP, "n2"))
	for range 10 {
		b.reaches(t, b.Client, clusterIP+":80", "", "pod2")
		b.reaches(t, b.Client, nodeIP+":30080", "", "pod2")
	}
	b.set(t, service(onNodePort, local), ending(pod1IP, "n1"), at(pod2IP, "n2"))
	b.reaches(t, b.Client, nodeIP+":30080", clientIP, "pod1")
	b.set(t, service(), ending(pod1IP, "n1"), ending(pod2IP, "n2"))
	b.reaches(t, b.Client, clusterIP+":80", "", "pod1", "pod2")
}

// distribution follows the hints that trafficDistribution leaves in slices.
func (b *bench) distribution(t *testing.T) {
	hinted := func(ip, node string, hints discovery.EndpointHints) discovery.Endpoint {
		e := at(ip, node)
		e.Hints = &hints
		return e
	}
	zone := func(name string) discovery.EndpointHints {
		return discovery.EndpointHints{ForZones: []discovery.ForZone{{Name: name}}}
	}
	onNode := func(name string) discovery.EndpointHints {
		h := zone("z1")
		h.ForNodes = []discovery.ForNode{{Name: name}}
		return h
	}
	only := func(name string) {
		t.Helper()
		for range 10 {
			b.reaches(t, b.Client, clusterIP+":80", "", name)
		}
	}
	b.set(t, service(), hinted(pod1IP, "n1", zone("z2")), hinted(pod2IP, "n2", zone("z1"))) // PreferSameZone
	only("pod2")
	b.set(t, service(), hinted(pod1IP, "n1", onNode("n1")), hinted(pod2IP, "n2", onNode("n2"))) // PreferSameNode
	only("pod1")
	// No endpoint is hinted for this node or zone: all are better than none.
	b.set(t, service(), hinted(pod1IP, "n1", zone("z2")), hinted(pod2IP, "n2", zone("z3")))
	b.reaches(t, b.Client, clusterIP+":80", "", "pod1", "pod2")
	b.set(t, service(), hinted(pod1IP, "n1", zone("z1")), at(pod2IP, "n2"))
	b.reaches(t, b.Client, clusterIP+":80", "", "pod1", "pod2")
}

// manyEndpoints are more than those that share what leads to them.
func (b *bench) manyEndpoints(t *testing.T) {
	var eps []discovery.Endpoint
	for i := range 40 {
		eps = append(eps, at(fmt.Sprint("10.2.200.", i), "n2"))
	}
	b.set(t, service(onNodePort), append(eps, at(pod1IP, "n1"))...)
	b.set(t, service(onNodePort), at(pod1IP, "n1"), at(pod2IP, "n2"))
	b.reaches(t, b.Client, clusterIP+":80", "", "pod1", "pod2")
	b.reaches(t, b.Client, nodeIP+":30080", "", "pod1", "pod2")
	// Of eighteen one answers. The kernel remembers connections to the others, so
	// they are to an address of their own.
	const ip = "10.96.0.9"
	b.set(t, service(func(s *v1.Service) { s.Spec.ClusterIP, s.Spec.ClusterIPs = ip, nil }), append(eps[:17], at(pod1IP, "n1"))...)
	for range 200 {
		if who, _, err := b.Client.Ask("tcp", ip+":80", impatience/10); err == nil {
			if who != "pod1" {
				t.Errorf("%s answers, want pod1", who)
			}
			return
		}
	}
	t.Error("none of eighteen endpoints ever answers")
}

// sctp sends the first packet of an association: this needs no sockets of the
// protocol, which few kernels have.
func (b *bench) sctp(t *testing.T) {
	b.set(t, service(func(s *v1.Service) { s.Spec.Ports[0].Protocol = v1.ProtocolSCTP }), at(pod1IP, "n1"))
	var hears, speaks net.PacketConn
	b.Pod1.Must(t, func() (err error) {
		hears, err = net.ListenPacket("ip4:132", pod1IP)
		return err
	})
	defer hears.Close()
	b.Client.Must(t, func() (err error) {
		speaks, err = net.ListenPacket("ip4:132", clientIP)
		return err
	})
	defer speaks.Close()
	to := &net.IPAddr{IP: net.ParseIP(clusterIP)}
	if _, err := speaks.WriteTo(sctpInit(40000, 80), to); err != nil {
		t.Fatal(err)
	}
	if err := hears.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	packet := make([]byte, 256)
	n, _, err := hears.ReadFrom(packet)
	if err != nil {
		t.Fatalf("the pod hears nothing: %v", err)
	}
	if got := binary.BigEndian.Uint16(packet[2:]); n < 32 || got != Port {
		t.Errorf("%d bytes to port %d, want 32 to port %d", n, got, Port)
	}
}

// sctpInit is a packet with an INIT chunk.
func sctpInit(from, to uint16) []byte {
	p := make([]byte, 32)
	binary.BigEndian.PutUint16(p, from)
	binary.BigEndian.PutUint16(p[2:], to)
	// The verification tag of an INIT is 0.
	p[12] = 1                                  // INIT
	binary.BigEndian.PutUint16(p[14:], 20)     // the chunk's length
	binary.BigEndian.PutUint32(p[16:], 0x1234) // the tag of answers
	binary.BigEndian.PutUint32(p[20:], 65535)  // the window
	binary.BigEndian.PutUint16(p[24:], 1)      // streams out
	binary.BigEndian.PutUint16(p[26:], 1)      // streams in
	binary.BigEndian.PutUint32(p[28:], 1)      // the first sequence number
	binary.LittleEndian.PutUint32(p[8:], crc32.Checksum(p, crc32.MakeTable(crc32.Castagnoli)))
	return p
}

// twoFamilies is a Service of both: IPv6 has a writer of its own beside IPv4's.
func (b *bench) twoFamilies(t *testing.T) {
	const ip6, public6 = "fd00:96::7", "2001:db8::9"
	var w Writer
	b.Node.Must(t, func() (err error) {
		w, err = b.kit.New(state.Local{Ranges: []netip.Prefix{Pods6()}}, true)
		return err
	})
	table := state.NewTable()
	set := func(s *v1.Service, eps ...discovery.Endpoint) {
		t.Helper()
		s.Spec.ClusterIPs = append(s.Spec.ClusterIPs, ip6)
		slice := &discovery.EndpointSlice{AddressType: discovery.AddressTypeIPv6, Endpoints: eps, Ports: []discovery.EndpointPort{{
			Name: ptr.To(""), Port: ptr.To[int32](Port), Protocol: ptr.To(v1.ProtocolTCP),
		}}}
		ports := state.Ports(s, []*discovery.EndpointSlice{slice}, state.Node{Name: "n1", IPv6: true})
		table.Set(types.NamespacedName{Namespace: s.Namespace, Name: s.Name}, ports)
		b.Node.Must(t, func() error { return w.Sync(context.Background(), table, false) })
	}
	to := func(ip, port string) string { return net.JoinHostPort(ip, port) }
	local := func(s *v1.Service) { s.Spec.ExternalTrafficPolicy = v1.ServiceExternalTrafficPolicyLocal }
	public := func(s *v1.Service) {
		s.Status.LoadBalancer.Ingress = append(s.Status.LoadBalancer.Ingress, v1.LoadBalancerIngress{IP: public6})
	}
	only := func(r string) func(*v1.Service) {
		return func(s *v1.Service) { s.Spec.LoadBalancerSourceRanges = []string{"192.0.2.0/24", r} }
	}

	b.set(t, service(onBalancer), at(pod1IP, "n1"))
	set(service(onBalancer, public), at(pod1IP6, "n1"), at(pod2IP6, "n2"))
	b.reaches(t, b.Client, clusterIP+":80", "", "pod1")
	b.reaches(t, b.Client, to(ip6, "80"), "", "pod1", "pod2")
	b.reaches(t, b.Node, to(ip6, "80"), "", "pod1", "pod2")
	b.reaches(t, b.Client, to(nodeIP6, "30080"), "", "pod1", "pod2")
	b.reaches(t, b.Client, to(public6, "80"), "", "pod1", "pod2")
	set(service(), at(pod1IP6, "n1"))
	b.reaches(t, b.Pod2, to(ip6, "80"), pod2IP6, "pod1")
	b.reaches(t, b.Client, to(ip6, "80"), "fd01:2:1::1", "pod1")
	b.reaches(t, b.Pod1, to(ip6, "80"), "fd01:2:1::1", "pod1") // to itself
	set(service(onBalancer, public, local), at(pod1IP6, "n1"), at(pod2IP6, "n2"))
	for range 10 {
		b.reaches(t, b.Client, to(nodeIP6, "30080"), clientIP6, "pod1")
	}
	set(service(onBalancer, public, only("fd01:1::/64")), at(pod2IP6, "n2"))
	b.reaches(t, b.Client, to(public6, "80"), "", "pod2")
	b.silent(t, b.Pod1, to(public6, "80"))
	set(service(sticky), at(pod1IP6, "n1"), at(pod2IP6, "n2"))
	first, _, err := b.Client.Ask("tcp", to(ip6, "80"), patience)
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		b.reaches(t, b.Client, to(ip6, "80"), "", first)
	}
	set(service(onNodePort))
	b.refused(t, b.Client, to(ip6, "80"))
	b.refused(t, b.Client, to(nodeIP6, "30080"))
}

// nodePortAddresses are some of the node's.
func (b *bench) nodePortAddresses(t *testing.T) {
	b.set(t, service(onNodePort), at(pod1IP, "n1"))
	b.reaches(t, b.Client, outsideIP+":30080", "", "pod1")
	b.renew(t, byRange(), netip.MustParsePrefix("10.1.0.0/24"))
	b.reaches(t, b.Client, nodeIP+":30080", "", "pod1")
	b.refused(t, b.Client, outsideIP+":30080")
	b.refused(t, b.Node, "127.0.0.1:30080")
	b.renew(t, byRange())
	b.reaches(t, b.Client, outsideIP+":30080", "", "pod1")
}

// byRange knows the pods by their addresses.
func byRange() state.Local { return state.Local{Ranges: []netip.Prefix{Pods()}} }

// byLink knows the pods by the links that their packets come in by: what others ask
// is masqueraded, and they alone use the endpoints of other nodes.
func (b *bench) byLink(t *testing.T) {
	for _, local := range []state.Local{{Link: "pod", AllLike: true}, {Link: "pod1"}} {
		b.renew(t, local)
		b.set(t, service(), at(pod2IP, "n2"))
		b.reaches(t, b.Pod1, clusterIP+":80", pod1IP, "pod2")
		b.reaches(t, b.Client, clusterIP+":80", "10.2.2.1", "pod2")
		b.set(t, service(onNodePort, func(s *v1.Service) {
			s.Spec.ExternalTrafficPolicy = v1.ServiceExternalTrafficPolicyLocal
		}), at(pod2IP, "n2"))
		b.reaches(t, b.Pod1, nodeIP+":30080", "", "pod2")
		b.silent(t, b.Client, nodeIP+":30080")
	}
	b.renew(t, byRange())
}

// renew is a new process over the rules of the one before.
func (b *bench) renew(t *testing.T, local state.Local, nodePorts ...netip.Prefix) {
	t.Helper()
	b.Node.Must(t, func() (err error) {
		b.writer, err = b.kit.New(local, false, nodePorts...)
		return err
	})
	b.sync(t, true)
}

// restartUnderLoad renews the writer while a client asks: no answer is missing.
func (b *bench) restartUnderLoad(t *testing.T) {
	b.set(t, service(onNodePort), at(pod1IP, "n1"), at(pod2IP, "n2"))
	b.AskedAllTheWhile(t, clusterIP+":80", func() {
		for range 5 {
			b.renew(t, byRange())
		}
	})
}

// AskedAllTheWhile has the client ask for as long as change runs. Every question
// must be answered.
func (w *World) AskedAllTheWhile(t *testing.T, to string, change func()) {
	t.Helper()
	stop := make(chan struct{})
	var asking sync.WaitGroup
	var asked int
	asking.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			// What no rule leads to an endpoint is refused by who gets it.
			if _, _, err := w.Client.Ask("tcp", to, patience); err != nil {
				t.Errorf("after %d answers: %v", asked, err)
				return
			}
			asked++
		}
	})
	change()
	close(stop)
	asking.Wait()
	if asked == 0 {
		t.Error("nothing was asked")
	}
}
