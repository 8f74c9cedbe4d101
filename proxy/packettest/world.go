package packettest

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Space is a network namespace with a thread that lives in it.
type Space struct {
	work chan func()
	ns   netns.NsHandle
}

func newSpace(t testing.TB) *Space {
	t.Helper()
	s := &Space{work: make(chan func())}
	made := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		var err error
		s.ns, err = netns.New()
		made <- err
		for f := range s.work {
			f()
		}
	}()
	if err := <-made; err != nil {
		t.Skipf("network namespaces cannot be made: %v", err)
	}
	t.Cleanup(func() {
		close(s.work)
		s.ns.Close()
	})
	s.Must(t, func() error { return up("lo") })
	return s
}

// Do runs f in the namespace. Sockets that f opens, and programs that it
// starts, are in it.
func (s *Space) Do(f func() error) error {
	done := make(chan error, 1)
	s.work <- func() { done <- f() }
	return <-done
}

func (s *Space) Must(t testing.TB, f func() error) {
	t.Helper()
	if err := s.Do(f); err != nil {
		t.Fatal(err)
	}
}

// Start runs f in the namespace on a thread of its own, beside what Do runs.
func (s *Space) Start(f func() error) (done <-chan error) {
	out := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if err := netns.Set(s.ns); err != nil {
			out <- err
			return
		}
		out <- f()
	}()
	return out
}

func up(name string, addrs ...string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	for _, text := range addrs {
		a, err := netlink.ParseAddr(text)
		if err != nil {
			return err
		}
		if a.IP.To4() == nil {
			a.Flags = unix.IFA_F_NODAD
		}
		if err := netlink.AddrAdd(link, a); err != nil {
			return err
		}
	}
	return netlink.LinkSetUp(link)
}

// The addresses of the world. A client outside of the cluster reaches the node
// over one link, the node its pods over one link each.
const (
	nodeIP   = "10.1.0.1"
	clientIP = "10.1.0.2"
	pod1IP   = "10.2.1.2"
	pod2IP   = "10.2.2.2"
)

// outsideIP is the node's on another link.
const outsideIP = "10.3.0.1"

// The same links' IPv6 addresses.
const (
	nodeIP6   = "fd01:1::1"
	clientIP6 = "fd01:1::2"
	pod1IP6   = "fd01:2:1::2"
	pod2IP6   = "fd01:2:2::2"
)

// Pods and Pods6 are the ranges of the pods' addresses.
func Pods() netip.Prefix  { return netip.MustParsePrefix("10.2.0.0/16") }
func Pods6() netip.Prefix { return netip.MustParsePrefix("fd01:2::/32") }

// World is a node with two pods, and a client outside of the cluster.
type World struct {
	Node, Client, Pod1, Pod2 *Space
}

// NewWorld makes one, which the end of the test takes away.
func NewWorld(t testing.TB) *World {
	w := &World{Node: newSpace(t), Client: newSpace(t), Pod1: newSpace(t), Pod2: newSpace(t)}
	w.Node.Must(t, func() error {
		var errs []error
		for path, value := range map[string]string{
			"/proc/sys/net/ipv4/ip_forward": "1", "/proc/sys/net/ipv4/conf/all/route_localnet": "1",
			"/proc/sys/net/ipv6/conf/all/forwarding": "1",
		} {
			errs = append(errs, os.WriteFile(path, []byte(value), 0))
		}
		return errors.Join(errs...)
	})
	w.link(t, w.Client, "client", nodeIP, clientIP, nodeIP6, clientIP6)
	w.link(t, newSpace(t), "outside", outsideIP, "10.3.0.2", "fd01:3::1", "fd01:3::2")
	// What the node sends to an address that no rule translates leaves this way.
	w.Node.Must(t, func() error {
		return errors.Join(netlink.RouteAdd(&netlink.Route{Gw: net.ParseIP("10.3.0.2")}), netlink.RouteAdd(&netlink.Route{Gw: net.ParseIP("fd01:3::2")}))
	})
	w.link(t, w.Pod1, "pod1", "10.2.1.1", pod1IP, "fd01:2:1::1", pod1IP6)
	w.link(t, w.Pod2, "pod2", "10.2.2.1", pod2IP, "fd01:2:2::1", pod2IP6)
	for name, pod := range map[string]*Space{"pod1": w.Pod1, "pod2": w.Pod2} {
		answerTCP(t, pod, name)
		answerUDP(t, pod, name)
	}
	return w
}

func (w *World) link(t testing.TB, s *Space, name, nodeAddr, addr, nodeAddr6, addr6 string) {
	t.Helper()
	near, far := []string{nodeAddr + "/24", nodeAddr6 + "/64"}, []string{addr + "/24", addr6 + "/64"}
	w.Node.Must(t, func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = name
		if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsFd(s.ns)}); err != nil {
			return err
		}
		return up(name, near...)
	})
	s.Must(t, func() error {
		if err := up("eth0", far...); err != nil {
			return err
		}
		return errors.Join(netlink.RouteAdd(&netlink.Route{Gw: net.ParseIP(nodeAddr)}), netlink.RouteAdd(&netlink.Route{Gw: net.ParseIP(nodeAddr6)}))
	})
}

// Port is where the pods answer with their name and the caller's address.
const Port = 8080

func answerTCP(t testing.TB, pod *Space, name string) {
	t.Helper()
	var l net.Listener
	pod.Must(t, func() (err error) {
		l, err = net.Listen("tcp", fmt.Sprintf(":%d", Port))
		return err
	})
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprintf(c, "%s %s\n", name, c.RemoteAddr().(*net.TCPAddr).IP)
			c.Close()
		}
	}()
}

func answerUDP(t testing.TB, pod *Space, name string) {
	t.Helper()
	var c *net.UDPConn
	pod.Must(t, func() (err error) {
		c, err = net.ListenUDP("udp", &net.UDPAddr{Port: Port})
		return err
	})
	t.Cleanup(func() { c.Close() })
	go func() {
		buf := make([]byte, 64)
		for {
			_, from, err := c.ReadFromUDP(buf)
			if err != nil {
				return
			}
			_, _ = c.WriteToUDP([]byte(name+" "+from.IP.String()+"\n"), from) // the caller may be gone
		}
	}()
}

// The time to wait for an answer that should come, and for one that should not. The
// first is long: on a busy machine a packet that was lost is sent again after 1, 3 and 7
// seconds.
const (
	patience   = 20 * time.Second
	impatience = 250 * time.Millisecond
)

// Ask opens a connection from the namespace and returns who answered, and as
// whom it saw the caller.
func (s *Space) Ask(network, to string, wait time.Duration) (who, sawCaller string, err error) {
	err = s.Do(func() error {
		c, err := net.DialTimeout(network, to, wait)
		if err != nil {
			return err
		}
		defer c.Close()
		who, sawCaller, err = exchange(c, wait)
		return err
	})
	return who, sawCaller, err
}

func exchange(c net.Conn, wait time.Duration) (who, sawCaller string, err error) {
	if err := c.SetDeadline(time.Now().Add(wait)); err != nil {
		return "", "", err
	}
	if _, ok := c.(*net.UDPConn); ok {
		if _, err := c.Write([]byte("hello")); err != nil {
			return "", "", err
		}
	}
	text, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		return "", "", err
	}
	who, sawCaller, _ = strings.Cut(strings.TrimSpace(text), " ")
	return who, sawCaller, nil
}

// PodIPs are the pods' IPv4 addresses.
func PodIPs() []string { return []string{pod1IP, pod2IP} }
