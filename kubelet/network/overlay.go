package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
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
	// WireGuard encrypts them; it needs a kernel that can.
	WireGuard Backend = "wireguard"
)

// Overhead is how many bytes the backend adds to a packet between nodes whose
// addresses are of the family of ip. The zero value is VXLAN.
func (b Backend) Overhead(ip netip.Addr) int {
	switch {
	case b == HostGateway:
		return 0
	case b == WireGuard && ip.Is6():
		return 80
	case b == WireGuard:
		return 60
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
	// VNI of the VXLAN. Default 1.
	VNI int
	// Port is where packets from other nodes come, over UDP. Default 8472 for VXLAN
	// and 51820 for WireGuard.
	Port int
	// WireGuard is what that backend needs beside.
	WireGuard WireGuardConfig
	// Resync is how often the kernel's state is compared with the wanted one
	// without a cause, and what others broke made again. Default half a minute.
	Resync time.Duration
}

// Overlay connects the pod networks of the nodes.
type Overlay struct {
	cfg     OverlayConfig
	changed chan struct{}
	// backends are all there are: one in use, and those that may have been.
	backends map[Backend]backend
}

// backend leads packets between nodes.
type backend interface {
	// sync makes the kernel's state that of the places.
	sync(ctx context.Context, self place, peers []place) error
	// remove takes away what the backend made: it would be another way to the same
	// pods.
	remove() error
}

// refusal is an error for which pods get no network.
type refusal struct{ error }

func (r refusal) Unwrap() error { return r.error }

// NewOverlay checks the configuration.
func NewOverlay(cfg OverlayConfig) (*Overlay, error) {
	if cfg.NodeName == "" || cfg.Nodes == nil {
		return nil, errors.New("network overlay: NodeName and Nodes are required")
	}
	if cfg.Backend == "" {
		cfg.Backend = VXLAN
	}
	if cfg.VNI == 0 {
		cfg.VNI = 1
	}
	if cfg.Port == 0 {
		cfg.Port = map[Backend]int{VXLAN: 8472, WireGuard: 51820}[cfg.Backend]
	}
	backends := map[Backend]backend{
		VXLAN: vxlan{vni: cfg.VNI, port: cfg.Port}, HostGateway: hostGateway{},
		WireGuard: &wireGuard{WireGuardConfig: cfg.WireGuard, port: cfg.Port},
	}
	if backends[cfg.Backend] == nil {
		return nil, fmt.Errorf("network overlay: Backend %q: want %q, %q or %q", cfg.Backend, VXLAN, HostGateway, WireGuard)
	}
	if w := cfg.WireGuard; cfg.Backend == WireGuard && (w.Client == nil || !filepath.IsAbs(w.KeyFile)) {
		return nil, errors.New("network overlay: WireGuard.Client and an absolute WireGuard.KeyFile are required")
	}
	if cfg.Resync == 0 {
		cfg.Resync = 30 * time.Second
	}
	return &Overlay{cfg: cfg, changed: make(chan struct{}, 1), backends: backends}, nil
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
			if !okA || !okB || !slices.Equal(a.Spec.PodCIDRs, b.Spec.PodCIDRs) || !slices.Equal(nodeIPs(a), nodeIPs(b)) || announced(a) != announced(b) {
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
	err = o.backends[o.cfg.Backend].sync(ctx, self, peers)
	if o.cfg.Network != nil {
		var no refusal
		if errors.As(err, &no) {
			o.cfg.Network.Hold(no)
		} else {
			o.cfg.Network.Hold(nil)
		}
	}
	errs := []error{err}
	for name, b := range o.backends {
		if name != o.cfg.Backend {
			errs = append(errs, b.remove())
		}
	}
	return errors.Join(errs...)
}

// removeLink removes a device of this name, if there is one.
func removeLink(name string) error {
	link, err := netlink.LinkByName(name)
	if err == nil {
		err = netlink.LinkDel(link)
	}
	if err != nil && !isGone(err) {
		return fmt.Errorf("remove the device %s: %w", name, err)
	}
	return nil
}

// place is a node's place in the network.
type place struct {
	// Name of the node, and since when there is one of it.
	Name  string
	Since time.Time
	IP    netip.Addr
	CIDRs []netip.Prefix
	MAC   net.HardwareAddr
	// announcement is of the node's WireGuard, if it has one.
	announcement
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
		p := place{Name: n.Name, Since: n.CreationTimestamp.Time, IP: nodeIP(n), IPs: nodeIPs(n), announcement: announced(n)}
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

// raise gives the device between the nodes an address of each of this node's pod
// CIDRs, for what the node itself sends to pods, and raises it.
func raise(link netlink.Link, self place) error {
	name := link.Attrs().Name
	for _, c := range self.CIDRs {
		addr := &netlink.Addr{IPNet: hostNet(c.Addr())}
		if c.Addr().Is6() {
			addr.Flags = unix.IFA_F_NODAD
		}
		if err := netlink.AddrReplace(link, addr); err != nil {
			return fmt.Errorf("give %s the address %s: %w", name, c.Addr(), err)
		}
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("raise %s: %w", name, err)
	}
	return nil
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
