package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	coreinformers "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
)

// Backend is how packets travel between nodes.
type Backend string

// The backends.
const (
	// VXLAN wraps them in UDP; it works wherever the nodes reach each other.
	VXLAN Backend = "vxlan"
	// HostGateway routes them by the nodes' own addresses, which must share a link.
	HostGateway Backend = "host-gw"
)

// Overhead is how many bytes the backend adds to a packet between nodes whose
// addresses are of the family of ip. The zero value is VXLAN.
func (b Backend) Overhead(ip netip.Addr) int {
	switch {
	case b == HostGateway:
		return 0
	case ip.Is6():
		return 70
	}
	return 50
}

// OverlayConfig configures an Overlay.
type OverlayConfig struct {
	// NodeName is this node's.
	NodeName string
	// Nodes tells of all nodes; its factory is started by its owner.
	Nodes coreinformers.NodeInformer
	// Network is given this node's pod CIDRs; nil where CNI plugins have them.
	Network *PointToPoint
	// Backend defaults to VXLAN.
	Backend Backend
	// Device, VNI and Port of the VXLAN. Default skiff.1, 1 and 8472.
	Device string
	VNI    int
	Port   int
	// Resync is how often the kernel's state is compared with the wanted one
	// without a cause, and what others broke made again. Default half a minute.
	Resync time.Duration
}

// Overlay connects the pod networks of the nodes.
type Overlay struct {
	cfg     OverlayConfig
	changed chan struct{}
}

// NewOverlay checks the configuration.
func NewOverlay(cfg OverlayConfig) (*Overlay, error) {
	if cfg.NodeName == "" || cfg.Nodes == nil {
		return nil, errors.New("network overlay: NodeName and Nodes are required")
	}
	if cfg.Backend == "" {
		cfg.Backend = VXLAN
	}
	if cfg.Backend != VXLAN && cfg.Backend != HostGateway {
		return nil, fmt.Errorf("network overlay: Backend %q: want %q or %q", cfg.Backend, VXLAN, HostGateway)
	}
	if cfg.Device == "" {
		cfg.Device = "skiff.1"
	}
	if cfg.VNI == 0 {
		cfg.VNI = 1
	}
	if cfg.Port == 0 {
		cfg.Port = 8472
	}
	if cfg.Resync == 0 {
		cfg.Resync = 30 * time.Second
	}
	return &Overlay{cfg: cfg, changed: make(chan struct{}, 1)}, nil
}

// Run keeps the kernel's routes in step with the nodes until ctx ends. The
// routes stay, so that pods keep talking while skiff restarts.
func (o *Overlay) Run(ctx context.Context) error {
	informer := o.cfg.Nodes.Informer()
	wake := func() {
		select {
		case o.changed <- struct{}{}:
		default:
		}
	}
	reg, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { wake() },
		DeleteFunc: func(any) { wake() },
		UpdateFunc: func(before, after any) {
			// Nodes report every few seconds; only their place in the network counts.
			a, okA := before.(*v1.Node)
			b, okB := after.(*v1.Node)
			if !okA || !okB || !slices.Equal(a.Spec.PodCIDRs, b.Spec.PodCIDRs) || !slices.Equal(nodeIPs(a), nodeIPs(b)) {
				wake()
			}
		},
	})
	if err != nil {
		return fmt.Errorf("network overlay: %w", err)
	}
	defer func() {
		if err := informer.RemoveEventHandler(reg); err != nil {
			klog.FromContext(ctx).Error(err, "Could not leave an informer", "part", "network overlay")
		}
	}()
	if !cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
		return nil
	}
	log := klog.FromContext(ctx)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-o.changed:
		case <-timer.C:
		}
		next := o.cfg.Resync
		if err := o.sync(ctx); err != nil {
			log.Error(err, "Could not bring the network between nodes up to date")
			next = min(next, 5*time.Second)
		}
		timer.Reset(next)
	}
}

func (o *Overlay) sync(ctx context.Context) error {
	nodes, err := o.cfg.Nodes.Lister().List(labels.Everything())
	if err != nil {
		return err
	}
	self, peers := plan(o.cfg.NodeName, nodes)
	if len(self.CIDRs) == 0 || !self.IP.IsValid() {
		return nil // this node has not been given its place yet
	}
	if o.cfg.Network != nil {
		if err := errors.Join(o.cfg.Network.SetPodCIDRs(ctx, self.CIDRs), o.cfg.Network.Repair()); err != nil {
			return err
		}
	}
	if o.cfg.Backend == HostGateway {
		return errors.Join(syncGateways(self, peers), o.removeDevice())
	}
	link, err := o.device(self)
	if err != nil {
		return err
	}
	return errors.Join(syncVXLAN(link, peers), dropGateways(nil))
}

// removeDevice takes away what the VXLAN backend made: its routes would be another
// way to the same pods.
func (o *Overlay) removeDevice() error {
	link, err := netlink.LinkByName(o.cfg.Device)
	if err == nil {
		err = netlink.LinkDel(link)
	}
	if err != nil && !isGone(err) {
		return fmt.Errorf("remove the device %s: %w", o.cfg.Device, err)
	}
	return nil
}

