package network

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/wgctrl"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
)

// testKey is a public key that a test can name by a byte.
func testKey(b byte) wgtypes.Key { return wgtypes.Key{b} }

// wireGuardPlace is a node that has announced its key.
func wireGuardPlace(name string, since int, ip string, key string, cidrs ...string) place {
	p := place{Name: name, Since: time.Unix(int64(since), 0), IP: netip.MustParseAddr(ip), announcement: announcement{key, "51820"}}
	p.IPs = []netip.Addr{p.IP}
	for _, c := range cidrs {
		p.CIDRs = append(p.CIDRs, netip.MustParsePrefix(c))
	}
	return p
}

func TestTunnel(t *testing.T) {
	self := wireGuardPlace("self", 1, "10.0.0.1", "", "10.244.0.0/24")
	own := testKey(1)
	other := func(change func(*place)) place {
		p := wireGuardPlace("other", 2, "10.0.0.2", testKey(2).String(), "10.244.1.0/24", "fd00:244:1::/64")
		change(&p)
		return p
	}
	same := func(*place) {}
	for _, tc := range []struct {
		name  string
		self  place
		peers []place
		// want are "endpoint: allowed IPs", wantErr what the errors say.
		want, wantErr []string
	}{
		{name: "alone", self: self},
		{name: "both families", self: self, peers: []place{other(same)}, want: []string{"10.0.0.2:51820: 10.244.1.0/24 fd00:244:1::/64"}},
		{name: "a port of its own", self: self, peers: []place{other(func(p *place) { p.Port = "4000" })}, want: []string{"10.0.0.2:4000: 10.244.1.0/24 fd00:244:1::/64"}},
		{name: "the address of this node's family", self: self, peers: []place{other(func(p *place) {
			p.IP = netip.MustParseAddr("fd00::2")
			p.IPs = []netip.Addr{p.IP, netip.MustParseAddr("10.0.0.2")}
		})}, want: []string{"10.0.0.2:51820: 10.244.1.0/24 fd00:244:1::/64"}},
		{name: "no address of this node's family", self: wireGuardPlace("self", 1, "fd00::1", ""), peers: []place{other(same)},
			want: []string{"10.0.0.2:51820: 10.244.1.0/24 fd00:244:1::/64"}},
		{name: "nothing announced yet", self: self, peers: []place{other(func(p *place) { p.announcement = announcement{} })}},
		{name: "no key", self: self, peers: []place{other(func(p *place) { p.Key = "secret" })}, wantErr: []string{`node other: annotation network.skiff.io/wireguard-public-key "secret"`}},
		{name: "no port", self: self, peers: []place{other(func(p *place) { p.Port = "0" })}, wantErr: []string{`node other: annotation network.skiff.io/wireguard-port "0"`}},
		{name: "this node's key", self: self, peers: []place{other(func(p *place) { p.Key = own.String() })}, wantErr: []string{"node other announces the WireGuard key of node self"}},
		{name: "another node's key", self: self, peers: []place{
			other(func(p *place) { p.Name, p.Since = "thief", p.Since.Add(time.Second) }),
			other(same),
		}, want: []string{"10.0.0.2:51820: 10.244.1.0/24 fd00:244:1::/64"}, wantErr: []string{"node thief announces the WireGuard key of node other"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := planTunnel(own, tc.self, tc.peers)
			var peers []string
			through := 0
			for _, p := range got.peers {
				var allowed []string
				for _, n := range p.AllowedIPs {
					allowed = append(allowed, n.String())
				}
				through += len(allowed)
				peers = append(peers, p.Endpoint.String()+": "+strings.Join(allowed, " "))
			}
			if diff := cmp.Diff(tc.want, peers); diff != "" {
				t.Error(diff)
			}
			if len(got.through) != through {
				t.Errorf("routes to %v", got.through)
			}
			if err := errors.Join(got.errs...); len(got.errs) != len(tc.wantErr) || err != nil && !strings.Contains(err.Error(), tc.wantErr[0]) {
				t.Errorf("errors %v, want %q", got.errs, tc.wantErr)
			}
		})
	}
}

