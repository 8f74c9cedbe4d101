package network

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/wgctrl"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"skiff/kubelet/statefile"
)

// The annotations of a Node by which it tells the others of its WireGuard.
const (
	AnnotationWireGuardKey  = "network.skiff.io/wireguard-public-key"
	AnnotationWireGuardPort = "network.skiff.io/wireguard-port"
)

// WireGuardConfig is what the backend WireGuard needs.
type WireGuardConfig struct {
	// Client announces the public key at this node's Node.
	Client kubernetes.Interface
	// KeyFile keeps the private key. One that is not there is made, so that removing
	// the file changes the key.
	KeyFile string
	// ClusterCIDRs are the networks of all pods: what goes there and through no tunnel
	// is refused, as it would travel for all to read.
	ClusterCIDRs []netip.Prefix
}

const (
	// wireGuardDevice is the link that encrypts packets.
	wireGuardDevice = "skiff-wg"
	// wireGuardProtocol marks the backend's routes as ours.
	wireGuardProtocol = 0x5e
	// keepalive holds open what firewalls between two nodes have let through.
	keepalive = 25 * time.Second
	// sessionLife is how long a session lasts after its handshake.
	sessionLife = 3 * time.Minute
)

// announcement is what a node tells the others.
type announcement struct{ Key, Port string }

func announced(n *v1.Node) announcement {
	return announcement{n.Annotations[AnnotationWireGuardKey], n.Annotations[AnnotationWireGuardPort]}
}

// wireGuard is the backend WireGuard.
type wireGuard struct {
	WireGuardConfig
	port int
}

// sync encrypts what goes to the peers. It fails closed: before there is a tunnel,
// and where there cannot be one, packets to other nodes' pods are refused.
func (w *wireGuard) sync(ctx context.Context, self place, peers []place) error {
	have, err := w.routes()
	if err != nil {
		return refusal{err}
	}
	fence := make(map[netip.Prefix]int)
	for _, c := range w.ClusterCIDRs {
		fence[c.Masked()] = 0
	}
	for _, p := range peers {
		for _, c := range p.CIDRs {
			fence[c] = 0
		}
	}
	var missing []routeChange
	for _, c := range planRoutes(have, fence) {
		if _, ok := have[c.to]; !ok {
			missing = append(missing, c)
			have[c.to] = 0
		}
	}
	if err := w.change(missing); err != nil {
		return refusal{err}
	}
	key, err := w.key()
	if err != nil {
		return refusal{err}
	}
	link, err := w.device(self)
	if err != nil {
		return refusal{err}
	}
	t := planTunnel(key.PublicKey(), self, peers)
	if err := w.configure(key, t.peers); err != nil {
		return refusal{err}
	}
	if err := raise(link, self); err != nil {
		return refusal{fmt.Errorf("%w; UDP port %d must be free", err, w.port)}
	}
	for _, c := range t.through {
		fence[c] = link.Attrs().Index
	}
	return errors.Join(append(t.errs, w.change(planRoutes(have, fence)), w.announce(ctx, key.PublicKey(), self))...)
}

func (w *wireGuard) remove() error {
	have, err := w.routes()
	if err != nil {
		return err
	}
	return errors.Join(removeLink(wireGuardDevice), w.change(planRoutes(have, nil)))
}

// key reads the private key, or makes one.
func (w *wireGuard) key() (wgtypes.Key, error) {
	data, err := statefile.Read(w.KeyFile)
	if err != nil {
		return wgtypes.Key{}, fmt.Errorf("the private key of WireGuard: %w", err)
	}
	if data == nil {
		key, err := wgtypes.GeneratePrivateKey()
		if err != nil {
			return key, err
		}
		// statefile leaves it to its owner alone to read.
		if err := statefile.Write(w.KeyFile, []byte(key.String()+"\n")); err != nil {
			return key, fmt.Errorf("keep the private key of WireGuard: %w", err)
		}
		return key, nil
	}
	key, err := wgtypes.ParseKey(strings.TrimSpace(string(data)))
	if err != nil {
		// Not the parser's words: they may show what is in the file.
		return key, fmt.Errorf("%s holds no private key of WireGuard: remove it, and one is made", w.KeyFile)
	}
	return key, nil
}

