package network

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
)

// space is a network namespace, bound to a file.
type space struct {
	t    *testing.T
	path string
}

func newSpace(t *testing.T) space {
	t.Helper()
	s := space{t, filepath.Join(t.TempDir(), "ns")}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // the thread ends with the goroutine
		done <- func() error {
			if _, err := netns.New(); err != nil {
				return err
			}
			if err := os.WriteFile(s.path, nil, 0o600); err != nil {
				return err
			}
			return bindMount("/proc/thread-self/ns/net", s.path)
		}()
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unmount(s.path); err != nil {
			t.Error(err)
		}
	})
	s.in(func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		return netlink.LinkSetUp(lo)
	})
	return s
}

// in runs f in the namespace.
func (s space) in(f func() error) {
	s.t.Helper()
	if err := s.try(f); err != nil {
		s.t.Fatal(err)
	}
}

func (s space) try(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		ns, err := netns.GetFromPath(s.path)
		if err == nil {
			err = netns.Set(ns)
			ns.Close()
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

// serve answers connections in the namespace with the address they come from.
func (s space) serve(address string) {
	s.t.Helper()
	var l net.Listener
	s.in(func() (err error) {
		l, err = net.Listen("tcp", address)
		return err
	})
	s.t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			host, _, _ := net.SplitHostPort(c.RemoteAddr().String())
			fmt.Fprint(c, host)
			c.Close()
		}
	}()
}

// ask connects from the namespace and returns the answer.
func (s space) ask(address string) (answer string, err error) {
	err = s.try(func() error {
		c, err := net.DialTimeout("tcp", address, 3*time.Second)
		if err != nil {
			return err
		}
		defer c.Close()
		data, err := io.ReadAll(c)
		answer = string(data)
		return err
	})
	return answer, err
}

func clusterCIDRs() []netip.Prefix {
	return []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:244::/32")}
}

// host is a node: a namespace with the built-in network.
type host struct {
	space
	ip   netip.Addr
	cidr netip.Prefix
	net  *PointToPoint
	dir  string
}

// twoHosts are nodes on one link.
func twoHosts(t *testing.T) (a, b *host) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	a = &host{space: newSpace(t), ip: netip.MustParseAddr("10.99.0.1"), cidr: netip.MustParsePrefix("10.244.0.0/24"), dir: t.TempDir()}
	b = &host{space: newSpace(t), ip: netip.MustParseAddr("10.99.0.2"), cidr: netip.MustParsePrefix("10.244.1.0/24"), dir: t.TempDir()}
	a.in(func() error {
		ns, err := netns.GetFromPath(b.path)
		if err != nil {
			return err
		}
		defer ns.Close()
		attrs := netlink.NewLinkAttrs()
		attrs.Name = "up0"
		return netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "up0", PeerNamespace: netlink.NsFd(ns)})
	})
	for _, h := range []*host{a, b} {
		h.in(func() error {
			link, err := netlink.LinkByName("up0")
			if err != nil {
				return err
			}
			addr := &netlink.Addr{IPNet: &net.IPNet{IP: h.ip.AsSlice(), Mask: net.CIDRMask(24, 32)}}
			if err := netlink.AddrAdd(link, addr); err != nil {
				return err
			}
			return netlink.LinkSetUp(link)
		})
		h.open()
	}
	return a, b
}

func (h *host) open() {
	h.t.Helper()
	h.in(func() (err error) {
		h.net, err = New(Config{StateDir: h.dir, ClusterCIDRs: clusterCIDRs(), Overhead: 50})
		if err != nil {
			return err
		}
		return h.net.SetPodCIDRs(context.Background(), []netip.Prefix{h.cidr})
	})
}

func (h *host) pod(id string, ports ...PortMapping) (space, netip.Addr) {
	h.t.Helper()
	s := newSpace(h.t)
	var r Result
	h.in(func() (err error) {
		r, err = h.net.Setup(context.Background(), Pod{ID: id, Namespace: "default", Name: id, NetNSPath: s.path, PortMappings: ports})
		return err
	})
	return s, r.IPs[0]
}

func TestPodsTalk(t *testing.T) {
	for _, backend := range []Backend{VXLAN, HostGateway, WireGuard} {
		t.Run(string(backend), func(t *testing.T) {
			if backend == WireGuard {
				needWireGuard(t)
			}
			podsTalk(t, backend)
		})
	}
}

