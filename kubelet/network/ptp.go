package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// podInterface is the name of a pod's interface.
const podInterface = "eth0"

// Config configures the built-in network.
type Config struct {
	// StateDir keeps the addresses in use.
	StateDir string
	// ClusterCIDRs are the networks of all pods; what goes there from a pod
	// keeps its source address.
	ClusterCIDRs []netip.Prefix
	// MTU of the pods' interfaces; 0 takes that of the way out less Overhead.
	MTU int
	// Overhead is what the way between nodes adds to a packet: 50 bytes for VXLAN.
	Overhead int
	// NoMasquerade leaves the source address of what leaves the cluster alone.
	NoMasquerade bool
	// Held is why pods get no network before an Overlay says that they may; nil is
	// that they need not wait.
	Held error
}

// PointToPoint is the built-in network: each pod has a link of its own to the
// host, which routes between them. So all that a pod sends passes netfilter in
// the host, on every kernel, and pods see nothing of each other's link layer.
type PointToPoint struct {
	cfg   Config
	ipam  *ipam
	rules *rules

	mu    sync.Mutex
	cidrs []netip.Prefix // guarded by mu
	held  error          // guarded by mu
}

// New opens the built-in network. Pods can be set up after SetPodCIDRs.
func New(cfg Config) (*PointToPoint, error) {
	if !filepath.IsAbs(cfg.StateDir) {
		return nil, fmt.Errorf("network: StateDir %q: want an absolute path", cfg.StateDir)
	}
	a, err := openIPAM(filepath.Join(cfg.StateDir, "addresses"))
	if err != nil {
		return nil, fmt.Errorf("network: %w", err)
	}
	return &PointToPoint{cfg: cfg, ipam: a, rules: newRules(filepath.Join(cfg.StateDir, "ports")), held: cfg.Held}, nil
}

// SetPodCIDRs tells the node's pod CIDRs, at most one of each family, and
// prepares the host for them. Setting the same again is cheap.
func (n *PointToPoint) SetPodCIDRs(ctx context.Context, cidrs []netip.Prefix) error {
	cidrs = slices.Clone(cidrs)
	for i, c := range cidrs {
		if !c.IsValid() || c.Bits() > c.Addr().BitLen()-2 {
			return fmt.Errorf("pod CIDR %s: too small to hold a pod", c)
		}
		cidrs[i] = c.Masked()
	}
	n.mu.Lock()
	same := slices.Equal(cidrs, n.cidrs)
	n.mu.Unlock()
	if same {
		return nil
	}
	if err := n.prepare(cidrs); err != nil {
		return err
	}
	n.mu.Lock()
	n.cidrs = slices.Clone(cidrs)
	n.mu.Unlock()
	return nil
}

func (n *PointToPoint) podCIDRs() []netip.Prefix {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.cidrs
}

// prepare lets the host forward and masquerade.
func (n *PointToPoint) prepare(cidrs []netip.Prefix) error {
	for _, c := range cidrs {
		name := "net/ipv4/ip_forward"
		if c.Addr().Is6() {
			name = "net/ipv6/conf/all/forwarding"
		}
		if err := setSysctl(name, "1"); err != nil {
			return fmt.Errorf("let the host forward packets: %w", err)
		}
	}
	return n.rules.prepare(cidrs, n.cfg.ClusterCIDRs, !n.cfg.NoMasquerade)
}

// Repair makes the host's rules again where another program has flushed them.
func (n *PointToPoint) Repair() error {
	cidrs := n.podCIDRs()
	whole, err := n.rules.intact(cidrs, n.cfg.ClusterCIDRs, !n.cfg.NoMasquerade)
	if err != nil || whole {
		return err
	}
	return errors.Join(n.prepare(cidrs), n.rules.reopen())
}

// Hold gives pods no network from now on, for that reason; nil lets them again.
func (n *PointToPoint) Hold(reason error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.held = reason
}

// Status implements Plugin.
func (n *PointToPoint) Status(context.Context) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case n.held != nil:
		return fmt.Errorf("%w: %w", ErrNotReady, n.held)
	case len(n.cidrs) == 0:
		return fmt.Errorf("%w: the node has no pod CIDR yet", ErrNotReady)
	}
	return nil
}

