package config

import (
	"net"
	"testing"
)

// Where the node's address lies within a usual range, the cluster has another one.
func TestRangesApart(t *testing.T) {
	for _, c := range []struct{ name, address, services, pods string }{
		{"elsewhere", "192.0.2.1", DefaultServiceSubnet, DefaultPodSubnet},
		{"within that of Services", "10.100.3.4", otherServiceSubnet, DefaultPodSubnet},
		{"within that of pods", "10.244.3.4", DefaultServiceSubnet, otherPodSubnet},
		{"IPv6", "fd00::1", DefaultServiceSubnet, DefaultPodSubnet},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := NewInit(Facts{Address: net.ParseIP(c.address)}).Cluster.Networking
			if got.ServiceSubnet != c.services || got.PodSubnet != c.pods {
				t.Errorf("Services are in %s and pods in %s, want %s and %s", got.ServiceSubnet, got.PodSubnet, c.services, c.pods)
			}
		})
	}
	given := &Init{}
	given.Cluster.Networking.ServiceSubnet = "10.96.0.0/16"
	DefaultInit(given, Facts{Address: net.ParseIP("10.100.3.4")})
	if got := given.Cluster.Networking.ServiceSubnet; got != "10.96.0.0/16" {
		t.Errorf("the range that was given became %s", got)
	}
}