func TestChangedPeers(t *testing.T) {
	now := time.Unix(10000, 0)
	every := keepalive
	want := func(key byte, endpoint, cidr string) wgtypes.PeerConfig {
		return wgtypes.PeerConfig{PublicKey: testKey(key), Endpoint: net.UDPAddrFromAddrPort(netip.MustParseAddrPort(endpoint)),
			PersistentKeepaliveInterval: &every, ReplaceAllowedIPs: true, AllowedIPs: []net.IPNet{*ipNet(netip.MustParsePrefix(cidr))}}
	}
	have := func(key byte, endpoint, cidr string, shookHands time.Time) wgtypes.Peer {
		w := want(key, endpoint, cidr)
		return wgtypes.Peer{PublicKey: w.PublicKey, Endpoint: w.Endpoint, AllowedIPs: w.AllowedIPs, PersistentKeepaliveInterval: every, LastHandshakeTime: shookHands}
	}
	long := now.Add(-time.Hour)
	for _, tc := range []struct {
		name string
		have []wgtypes.Peer
		want []wgtypes.PeerConfig
		out  []wgtypes.PeerConfig
	}{
		{"nothing", nil, nil, nil},
		{"a new one", nil, []wgtypes.PeerConfig{want(1, "10.0.0.1:1", "10.1.0.0/24")}, []wgtypes.PeerConfig{want(1, "10.0.0.1:1", "10.1.0.0/24")}},
		{"as it is", []wgtypes.Peer{have(1, "10.0.0.1:1", "10.1.0.0/24", long)}, []wgtypes.PeerConfig{want(1, "10.0.0.1:1", "10.1.0.0/24")}, nil},
		{"gone", []wgtypes.Peer{have(1, "10.0.0.1:1", "10.1.0.0/24", now)}, nil, []wgtypes.PeerConfig{{PublicKey: testKey(1), Remove: true}}},
		{"another key: the old one goes first", []wgtypes.Peer{have(1, "10.0.0.1:1", "10.1.0.0/24", now)}, []wgtypes.PeerConfig{want(2, "10.0.0.1:1", "10.1.0.0/24")},
			[]wgtypes.PeerConfig{{PublicKey: testKey(1), Remove: true}, want(2, "10.0.0.1:1", "10.1.0.0/24")}},
		{"another range", []wgtypes.Peer{have(1, "10.0.0.1:1", "10.1.0.0/24", long)}, []wgtypes.PeerConfig{want(1, "10.0.0.1:1", "10.2.0.0/24")},
			[]wgtypes.PeerConfig{want(1, "10.0.0.1:1", "10.2.0.0/24")}},
		{"another address of one that is silent", []wgtypes.Peer{have(1, "10.0.0.1:1", "10.1.0.0/24", long)}, []wgtypes.PeerConfig{want(1, "10.0.0.9:1", "10.1.0.0/24")},
			[]wgtypes.PeerConfig{want(1, "10.0.0.9:1", "10.1.0.0/24")}},
		{"another address of one that speaks", []wgtypes.Peer{have(1, "10.0.0.9:1", "10.1.0.0/24", now.Add(-time.Minute))}, []wgtypes.PeerConfig{want(1, "10.0.0.1:1", "10.1.0.0/24")}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if diff := cmp.Diff(tc.out, changedPeers(tc.have, tc.want, now)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestWireGuardKey(t *testing.T) {
	w := &wireGuard{WireGuardConfig: WireGuardConfig{KeyFile: filepath.Join(t.TempDir(), "state", "key")}}
	read := func() wgtypes.Key {
		t.Helper()
		key, err := w.key()
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(w.KeyFile)
		if err != nil {
			t.Fatal(err)
		}
		if mode := info.Mode().Perm(); mode != 0o600 {
			t.Errorf("the key's file has mode %o", mode)
		}
		return key
	}
	first := read()
	if again := read(); again != first {
		t.Error("the key does not stay")
	}
	if err := os.Remove(w.KeyFile); err != nil {
		t.Fatal(err)
	}
	if read() == first {
		t.Error("the key is the same after its file was removed")
	}
	const secret = "c2VjcmV0"
	if err := os.WriteFile(w.KeyFile, []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := w.key(); err == nil || strings.Contains(err.Error(), secret) || !strings.Contains(err.Error(), "remove it") {
		t.Errorf("a file that holds no key: %v", err)
	}
}

// overlay is a host's network between nodes, which announces at the client's nodes.
func (h *host) overlay(client *fake.Clientset, name string, b Backend) *Overlay {
	h.t.Helper()
	o, err := NewOverlay(OverlayConfig{NodeName: name, Nodes: clientNodes{client}, Network: h.net, Backend: b, WireGuard: WireGuardConfig{
		Client: client, KeyFile: filepath.Join(h.dir, "key"), ClusterCIDRs: clusterCIDRs(),
	}})
	if err != nil {
		h.t.Fatal(err)
	}
	return o
}

// needWireGuard skips where the kernel has none.
func needWireGuard(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	if err := newSpace(t).try(addWireGuard); err != nil {
		t.Skipf("the kernel has no WireGuard: %v", err)
	}
}

func addWireGuard() error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "wg-probe"
	return netlink.LinkAdd(&netlink.Wireguard{LinkAttrs: attrs})
}

// What a kernel without WireGuard cannot encrypt goes nowhere.
func TestWireGuardRefused(t *testing.T) {
	a, b := twoHosts(t)
	if err := newSpace(t).try(addWireGuard); err == nil {
		t.Skip("the kernel has WireGuard")
	}
	client := fake.NewClientset(node("a", a), node("b", b))
	// The way that packets would take unencrypted.
	vxlan := a.overlay(client, "a", VXLAN)
	a.in(func() error { return vxlan.sync(context.Background()) })
	wg := a.overlay(client, "a", WireGuard)
	err := a.try(func() error { return wg.sync(context.Background()) })
	if err == nil || !strings.Contains(err.Error(), "networking.podBackend") {
		t.Errorf("synced: %v", err)
	}
	if err := a.net.Status(context.Background()); !errors.Is(err, ErrNotReady) || !strings.Contains(err.Error(), "load its module wireguard") {
		t.Errorf("the network's status: %v", err)
	}
	unreachable := func(ip string) error {
		return a.try(func() error {
			_, err := netlink.RouteGet(net.ParseIP(ip))
			return err
		})
	}
	for _, ip := range []string{"10.244.1.5", "10.244.77.5"} {
		if err := unreachable(ip); !errors.Is(err, unix.EHOSTUNREACH) {
			t.Errorf("the way to %s: %v", ip, err)
		}
	}
	a.in(func() error { return vxlan.sync(context.Background()) })
	if err := errors.Join(a.net.Status(context.Background()), unreachable("10.244.1.5")); err != nil {
		t.Errorf("after the return to VXLAN: %v", err)
	}
	if err := unreachable("10.244.77.5"); errors.Is(err, unix.EHOSTUNREACH) {
		t.Errorf("after the return to VXLAN the fence is still there: %v", err)
	}
}

// TestWireGuard looks at the packets on the link between two nodes.
//
// Covers: net.wireguard
func TestWireGuard(t *testing.T) {
	needWireGuard(t)
	a, b := twoHosts(t)
	nodes := map[*host]*v1.Node{a: node("a", a), b: node("b", b)}
	six := map[*host]string{a: "fd00:244:0:0::/64", b: "fd00:244:0:1::/64"}
	for h, n := range nodes {
		n.Spec.PodCIDRs = append(n.Spec.PodCIDRs, six[h])
	}
	client := fake.NewClientset(nodes[a], nodes[b])
	overlays := map[*host]*Overlay{a: a.overlay(client, "a", WireGuard), b: b.overlay(client, "b", WireGuard)}
	sync := func(hosts ...*host) {
		t.Helper()
		for _, h := range hosts {
			h.in(func() error { return overlays[h].sync(context.Background()) })
		}
	}
	sync(a, b, a)
	near, nearIP := a.pod("near0123456789")
	far, farIP := b.pod("far0123456789")
	far.serve(":80")
	var near6, far6 netip.Addr
	for _, ip := range a.net.ipam.owned("near0123456789") {
		if ip.Is6() {
			near6 = ip
		}
	}
	for _, ip := range b.net.ipam.owned("far0123456789") {
		if ip.Is6() {
			far6 = ip
		}
	}
	link := b.listen("up0")
	talk := func(when string) {
		t.Helper()
		for to, want := range map[netip.Addr]netip.Addr{farIP: nearIP, far6: near6} {
			if got, err := near.ask(net.JoinHostPort(to.String(), "80")); err != nil || got != want.String() {
				t.Errorf("%s: %s is asked from %q, %v, want %s", when, to, got, err, want)
			}
		}
	}
	talk("at first")
	if clear, sealed := link(); clear > 0 || sealed == 0 {
		t.Errorf("between the nodes went %d packets in clear and %d of WireGuard", clear, sealed)
	}
	peers := func(h *host) (out []wgtypes.Peer) {
		t.Helper()
		h.in(func() error {
			c, err := wgctrl.New()
			if err != nil {
				return err
			}
			defer c.Close()
			dev, err := c.Device(wireGuardDevice)
			if err == nil {
				out = dev.Peers
			}
			return err
		})
		return out
	}
	old := peers(b)
	if err := os.Remove(filepath.Join(a.dir, "key")); err != nil {
		t.Fatal(err)
	}
	sync(a, b)
	if now := peers(b); len(old) != 1 || len(now) != 1 || now[0].PublicKey == old[0].PublicKey {
		t.Errorf("after a's key has changed, b's peers are %v, before %v", now, old)
	}
	talk("with another key")
	// A link that somebody has removed is made again.
	a.in(func() error { return removeLink(wireGuardDevice) })
	if _, err := near.ask(net.JoinHostPort(farIP.String(), "80")); !errors.Is(err, unix.EHOSTUNREACH) {
		t.Errorf("without the device: %v", err)
	}
	sync(a)
	talk("with another device")
	if err := client.CoreV1().Nodes().Delete(context.Background(), "b", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	sync(a)
	if now := peers(a); len(now) != 0 {
		t.Errorf("the peers of the last node: %v", now)
	}
	if _, err := near.ask(net.JoinHostPort(farIP.String(), "80")); !errors.Is(err, unix.EHOSTUNREACH) {
		t.Errorf("the pod of a node that is gone: %v", err)
	}
	a.in(Clean)
	a.in(func() error {
		left, err := (&wireGuard{}).routes()
		if _, missing := netlink.LinkByName(wireGuardDevice); missing == nil || len(left) > 0 {
			t.Errorf("after cleaning: the device: %v, routes %v", missing, left)
		}
		return err
	})
}

// listen counts a link's packets from or to pods' addresses, and those of WireGuard,
// up to the call of what it returns.
func (s space) listen(name string) func() (clear, sealed int) {
	s.t.Helper()
	var fd int
	s.in(func() error {
		link, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		const all = unix.ETH_P_ALL<<8&0xff00 | unix.ETH_P_ALL>>8 // in the network's order
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, all); err != nil {
			return err
		}
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: link.Attrs().Index})
	})
	s.t.Cleanup(func() { _ = unix.Close(fd) })
	return func() (clear, sealed int) {
		four, six := netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:244::/32")
		b := make([]byte, 2048)
		for {
			n, _, err := unix.Recvfrom(fd, b, 0)
			if err != nil {
				return clear, sealed
			}
			switch p := b[:n]; {
			case n >= 40 && p[0]>>4 == 6:
				if six.Contains(netip.AddrFrom16([16]byte(p[8:24]))) || six.Contains(netip.AddrFrom16([16]byte(p[24:40]))) {
					clear++
				}
			case n >= 28 && p[0]>>4 == 4:
				if four.Contains(netip.AddrFrom4([4]byte(p[12:16]))) || four.Contains(netip.AddrFrom4([4]byte(p[16:20]))) {
					clear++
				}
				if p[9] == unix.IPPROTO_UDP && int(p[22])<<8|int(p[23]) == 51820 {
					sealed++
				}
			}
		}
	}
}