// Setup implements Plugin.
func (n *PointToPoint) Setup(ctx context.Context, pod Pod) (_ Result, err error) {
	if err := n.Status(ctx); err != nil {
		return Result{}, err
	}
	cidrs := n.podCIDRs()
	if err := n.Teardown(ctx, pod); err != nil {
		return Result{}, err
	}
	ips, err := n.ipam.allocate(pod.ID, cidrs)
	if err != nil {
		return Result{}, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.Teardown(ctx, pod))
		}
	}()
	mac, err := n.connect(pod, ips, cidrs)
	if err != nil {
		return Result{}, fmt.Errorf("connect pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	if err := limitBandwidth(hostLink(pod.ID), pod.NetNSPath, pod.Bandwidth); err != nil {
		return Result{}, fmt.Errorf("bandwidth of pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	if err := n.rules.open(pod.ID, ips, pod.PortMappings); err != nil {
		return Result{}, fmt.Errorf("host ports of pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	return Result{IPs: ips, Interface: podInterface, MAC: mac}, nil
}

// Teardown implements Plugin.
func (n *PointToPoint) Teardown(_ context.Context, pod Pod) error {
	var errs []error
	if link, err := netlink.LinkByName(hostLink(pod.ID)); err == nil {
		if err := netlink.LinkDel(link); err != nil && !isGone(err) {
			errs = append(errs, fmt.Errorf("remove the link of pod %s: %w", pod.ID, err))
		}
	} else if !isGone(err) {
		errs = append(errs, err)
	}
	errs = append(errs, n.rules.close(pod.ID))
	if len(errs) == 1 && errs[0] == nil {
		// Only when nothing leads to them any more may the addresses go to others.
		_, err := n.ipam.release(pod.ID)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Check implements Plugin.
func (n *PointToPoint) Check(_ context.Context, pod Pod) error {
	if len(n.ipam.owned(pod.ID)) == 0 {
		return fmt.Errorf("pod %s has no address", pod.ID)
	}
	if _, err := netlink.LinkByName(hostLink(pod.ID)); err != nil {
		return fmt.Errorf("link of pod %s: %w", pod.ID, err)
	}
	return nil
}

// Reconcile implements Reconciler.
func (n *PointToPoint) Reconcile(ctx context.Context, live []string) error {
	keep := make(map[string]bool, len(live))
	for _, id := range live {
		keep[id] = true
	}
	owners := n.ipam.owners()
	for _, id := range n.rules.owners() {
		owners[id] = true
	}
	var errs []error
	for id := range owners {
		if !keep[id] {
			errs = append(errs, n.Teardown(ctx, Pod{ID: id}))
		}
	}
	return errors.Join(errs...)
}

// connect makes the pod's link and its addresses and routes on both sides.
func (n *PointToPoint) connect(pod Pod, ips []netip.Addr, cidrs []netip.Prefix) (mac string, err error) {
	ns, err := netns.GetFromPath(pod.NetNSPath)
	if err != nil {
		return "", fmt.Errorf("open network namespace %s: %w", pod.NetNSPath, err)
	}
	defer ns.Close()
	inside, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return "", err
	}
	defer inside.Close()
	name := hostLink(pod.ID)
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = name, n.mtu()
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: podInterface, PeerNamespace: netlink.NsFd(ns)}
	if err := netlink.LinkAdd(veth); err != nil {
		return "", fmt.Errorf("make link %s: %w", name, err)
	}
	host, err := netlink.LinkByName(name)
	if err != nil {
		return "", err
	}
	peer, err := inside.LinkByName(podInterface)
	if err != nil {
		return "", err
	}
	for i, ip := range ips {
		if err := configureHost(host, gateway(cidrs[i]), ip); err != nil {
			return "", err
		}
	}
	if err := netlink.LinkSetUp(host); err != nil {
		return "", fmt.Errorf("raise %s: %w", name, err)
	}
	for _, ip := range ips {
		addr := &netlink.Addr{IPNet: hostNet(ip)}
		if ip.Is6() {
			// The address is ours alone; waiting to detect a double only costs a second.
			addr.Flags = unix.IFA_F_NODAD
		}
		if err := inside.AddrAdd(peer, addr); err != nil {
			return "", fmt.Errorf("give the pod %s: %w", ip, err)
		}
	}
	if err := inside.LinkSetUp(peer); err != nil {
		return "", fmt.Errorf("raise the pod's interface: %w", err)
	}
	if lo, err := inside.LinkByName("lo"); err == nil {
		if err := inside.LinkSetUp(lo); err != nil {
			return "", fmt.Errorf("raise the pod's loopback: %w", err)
		}
	}
	for i, ip := range ips {
		if err := netlink.RouteReplace(&netlink.Route{LinkIndex: host.Attrs().Index, Dst: hostNet(ip), Scope: netlink.SCOPE_LINK}); err != nil {
			return "", fmt.Errorf("route to %s: %w", ip, err)
		}
		if err := routeInside(inside, peer, host, ip, gateway(cidrs[i])); err != nil {
			return "", err
		}
	}
	return peer.Attrs().HardwareAddr.String(), nil
}

// configureHost gives the host's end its address and the settings that a link
// with one peer wants.
func configureHost(host netlink.Link, gw, ip netip.Addr) error {
	name := host.Attrs().Name
	family := "ipv4"
	settings := map[string]string{"send_redirects": "0", "route_localnet": "1", "rp_filter": "1"}
	addr := &netlink.Addr{IPNet: hostNet(gw)}
	if ip.Is6() {
		family = "ipv6"
		settings = map[string]string{"accept_ra": "0", "accept_dad": "0"}
		addr.Flags = unix.IFA_F_NODAD
	}
	for key, value := range settings {
		if err := setSysctl(filepath.Join("net", family, "conf", name, key), value); err != nil {
			return err
		}
	}
	if err := netlink.AddrAdd(host, addr); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("give %s the address %s: %w", name, gw, err)
	}
	return nil
}

func routeInside(inside *netlink.Handle, peer, host netlink.Link, ip, gw netip.Addr) error {
	family := netlink.FAMILY_V4
	all := &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}
	if ip.Is6() {
		family = netlink.FAMILY_V6
		all = &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}
	}
	// The only neighbour a pod has; known from the start, the first packet
	// need not ask for it.
	neigh := &netlink.Neigh{
		LinkIndex: peer.Attrs().Index, Family: family, State: netlink.NUD_PERMANENT,
		IP: gw.AsSlice(), HardwareAddr: host.Attrs().HardwareAddr,
	}
	if err := inside.NeighSet(neigh); err != nil {
		return fmt.Errorf("name the pod's gateway: %w", err)
	}
	if err := inside.RouteAdd(&netlink.Route{LinkIndex: peer.Attrs().Index, Dst: hostNet(gw), Scope: netlink.SCOPE_LINK}); err != nil {
		return fmt.Errorf("route to the pod's gateway: %w", err)
	}
	if err := inside.RouteAdd(&netlink.Route{LinkIndex: peer.Attrs().Index, Dst: all, Gw: gw.AsSlice()}); err != nil {
		return fmt.Errorf("default route of the pod: %w", err)
	}
	return nil
}