// device makes the WireGuard device.
func (w *wireGuard) device(self place) (netlink.Link, error) {
	under, err := underlay(self.IP)
	if err != nil {
		return nil, err
	}
	mtu := under.Attrs().MTU - WireGuard.Overhead(self.IP)
	link, err := netlink.LinkByName(wireGuardDevice)
	if err != nil && !isGone(err) {
		return nil, err
	}
	if err == nil && link.Type() != "wireguard" {
		if err := netlink.LinkDel(link); err != nil {
			return nil, fmt.Errorf("remove the old device %s: %w", wireGuardDevice, err)
		}
	}
	if err != nil || link.Type() != "wireguard" {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.MTU = wireGuardDevice, mtu
		if err := netlink.LinkAdd(&netlink.Wireguard{LinkAttrs: attrs}); err != nil {
			if errors.Is(err, unix.EOPNOTSUPP) {
				return nil, errors.New("the kernel has no WireGuard, and pods' packets do not go unencrypted instead: load its module wireguard, or set networking.podBackend to vxlan or host-gw")
			}
			return nil, fmt.Errorf("make WireGuard device %s: %w", wireGuardDevice, err)
		}
		if link, err = netlink.LinkByName(wireGuardDevice); err != nil {
			return nil, err
		}
	}
	if link.Attrs().MTU != mtu {
		if err := netlink.LinkSetMTU(link, mtu); err != nil {
			return nil, err
		}
	}
	return link, nil
}

// configure gives the device its key, port and peers, as far as they differ.
func (w *wireGuard) configure(key wgtypes.Key, peers []wgtypes.PeerConfig) error {
	c, err := wgctrl.New()
	if err != nil {
		return fmt.Errorf("WireGuard: %w", err)
	}
	defer c.Close()
	dev, err := c.Device(wireGuardDevice)
	if err != nil {
		return fmt.Errorf("WireGuard device %s: %w", wireGuardDevice, err)
	}
	conf := wgtypes.Config{Peers: changedPeers(dev.Peers, peers, time.Now())}
	if dev.PrivateKey != key {
		conf.PrivateKey = &key
	}
	if dev.ListenPort != w.port {
		conf.ListenPort = &w.port
	}
	if conf.PrivateKey == nil && conf.ListenPort == nil && len(conf.Peers) == 0 {
		return nil
	}
	if err := c.ConfigureDevice(wireGuardDevice, conf); err != nil {
		return fmt.Errorf("configure WireGuard device %s, UDP port %d: %w", wireGuardDevice, w.port, err)
	}
	return nil
}

// announce tells the other nodes of the key and port.
func (w *wireGuard) announce(ctx context.Context, key wgtypes.Key, self place) error {
	want := announcement{key.String(), strconv.Itoa(w.port)}
	if self.announcement == want {
		return nil
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"annotations": map[string]string{AnnotationWireGuardKey: want.Key, AnnotationWireGuardPort: want.Port},
	}})
	if err != nil {
		return err
	}
	if _, err := w.Client.CoreV1().Nodes().Patch(ctx, self.Name, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		return fmt.Errorf("announce the WireGuard key at node %s: %w", self.Name, err)
	}
	return nil
}

// tunnel is what the device is to have.
type tunnel struct {
	peers []wgtypes.PeerConfig
	// through are the pod CIDRs behind the peers.
	through []netip.Prefix
	errs    []error
}

// planTunnel takes each node by its key. Nobody gets another's packets by announcing
// the other's key: the node that was there first keeps it. A node that has
// announced none gets no packets.
func planTunnel(own wgtypes.Key, self place, peers []place) tunnel {
	var t tunnel
	taken := map[wgtypes.Key]string{own: self.Name}
	first := slices.SortedFunc(slices.Values(peers), func(a, b place) int {
		return cmp.Or(a.Since.Compare(b.Since), strings.Compare(a.Name, b.Name))
	})
	for _, p := range first {
		if p.Key == "" {
			continue
		}
		key, err := wgtypes.ParseKey(p.Key)
		port, portErr := strconv.ParseUint(p.Port, 10, 16)
		switch other := taken[key]; {
		case err != nil:
			t.errs = append(t.errs, fmt.Errorf("node %s: annotation %s %q is no public key", p.Name, AnnotationWireGuardKey, p.Key))
			continue
		case portErr != nil || port == 0:
			t.errs = append(t.errs, fmt.Errorf("node %s: annotation %s %q is no port", p.Name, AnnotationWireGuardPort, p.Port))
			continue
		case other != "":
			t.errs = append(t.errs, fmt.Errorf("node %s announces the WireGuard key of node %s: remove the key's file on one of them", p.Name, other))
			continue
		}
		taken[key] = p.Name
		ip, ok := p.address(self.IP.Is6())
		if !ok {
			ip = p.IP
		}
		every := keepalive
		peer := wgtypes.PeerConfig{
			PublicKey: key, Endpoint: net.UDPAddrFromAddrPort(netip.AddrPortFrom(ip, uint16(port))),
			PersistentKeepaliveInterval: &every, ReplaceAllowedIPs: true,
		}
		for _, c := range p.CIDRs {
			peer.AllowedIPs = append(peer.AllowedIPs, *ipNet(c))
		}
		t.peers, t.through = append(t.peers, peer), append(t.through, p.CIDRs...)
	}
	return t
}