func podsTalk(t *testing.T, backend Backend) {
	a, b := twoHosts(t)
	client := fake.NewClientset(node("a", a), node("b", b))
	// What another backend left is no second way.
	other := map[Backend]Backend{VXLAN: HostGateway, HostGateway: VXLAN, WireGuard: VXLAN}[backend]
	for _, each := range []Backend{other, backend, backend} {
		for h, name := range map[*host]string{a: "a", b: "b"} {
			o := h.overlay(client, name, each)
			h.in(func() error { return o.sync(context.Background()) })
		}
	}
	// A node's packets to another's pods come from the overlay's address, where
	// there is one.
	farNode := map[Backend]netip.Addr{VXLAN: b.cidr.Addr(), HostGateway: b.ip, WireGuard: b.cidr.Addr()}[backend]
	first, firstIP := a.pod("first0123456789", PortMapping{Protocol: TCP, HostPort: 8081, ContainerPort: 80})
	second, secondIP := a.pod("second0123456789")
	far, farIP := b.pod("far0123456789")
	first.serve(":80")
	far.serve(":80")
	a.serve(":9000")
	b.serve(":9000")
	for _, tc := range []struct {
		name string
		from space
		to   string
		want string
	}{
		{"pod to pod on a node", second, net.JoinHostPort(firstIP.String(), "80"), secondIP.String()},
		{"pod to pod on another node", far, net.JoinHostPort(firstIP.String(), "80"), farIP.String()},
		{"pod to itself", first, net.JoinHostPort(firstIP.String(), "80"), firstIP.String()},
		{"node to its pod", a.space, net.JoinHostPort(firstIP.String(), "80"), gateway(a.cidr).String()},
		{"node to a pod of another", b.space, net.JoinHostPort(firstIP.String(), "80"), farNode.String()},
		{"pod to its node", first, "10.99.0.1:9000", firstIP.String()},
		{"pod to another node is masqueraded", first, "10.99.0.2:9000", a.ip.String()},
		{"host port from another node", b.space, "10.99.0.1:8081", b.ip.String()},
		{"host port from the node's loopback", a.space, "127.0.0.1:8081", gateway(a.cidr).String()},
		{"host port from the pod itself", first, "10.99.0.1:8081", gateway(a.cidr).String()},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := tc.from.ask(tc.to)
			if err != nil || got != tc.want {
				t.Errorf("came from %q, %v, want %s", got, err, tc.want)
			}
		})
	}
	// Another program flushes the host's rules; they are made again, host ports too.
	a.in(func() error {
		for _, table := range []string{"nat", "filter"} {
			if err := exec.Command("iptables", "-t", table, "-F").Run(); err != nil {
				return err
			}
		}
		return nil
	})
	if _, err := b.ask("10.99.0.1:8081"); err == nil {
		t.Error("a host port without rules answers")
	}
	a.in(a.net.Repair)
	if got, err := b.ask("10.99.0.1:8081"); err != nil || got != b.ip.String() {
		t.Errorf("after the repair the host port is asked from %q, %v, want %s", got, err, b.ip)
	}
	if got, err := first.ask("10.99.0.2:9000"); err != nil || got != a.ip.String() {
		t.Errorf("after the repair a pod comes to another node from %q, %v, want %s", got, err, a.ip)
	}
	// A new process finds the addresses in use, and frees what is of no pod.
	a.open()
	if owners := a.net.ipam.owners(); len(owners) != 2 {
		t.Errorf("owners after a restart: %v", owners)
	}
	a.in(func() error { return a.net.Reconcile(context.Background(), []string{"second0123456789"}) })
	if _, err := b.space.ask("10.99.0.1:8081"); err == nil {
		t.Error("the host port of a pod that is gone still answers")
	}
	if owners := a.net.ipam.owners(); !cmp.Equal(owners, map[string]bool{"second0123456789": true}) {
		t.Errorf("owners after reconciling: %v", owners)
	}
}

func node(name string, h *host) *v1.Node {
	return &v1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       v1.NodeSpec{PodCIDRs: []string{h.cidr.String()}},
		Status:     v1.NodeStatus{Addresses: []v1.NodeAddress{{Type: v1.NodeInternalIP, Address: h.ip.String()}}},
	}
}