// mtu is what the way out of the host carries, less the overlay's overhead.
func (n *PointToPoint) mtu() int {
	if n.cfg.MTU > 0 {
		return n.cfg.MTU
	}
	mtu := 1500
	if link := defaultLink(); link != nil {
		mtu = link.Attrs().MTU
	}
	return mtu - n.cfg.Overhead
}

// defaultLink is the link of the default route, nil without one.
func defaultLink() netlink.Link {
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := netlink.RouteListFiltered(family, &netlink.Route{Dst: nil}, netlink.RT_FILTER_DST)
		if err != nil {
			continue
		}
		for _, r := range routes {
			if link, err := netlink.LinkByIndex(r.LinkIndex); err == nil {
				return link
			}
		}
	}
	return nil
}

func hostNet(ip netip.Addr) *net.IPNet {
	return &net.IPNet{IP: ip.AsSlice(), Mask: net.CIDRMask(ip.BitLen(), ip.BitLen())}
}

func isGone(err error) bool {
	var missing netlink.LinkNotFoundError
	return errors.As(err, &missing) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENOENT)
}

func setSysctl(name, value string) error {
	path := filepath.Join("/proc/sys", name)
	if now, err := os.ReadFile(path); err == nil && string(now) == value+"\n" {
		return nil
	}
	if err := os.WriteFile(path, []byte(value), 0); err != nil {
		return fmt.Errorf("set %s to %s: %w", name, value, err)
	}
	return nil
}