// changedPeers are the steps from what the device has to what it is to have. A peer
// that speaks to us from another address than its node's, as one behind a
// translation of addresses does, is left there.
func changedPeers(have []wgtypes.Peer, want []wgtypes.PeerConfig, now time.Time) []wgtypes.PeerConfig {
	old := make(map[wgtypes.Key]wgtypes.Peer, len(have))
	for _, p := range have {
		old[p.PublicKey] = p
	}
	var out []wgtypes.PeerConfig
	for _, p := range want {
		h, ok := old[p.PublicKey]
		delete(old, p.PublicKey)
		if ok && now.Sub(h.LastHandshakeTime) < sessionLife {
			p.Endpoint = h.Endpoint
		}
		if !ok || h.Endpoint.String() != p.Endpoint.String() || h.PersistentKeepaliveInterval != *p.PersistentKeepaliveInterval || !sameNets(h.AllowedIPs, p.AllowedIPs) {
			out = append(out, p)
		}
	}
	for _, p := range have {
		if _, gone := old[p.PublicKey]; gone {
			// First, so that its pod CIDRs are free for the key after it.
			out = slices.Insert(out, 0, wgtypes.PeerConfig{PublicKey: p.PublicKey, Remove: true})
		}
	}
	return out
}

func sameNets(a, b []net.IPNet) bool {
	texts := func(nets []net.IPNet) []string {
		out := make([]string, len(nets))
		for i, n := range nets {
			out[i] = n.String()
		}
		slices.Sort(out)
		return out
	}
	return slices.Equal(texts(a), texts(b))
}

// routeChange makes one route; gone removes it.
type routeChange struct {
	to netip.Prefix
	// link that it leads through; 0 refuses the packets.
	link int
	gone bool
}

// planRoutes are the steps from one set of routes, by their links, to another.
func planRoutes(have, want map[netip.Prefix]int) []routeChange {
	var out []routeChange
	for to, link := range want {
		if old, ok := have[to]; !ok || old != link {
			out = append(out, routeChange{to: to, link: link})
		}
	}
	for to, link := range have {
		if _, ok := want[to]; !ok {
			out = append(out, routeChange{to: to, link: link, gone: true})
		}
	}
	return out
}

// routes are the backend's in the kernel.
func (w *wireGuard) routes() (map[netip.Prefix]int, error) {
	out := make(map[netip.Prefix]int)
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := netlink.RouteListFiltered(family, &netlink.Route{Protocol: wireGuardProtocol}, netlink.RT_FILTER_PROTOCOL)
		if err != nil {
			return nil, fmt.Errorf("list routes: %w", err)
		}
		for _, r := range routes {
			to, ok := prefixOf(r.Dst)
			if !ok {
				continue
			}
			out[to] = r.LinkIndex
			if r.Type == unix.RTN_UNREACHABLE {
				out[to] = 0 // the kernel gives those of IPv6 the loopback
			}
		}
	}
	return out, nil
}

func (w *wireGuard) change(changes []routeChange) error {
	var errs []error
	for _, c := range changes {
		route := &netlink.Route{LinkIndex: c.link, Dst: ipNet(c.to), Protocol: wireGuardProtocol}
		if c.link == 0 {
			route.Type = unix.RTN_UNREACHABLE
		} else {
			route.Scope = netlink.SCOPE_LINK
		}
		if !c.gone {
			if err := netlink.RouteReplace(route); err != nil {
				errs = append(errs, fmt.Errorf("route to %s: %w", c.to, err))
			}
			continue
		}
		if err := netlink.RouteDel(route); err != nil && !errors.Is(err, unix.ESRCH) {
			errs = append(errs, fmt.Errorf("remove the route to %s: %w", c.to, err))
		}
	}
	return errors.Join(errs...)
}
