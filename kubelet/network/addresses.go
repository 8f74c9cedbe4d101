package network

import (
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// OtherFamily is this machine's address of the other family on the link that has
// ip: one that others can reach it by for long.
func OtherFamily(ip netip.Addr) (netip.Addr, bool) {
	link, err := underlay(ip)
	if err != nil {
		return netip.Addr{}, false
	}
	family := netlink.FAMILY_V6
	if ip.Is6() {
		family = netlink.FAMILY_V4
	}
	addrs, err := netlink.AddrList(link, family)
	if err != nil {
		return netip.Addr{}, false
	}
	for _, a := range addrs {
		other, ok := netip.AddrFromSlice(a.IP)
		if ok && other.IsGlobalUnicast() && a.Flags&(unix.IFA_F_DEPRECATED|unix.IFA_F_TEMPORARY|unix.IFA_F_DADFAILED) == 0 {
			return other.Unmap(), true
		}
	}
	return netip.Addr{}, false
}