// Covers: net.ipam
func TestAddresses(t *testing.T) {
	dir := t.TempDir()
	small := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/29"), netip.MustParsePrefix("fd00::/125")}
	a, err := openIPAM(dir)
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[netip.Addr]bool)
	for i := range 5 {
		ips, err := a.allocate(fmt.Sprint(i), small)
		if err != nil {
			t.Fatal(err)
		}
		for _, ip := range ips {
			if seen[ip] || ip == gateway(small[0]) || ip == gateway(small[1]) {
				t.Errorf("%s was given twice or is the gateway", ip)
			}
			seen[ip] = true
		}
	}
	if _, err := a.allocate("more", small); err == nil {
		t.Error("a sixth pod got an address of a /29")
	}
	if len(a.owned("more")) != 0 {
		t.Error("a failed allocation keeps addresses")
	}
	// A file that a crash has cut short belongs to no one.
	if err := os.WriteFile(filepath.Join(dir, "10.0.0.3"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if a, err = openIPAM(dir); err != nil {
		t.Fatal(err)
	}
	got, err := a.allocate("again", small[:1])
	if err != nil || got[0] != netip.MustParseAddr("10.0.0.3") {
		t.Errorf("allocated %v, %v", got, err)
	}
}

// TestClean takes away what is ours, and nothing of other programs.
func TestClean(t *testing.T) {
	a, _ := twoHosts(t)
	a.pod("first0123456789", PortMapping{Protocol: TCP, HostPort: 8081, ContainerPort: 80})
	link := func(name string) *netlink.LinkAttrs {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = name
		return &attrs
	}
	a.in(func() error {
		if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: *link("docker0")}); err != nil {
			return err
		}
		bridge, err := netlink.LinkByName("docker0")
		if err != nil {
			return err
		}
		for name, master := range map[string]int{"vetha1b2c3d": bridge.Attrs().Index, "vethother": 0} {
			attrs := link(name)
			attrs.MasterIndex = master
			if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: *attrs, PeerName: "p" + name[4:]}); err != nil {
				return err
			}
		}
		return exec.Command("iptables", "-t", "nat", "-A", "POSTROUTING", "-s", "192.0.2.0/24", "-j", "MASQUERADE").Run()
	})
	a.in(Clean)
	a.in(func() error {
		for name, want := range map[string]bool{"docker0": true, "vetha1b2c3d": true, "vethother": true, "up0": true, hostLink("first0123456789"): false} {
			if _, err := netlink.LinkByName(name); (err == nil) != want {
				t.Errorf("link %s: %v, want it there: %v", name, err, want)
			}
		}
		out, err := exec.Command("iptables-save").Output()
		if strings.Contains(string(out), "SKIFF") || !strings.Contains(string(out), "192.0.2.0/24") {
			t.Errorf("the rules after the clean-up:\n%s", out)
		}
		return err
	})
}

// TestBandwidth sends more than the limit lets through at once, each way: a
// limiter may be late, but never early.
func TestBandwidth(t *testing.T) {
	const bytesPerSecond, sent = 256 << 10, 384 << 10
	for name, limit := range map[string]Bandwidth{"ingress": {Ingress: 8 * bytesPerSecond}, "egress": {Egress: 8 * bytesPerSecond}} {
		t.Run(name, func(t *testing.T) {
			a, _ := twoHosts(t)
			limited := newSpace(t)
			var r Result
			err := a.try(func() (err error) {
				r, err = a.net.Setup(context.Background(), Pod{ID: "limited0123456789", Namespace: "default", Name: "p", NetNSPath: limited.path, Bandwidth: limit})
				return err
			})
			if err != nil && strings.Contains(err.Error(), "the kernel needs") {
				t.Skip(err)
			}
			if err != nil {
				t.Fatal(err)
			}
			var l net.Listener
			limited.in(func() (err error) {
				l, err = net.Listen("tcp", ":80")
				return err
			})
			defer l.Close()
			go func() {
				c, err := l.Accept()
				if err != nil {
					return
				}
				defer c.Close()
				// Back comes as much as came; the test sees when it is less.
				data, _ := io.ReadAll(io.LimitReader(c, sent))
				_, _ = c.Write(make([]byte, len(data)))
			}()
			a.in(func() error {
				began := time.Now()
				c, err := net.DialTimeout("tcp", net.JoinHostPort(r.IPs[0].String(), "80"), 5*time.Second)
				if err != nil {
					return err
				}
				defer c.Close()
				if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
					return err
				}
				if _, err := c.Write(make([]byte, sent)); err != nil {
					return err
				}
				back, err := io.Copy(io.Discard, c)
				// A tenth of a second, or 32 KiB, may pass at once.
				if took := time.Since(began); err != nil || back != sent || took < (sent-64<<10)*time.Second/bytesPerSecond*9/10 {
					t.Errorf("%d bytes there and %d back in %v, %v", sent, back, took, err)
				}
				return nil
			})
		})
	}
}

// TestMTU leaves room for what the way between nodes adds.
func TestMTU(t *testing.T) {
	a, _ := twoHosts(t)
	a.in(func() error {
		link, err := netlink.LinkByName("up0")
		if err != nil {
			return err
		}
		if err := netlink.LinkSetMTU(link, 1400); err != nil {
			return err
		}
		return netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: net.ParseIP("10.99.0.2")})
	})
	for backend, want := range map[Backend]int{VXLAN: 1350, HostGateway: 1400, WireGuard: 1340} {
		a.net.cfg.Overhead = backend.Overhead(a.ip)
		pod, _ := a.pod(strings.ReplaceAll(string(backend), "-", "") + "0123456789")
		pod.in(func() error {
			link, err := netlink.LinkByName("eth0")
			if err == nil && link.Attrs().MTU != want {
				t.Errorf("%s: a pod's MTU is %d, want %d", backend, link.Attrs().MTU, want)
			}
			return err
		})
	}
}
