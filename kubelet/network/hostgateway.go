package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
)

// gatewayProtocol marks the routes of the host-gw backend as ours.
const gatewayProtocol = 0x5f

// hostGateway is the backend host-gw.
type hostGateway struct{}

func (hostGateway) sync(_ context.Context, self place, peers []place) error {
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

func (hostGateway) remove() error { return dropGateways(nil) }

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