// place is a node's place in the network.
type place struct {
	IP    netip.Addr
	CIDRs []netip.Prefix
	MAC   net.HardwareAddr
	// IPs are all of the node's addresses, IP the first.
	IPs []netip.Addr
}

// address is the first of a family.
func (p place) address(v6 bool) (netip.Addr, bool) {
	for _, ip := range p.IPs {
		if ip.Is6() == v6 {
			return ip, true
		}
	}
	return netip.Addr{}, false
}

// plan reads the places of this node and of all others from the nodes.
func plan(name string, nodes []*v1.Node) (self place, peers []place) {
	for _, n := range nodes {
		p := place{IP: nodeIP(n), IPs: nodeIPs(n)}
		for _, text := range n.Spec.PodCIDRs {
			if c, err := netip.ParsePrefix(text); err == nil {
				p.CIDRs = append(p.CIDRs, c.Masked())
			}
		}
		if p.IP.IsValid() {
			p.MAC = nodeMAC(p.IP)
		}
		switch {
		case n.Name == name:
			self = p
		case p.IP.IsValid() && len(p.CIDRs) > 0:
			peers = append(peers, p)
		}
	}
	slices.SortFunc(peers, func(a, b place) int { return a.IP.Compare(b.IP) })
	return self, peers
}

func nodeIPs(n *v1.Node) []netip.Addr {
	var out []netip.Addr
	for _, a := range n.Status.Addresses {
		if a.Type == v1.NodeInternalIP {
			if ip, err := netip.ParseAddr(a.Address); err == nil {
				out = append(out, ip)
			}
		}
	}
	return out
}

func nodeIP(n *v1.Node) netip.Addr {
	if ips := nodeIPs(n); len(ips) > 0 {
		return ips[0]
	}
	return netip.Addr{}
}

// nodeMAC is the hardware address of a node's VXLAN device. It follows from
// the node's address, so that no one needs to announce it.
func nodeMAC(ip netip.Addr) net.HardwareAddr {
	raw := ip.As16()
	mac := net.HardwareAddr{0x0e, 0x5f, 0, 0, 0, 0}
	for i, b := range raw {
		mac[2+i%4] ^= b
	}
	return mac
}

// underlay finds the link that has the node's address.
func underlay(ip netip.Addr) (netlink.Link, error) {
	family := netlink.FAMILY_V4
	if ip.Is6() {
		family = netlink.FAMILY_V6
	}
	addrs, err := netlink.AddrList(nil, family)
	if err != nil {
		return nil, err
	}
	for _, a := range addrs {
		if have, ok := netip.AddrFromSlice(a.IP); ok && have.Unmap() == ip {
			return netlink.LinkByIndex(a.LinkIndex)
		}
	}
	return nil, fmt.Errorf("no interface has the node's address %s", ip)
}

