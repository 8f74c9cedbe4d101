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
)

// space is a network namespace with a thread that lives in it.
type space struct {
	work chan func()
	ns   netns.NsHandle
}

func newSpace(t testing.TB) *space {
	t.Helper()
	s := &space{work: make(chan func())}
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
	s.must(t, func() error { return up("lo", "") })
	return s
}

// do runs f in the namespace. Sockets that f opens, and programs that it
// starts, are in it.
func (s *space) do(f func() error) error {
	done := make(chan error, 1)
	s.work <- func() { done <- f() }
	return <-done
}

func (s *space) must(t testing.TB, f func() error) {
	t.Helper()
	if err := s.do(f); err != nil {
		t.Fatal(err)
	}
}

func up(name, addr string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	if addr != "" {
		a, err := netlink.ParseAddr(addr)
		if err != nil {
			return err
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

// Pods is the range of the pods' addresses.
func Pods() netip.Prefix { return netip.MustParsePrefix("10.2.0.0/16") }

type world struct {
	node, client, pod1, pod2 *space
}

func newWorld(t testing.TB) *world {
	w := &world{node: newSpace(t), client: newSpace(t), pod1: newSpace(t), pod2: newSpace(t)}
	w.node.must(t, func() error {
		var errs []error
		for path, value := range map[string]string{
			"/proc/sys/net/ipv4/ip_forward": "1", "/proc/sys/net/ipv4/conf/all/route_localnet": "1",
		} {
			errs = append(errs, os.WriteFile(path, []byte(value), 0))
		}
		return errors.Join(errs...)
	})
	w.link(t, w.client, "client", nodeIP+"/24", clientIP+"/24")
	w.link(t, newSpace(t), "outside", "10.3.0.1/24", "10.3.0.2/24")
	// What the node sends to an address that no rule translates leaves this way.
	w.node.must(t, func() error { return netlink.RouteAdd(&netlink.Route{Gw: net.ParseIP("10.3.0.2")}) })
	w.link(t, w.pod1, "pod1", "10.2.1.1/24", pod1IP+"/24")
	w.link(t, w.pod2, "pod2", "10.2.2.1/24", pod2IP+"/24")
	for name, pod := range map[string]*space{"pod1": w.pod1, "pod2": w.pod2} {
		answerTCP(t, pod, name)
		answerUDP(t, pod, name)
	}
	return w
}

func (w *world) link(t testing.TB, s *space, name, nodeAddr, addr string) {
	t.Helper()
	w.node.must(t, func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = name
		if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsFd(s.ns)}); err != nil {
			return err
		}
		return up(name, nodeAddr)
	})
	s.must(t, func() error {
		if err := up("eth0", addr); err != nil {
			return err
		}
		return netlink.RouteAdd(&netlink.Route{Gw: net.ParseIP(strings.TrimSuffix(nodeAddr, "/24"))})
	})
}

// port is where the pods answer with their name and the caller's address.
const port = 8080

func answerTCP(t testing.TB, pod *space, name string) {
	t.Helper()
	var l net.Listener
	pod.must(t, func() (err error) {
		l, err = net.Listen("tcp4", fmt.Sprintf(":%d", port))
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

func answerUDP(t testing.TB, pod *space, name string) {
	t.Helper()
	var c *net.UDPConn
	pod.must(t, func() (err error) {
		c, err = net.ListenUDP("udp4", &net.UDPAddr{Port: port})
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

// The time to wait for an answer that should come, and for one that should not.
const (
	patience   = 3 * time.Second
	impatience = 250 * time.Millisecond
)

// ask opens a connection from the namespace and returns who answered, and as
// whom it saw the caller.
func (s *space) ask(network, to string, wait time.Duration) (who, sawCaller string, err error) {
	err = s.do(func() error {
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
