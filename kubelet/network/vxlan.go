package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

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

// vxlanDevice is the link that wraps packets.
const vxlanDevice = "skiff.1"

// vxlan is the backend VXLAN.
type vxlan struct{ vni, port int }

func (v vxlan) sync(_ context.Context, self place, peers []place) error {
	link, err := v.device(self)
	if err != nil {
		return err
	}
	return syncVXLAN(link, peers)
}

func (vxlan) remove() error { return removeLink(vxlanDevice) }

// device makes the VXLAN device as it must be, anew when it is otherwise.
func (v vxlan) device(self place) (netlink.Link, error) {
	under, err := underlay(self.IP)
	if err != nil {
		return nil, err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.HardwareAddr, attrs.MTU = vxlanDevice, self.MAC, under.Attrs().MTU-VXLAN.Overhead(self.IP)
	want := &netlink.Vxlan{
		LinkAttrs: attrs, VxlanId: v.vni, VtepDevIndex: under.Attrs().Index, SrcAddr: self.IP.AsSlice(), Port: v.port,
	}
	link, err := netlink.LinkByName(vxlanDevice)
	if err == nil {
		have, ok := link.(*netlink.Vxlan)
		if !ok || have.VxlanId != want.VxlanId || have.Port != want.Port || !have.SrcAddr.Equal(want.SrcAddr) ||
			have.VtepDevIndex != want.VtepDevIndex || have.HardwareAddr.String() != want.HardwareAddr.String() || have.Learning {
			if err := netlink.LinkDel(link); err != nil {
				return nil, fmt.Errorf("remove the old device %s: %w", vxlanDevice, err)
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
			return nil, fmt.Errorf("make VXLAN device %s: %w", vxlanDevice, err)
		}
		if link, err = netlink.LinkByName(vxlanDevice); err != nil {
			return nil, err
		}
	}
	if link.Attrs().MTU != attrs.MTU {
		if err := netlink.LinkSetMTU(link, attrs.MTU); err != nil {
			return nil, err
		}
	}
	return link, raise(link, self)
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