// device makes the VXLAN device as it must be, anew when it is otherwise.
func (o *Overlay) device(self place) (netlink.Link, error) {
	under, err := underlay(self.IP)
	if err != nil {
		return nil, err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.HardwareAddr, attrs.MTU = o.cfg.Device, self.MAC, under.Attrs().MTU-VXLAN.Overhead(self.IP)
	want := &netlink.Vxlan{
		LinkAttrs: attrs, VxlanId: o.cfg.VNI, VtepDevIndex: under.Attrs().Index, SrcAddr: self.IP.AsSlice(), Port: o.cfg.Port,
	}
	link, err := netlink.LinkByName(o.cfg.Device)
	if err == nil {
		have, ok := link.(*netlink.Vxlan)
		if !ok || have.VxlanId != want.VxlanId || have.Port != want.Port || !have.SrcAddr.Equal(want.SrcAddr) ||
			have.VtepDevIndex != want.VtepDevIndex || have.HardwareAddr.String() != want.HardwareAddr.String() || have.Learning {
			if err := netlink.LinkDel(link); err != nil {
				return nil, fmt.Errorf("remove the old device %s: %w", o.cfg.Device, err)
			}
			link = nil
		}
	} else if !isGone(err) {
		return nil, err
	} else {
		link = nil
	}
	if link == nil {
		if err := netlink.LinkAdd(want); err != nil {
			return nil, fmt.Errorf("make VXLAN device %s: %w", o.cfg.Device, err)
		}
		if link, err = netlink.LinkByName(o.cfg.Device); err != nil {
			return nil, err
		}
	}
	if link.Attrs().MTU != attrs.MTU {
		if err := netlink.LinkSetMTU(link, attrs.MTU); err != nil {
			return nil, err
		}
	}
	for _, c := range self.CIDRs {
		addr := &netlink.Addr{IPNet: hostNet(c.Addr())}
		if c.Addr().Is6() {
			addr.Flags = unix.IFA_F_NODAD
		}
		if err := netlink.AddrReplace(link, addr); err != nil {
			return nil, fmt.Errorf("give %s the address %s: %w", o.cfg.Device, c.Addr(), err)
		}
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return nil, fmt.Errorf("raise %s: %w", o.cfg.Device, err)
	}
	return link, nil
}

// syncVXLAN makes the device's forwarding entries, neighbours and routes those
// of the peers: a peer's pod CIDR is behind the CIDR's first address, which is
// at the peer's hardware address, which is at the peer's node address.
func syncVXLAN(link netlink.Link, peers []place) error {
	index := link.Attrs().Index
	var errs []error
	wantNeigh := make(map[netip.Addr]bool)
	wantMAC := make(map[string]bool)
	wantRoute := make(map[netip.Prefix]bool)
	for _, p := range peers {
		wantMAC[p.MAC.String()] = true
		fdb := &netlink.Neigh{LinkIndex: index, Family: unix.AF_BRIDGE, State: netlink.NUD_PERMANENT | netlink.NUD_NOARP, Flags: netlink.NTF_SELF, IP: p.IP.AsSlice(), HardwareAddr: p.MAC}
		if err := netlink.NeighSet(fdb); err != nil {
			errs = append(errs, fmt.Errorf("forwarding entry for node %s: %w", p.IP, err))
			continue
		}
		for _, c := range p.CIDRs {
			wantNeigh[c.Addr()], wantRoute[c] = true, true
			neigh := &netlink.Neigh{LinkIndex: index, Family: familyNumber(c.Addr()), State: netlink.NUD_PERMANENT, IP: c.Addr().AsSlice(), HardwareAddr: p.MAC}
			if err := netlink.NeighSet(neigh); err != nil {
				errs = append(errs, fmt.Errorf("neighbour %s: %w", c.Addr(), err))
			}
			route := &netlink.Route{LinkIndex: index, Dst: ipNet(c), Gw: c.Addr().AsSlice(), Flags: int(netlink.FLAG_ONLINK)}
			if err := netlink.RouteReplace(route); err != nil {
				errs = append(errs, fmt.Errorf("route to %s: %w", c, err))
			}
		}
	}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := netlink.RouteList(link, family)
		errs = append(errs, err)
		for _, r := range routes {
			c, ok := prefixOf(r.Dst)
			if ok && r.Gw != nil && !wantRoute[c] {
				errs = append(errs, netlink.RouteDel(&r))
			}
		}
		neighs, err := netlink.NeighList(index, family)
		errs = append(errs, err)
		for _, n := range neighs {
			ip, ok := netip.AddrFromSlice(n.IP)
			if ok && n.State == netlink.NUD_PERMANENT && !wantNeigh[ip.Unmap()] {
				errs = append(errs, netlink.NeighDel(&n))
			}
		}
	}
	entries, err := netlink.NeighList(index, unix.AF_BRIDGE)
	errs = append(errs, err)
	for _, n := range entries {
		if n.IP != nil && !wantMAC[n.HardwareAddr.String()] {
			n.Family, n.Flags = unix.AF_BRIDGE, netlink.NTF_SELF
			errs = append(errs, netlink.NeighDel(&n))
		}
	}
	return errors.Join(errs...)
}

// gatewayProtocol marks the routes of the host-gw backend as ours.
const gatewayProtocol = 0x5f

func syncGateways(self place, peers []place) error {
	link, err := underlay(self.IP)
	if err != nil {
		return err
	}
	var errs []error
	want := make(map[netip.Prefix]bool)
	for _, p := range peers {
		for _, c := range p.CIDRs {
			gw, ok := p.address(c.Addr().Is6())
			if !ok {
				errs = append(errs, fmt.Errorf("node %s has no address to route %s by: host-gw needs one of the same family", p.IP, c))
				continue
			}
			want[c] = true
			route := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipNet(c), Gw: gw.AsSlice(), Protocol: gatewayProtocol}
			if err := netlink.RouteReplace(route); err != nil {
				errs = append(errs, fmt.Errorf("route to %s: %w; host-gw needs all nodes on one link", c, err))
			}
		}
	}
	return errors.Join(append(errs, dropGateways(want))...)
}

// dropGateways removes the routes of the host-gw backend that are not wanted.
func dropGateways(want map[netip.Prefix]bool) error {
	var errs []error
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := netlink.RouteListFiltered(family, &netlink.Route{Protocol: gatewayProtocol}, netlink.RT_FILTER_PROTOCOL)
		errs = append(errs, err)
		for _, r := range routes {
			if c, ok := prefixOf(r.Dst); ok && !want[c] {
				errs = append(errs, netlink.RouteDel(&r))
			}
		}
	}
	return errors.Join(errs...)
}

func familyNumber(ip netip.Addr) int {
	if ip.Is6() {
		return netlink.FAMILY_V6
	}
	return netlink.FAMILY_V4
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func prefixOf(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	ip, ok := netip.AddrFromSlice(n.IP)
	ones, _ := n.Mask.Size()
	return netip.PrefixFrom(ip.Unmap(), ones), ok
}
