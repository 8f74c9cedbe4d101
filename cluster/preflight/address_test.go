package preflight

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestNodeAddress(t *testing.T) {
	const pods, services = "10.244.0.0/16,fd00:244::/56", "10.96.0.0/12, fd00:96::/112"
	in := func(address, field, subnet, flag string) []string {
		return []string{"the node's address " + address + " lies in the cluster's networking." + field + " " + subnet +
			": give the node an address outside of it, or set up the cluster with another range (" + flag + ")"}
	}
	for _, tt := range []struct {
		name, address, pods, services string
		want                          []string
	}{
		{"outside of both", "192.168.0.10", pods, services, nil},
		{"the first after the range of Services", "10.112.0.0", pods, services, nil},
		{"the last of the range of Services", "10.111.255.255", pods, services, in("10.111.255.255", "serviceSubnet", "10.96.0.0/12", "--service-cidr")},
		{"among pods", "10.244.3.4", pods, services, in("10.244.3.4", "podSubnet", "10.244.0.0/16", "--pod-network-cidr")},
		{"the second family among pods", "fd00:244::7", pods, services, in("fd00:244::7", "podSubnet", "fd00:244::/56", "--pod-network-cidr")},
		{"the second family among Services", "fd00:96::7", pods, services, in("fd00:96::7", "serviceSubnet", "fd00:96::/112", "--service-cidr")},
		{"written as IPv6", "::ffff:10.96.0.9", pods, services, in("::ffff:10.96.0.9", "serviceSubnet", "10.96.0.0/12", "--service-cidr")},
		{"no address", "", pods, services, nil},
		{"no ranges", "10.96.0.9", "", "", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			warnings, errs := NodeAddress(tt.address, tt.pods, tt.services).Run(t.Context())
			var got []string
			for _, err := range append(warnings, errs...) {
				got = append(got, err.Error())
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}
