package preflight

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
)

// NodeAddress wants that a node's address lies in none of the ranges that pods and
// Services have. In the first the routes of pods would take packets for the node; in
// the second the node gets no serving certificate, so that logs and exec fail.
func NodeAddress(address, podSubnet, serviceSubnet string) Check {
	return Check{Name: "NodeAddress", Run: func(context.Context) (warnings, errs []error) {
		a, err := netip.ParseAddr(address)
		if err != nil {
			return nil, nil // another check says so
		}
		for _, of := range []struct{ field, subnets, flag string }{
			{"podSubnet", podSubnet, "--pod-network-cidr"},
			{"serviceSubnet", serviceSubnet, "--service-cidr"},
		} {
			for text := range strings.SplitSeq(of.subnets, ",") {
				subnet, err := netip.ParsePrefix(strings.TrimSpace(text))
				if err != nil || !subnet.Contains(a.Unmap()) {
					continue
				}
				errs = append(errs, fmt.Errorf("the node's address %s lies in the cluster's networking.%s %s: "+
					"give the node an address outside of it, or set up the cluster with another range (%s)", a, of.field, subnet, of.flag))
			}
		}
		return nil, errs
	}}
}
