// Package announce tells the link which node has the address of a load balancer that
// no node has as its own: of the nodes that could answer, each takes the addresses
// that are its own by a rule that all know, answers ARP and neighbour solicitations for
// them, and says so unasked when it takes one over.
package announce

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
	"slices"

	v1 "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	"k8s.io/utils/ptr"
)

// taintToBeDeleted is on nodes that the cluster autoscaler is about to remove.
const taintToBeDeleted = "ToBeDeletedByClusterAutoscaler"

// world is what the choice is made from.
type world struct {
	nodes    []*v1.Node
	services []*v1.Service
	// slices are those of a Service.
	slices func(*v1.Service) []*discovery.EndpointSlice
	// ours tells which addresses are announced at all.
	ours func(netip.Addr) bool
}

// choose says by their names which nodes may announce each address, the best first.
func (w *world) choose() map[netip.Addr][]string {
	out := make(map[netip.Addr][]string)
	all := candidates(w.nodes)
	// Few of a cluster's many Services have such an address.
	services := slices.DeleteFunc(slices.Clone(w.services), func(s *v1.Service) bool { return s.Spec.Type != v1.ServiceTypeLoadBalancer })
	slices.SortFunc(services, func(a, b *v1.Service) int { return a.CreationTimestamp.Compare(b.CreationTimestamp.Time) })
	for _, s := range services {
		able := all
		if s.Spec.ExternalTrafficPolicy == v1.ServiceExternalTrafficPolicyLocal {
			able = slices.DeleteFunc(slices.Clone(all), func(node string) bool { return !answers(w.slices(s), node) })
		}
		for _, in := range s.Status.LoadBalancer.Ingress {
			ip, err := netip.ParseAddr(in.IP)
			if err != nil || in.IPMode != nil && *in.IPMode != v1.LoadBalancerIPModeVIP || !w.ours(ip) {
				continue
			}
			if _, taken := out[ip]; !taken && len(able) > 0 {
				out[ip] = rank(ip, able)
			}
		}
	}
	return out
}

// candidates are the nodes that may be asked from outside: those that are ready, and
// where all of them are kept from load balancers, these.
func candidates(nodes []*v1.Node) []string {
	var out, kept []string
	for _, n := range nodes {
		ready := slices.ContainsFunc(n.Status.Conditions, func(c v1.NodeCondition) bool {
			return c.Type == v1.NodeReady && c.Status == v1.ConditionTrue
		})
		leaving := slices.ContainsFunc(n.Spec.Taints, func(t v1.Taint) bool { return t.Key == taintToBeDeleted })
		if !ready || leaving || n.DeletionTimestamp != nil {
			continue
		}
		if _, excluded := n.Labels[v1.LabelNodeExcludeBalancers]; excluded {
			kept = append(kept, n.Name)
			continue
		}
		out = append(out, n.Name)
	}
	if len(out) == 0 {
		return kept
	}
	return out
}

// answers tells whether a node has an endpoint that takes new connections.
func answers(of []*discovery.EndpointSlice, node string) bool {
	for _, s := range of {
		for i := range s.Endpoints {
			e := &s.Endpoints[i]
			if ptr.Deref(e.NodeName, "") == node && ptr.Deref(e.Conditions.Ready, true) {
				return true
			}
		}
	}
	return false
}

// ranked is how many nodes stand by for an address: each of them asks after those
// before it.
const ranked = 3

// rank are the nodes with the highest numbers drawn from them and the address: when a
// node goes, only its own addresses move.
func rank(ip netip.Addr, nodes []string) []string {
	draw := func(node string) uint64 {
		sum := sha256.Sum256([]byte(ip.String() + "/" + node))
		return binary.BigEndian.Uint64(sum[:])
	}
	sorted := slices.SortedFunc(slices.Values(nodes), func(a, b string) int {
		return cmp.Or(cmp.Compare(draw(b), draw(a)), cmp.Compare(a, b))
	})
	return sorted[:min(ranked, len(sorted))]
}
