// Package conntrack forgets UDP flows whose translation leads nowhere any more.
package conntrack

import (
	"errors"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"skiff/proxy/state"
)

// filter matches the flows of a set of stale ones.
type filter struct {
	// gone: flows to a service address that were translated to this endpoint.
	gone map[pair]bool
	// lost: flows to a service address that go to none of these endpoints.
	lost map[netip.AddrPort]endpoints
	// node ports likewise, to any address with the port.
	gonePorts map[portPair]bool
	lostPorts map[uint16]endpoints
}

type endpoints map[netip.AddrPort]bool

type pair struct{ to, endpoint netip.AddrPort }
type portPair struct {
	port     uint16
	endpoint netip.AddrPort
}

func newFilter(flows []state.Flow) *filter {
	f := &filter{gone: map[pair]bool{}, lost: map[netip.AddrPort]endpoints{}, gonePorts: map[portPair]bool{}, lostPorts: map[uint16]endpoints{}}
	for i := range flows {
		flow := &flows[i]
		addrs := append([]netip.Addr{flow.Port.ClusterIP}, flow.Port.ExternalIP...)
		addrs = append(addrs, flow.Port.LoadBalancerIPs...)
		ep := flow.Endpoint.Addr
		known := endpoints{}
		for _, e := range flow.Port.Cluster {
			known[e.Addr] = true
		}
		for _, e := range flow.Port.Local {
			known[e.Addr] = true
		}
		for _, a := range addrs {
			to := netip.AddrPortFrom(a, flow.Port.Port)
			if ep.IsValid() {
				f.gone[pair{to, ep}] = true
			} else {
				f.lost[to] = known
			}
		}
		if np := flow.Port.NodePort; np != 0 {
			if ep.IsValid() {
				f.gonePorts[portPair{np, ep}] = true
			} else {
				f.lostPorts[np] = known
			}
		}
	}
	return f
}

// MatchConntrackFlow is netlink's hook: true deletes the flow.
func (f *filter) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	if flow.Forward.Protocol != unix.IPPROTO_UDP {
		return false
	}
	dst, ok1 := netip.AddrFromSlice(flow.Forward.DstIP)
	src, ok2 := netip.AddrFromSlice(flow.Reverse.SrcIP)
	if !ok1 || !ok2 {
		return false
	}
	to := netip.AddrPortFrom(dst.Unmap(), flow.Forward.DstPort)
	from := netip.AddrPortFrom(src.Unmap(), flow.Reverse.SrcPort)
	if f.gone[pair{to, from}] || f.gonePorts[portPair{to.Port(), from}] {
		return true
	}
	if known, ok := f.lost[to]; ok {
		return !known[from]
	}
	known, ok := f.lostPorts[to.Port()]
	return ok && !known[from]
}

// Forget deletes the flows from the kernel's table, and tells how many there were.
func Forget(flows []state.Flow, ipv6 bool) (int, error) {
	if len(flows) == 0 {
		return 0, nil
	}
	fam := netlink.InetFamily(unix.AF_INET)
	if ipv6 {
		fam = unix.AF_INET6
	}
	n, err := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, fam, newFilter(flows))
	if errors.Is(err, unix.ENOENT) {
		err = nil
	}
	return int(n), err
}
