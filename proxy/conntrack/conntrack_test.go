package conntrack

import (
	"net"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"skiff/proxy/state"
)

func TestStaleFlowsMatch(t *testing.T) {
	ep := func(text string) state.Endpoint { return state.Endpoint{Addr: netip.MustParseAddrPort(text)} }
	port := state.Port{
		ClusterIP: netip.MustParseAddr("10.96.0.1"), Port: 53, NodePort: 30053,
		LoadBalancerIPs: []netip.Addr{netip.MustParseAddr("203.0.113.1")}, Cluster: []state.Endpoint{ep("10.0.0.2:5353")},
	}
	gone := []state.Flow{{Port: port, Endpoint: ep("10.0.0.1:5353")}}
	lost := []state.Flow{{Port: port}}
	for name, tc := range map[string]struct {
		flows    []state.Flow
		protocol uint8
		to, from string // what was asked, and who answers
		want     bool
	}{
		"to the endpoint that is gone":                {gone, unix.IPPROTO_UDP, "10.96.0.1:53", "10.0.0.1:5353", true},
		"to it through the load balancer":             {gone, unix.IPPROTO_UDP, "203.0.113.1:53", "10.0.0.1:5353", true},
		"to it through a node port":                   {gone, unix.IPPROTO_UDP, "192.0.2.1:30053", "10.0.0.1:5353", true},
		"to another endpoint":                         {gone, unix.IPPROTO_UDP, "10.96.0.1:53", "10.0.0.2:5353", false},
		"to it without the service":                   {gone, unix.IPPROTO_UDP, "10.0.0.1:5353", "10.0.0.1:5353", false},
		"over TCP":                                    {gone, unix.IPPROTO_TCP, "10.96.0.1:53", "10.0.0.1:5353", false},
		"not translated while there was none":         {lost, unix.IPPROTO_UDP, "10.96.0.1:53", "10.96.0.1:53", true},
		"not translated on a node port":               {lost, unix.IPPROTO_UDP, "192.0.2.1:30053", "192.0.2.1:30053", true},
		"translated by an earlier process and gone":   {lost, unix.IPPROTO_UDP, "10.96.0.1:53", "10.0.0.9:5353", true},
		"translated by an earlier process and stands": {lost, unix.IPPROTO_UDP, "10.96.0.1:53", "10.0.0.2:5353", false},
		"of nobody's business":                        {lost, unix.IPPROTO_UDP, "198.51.100.1:53", "198.51.100.1:53", false},
	} {
		t.Run(name, func(t *testing.T) {
			to, from := netip.MustParseAddrPort(tc.to), netip.MustParseAddrPort(tc.from)
			flow := &netlink.ConntrackFlow{
				Forward: netlink.IPTuple{Protocol: tc.protocol, DstIP: net.IP(to.Addr().AsSlice()), DstPort: to.Port()},
				Reverse: netlink.IPTuple{Protocol: tc.protocol, SrcIP: net.IP(from.Addr().AsSlice()), SrcPort: from.Port()},
			}
			if got := newFilter(tc.flows).MatchConntrackFlow(flow); got != tc.want {
				t.Errorf("forgotten %v, want %v", got, tc.want)
			}
		})
	}
}
