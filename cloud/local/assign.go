package local

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	v1 "k8s.io/api/core/v1"
)

// portKey is a port that a load balancer listens on.
type portKey struct {
	port     int32
	protocol v1.Protocol
}

func (p portKey) String() string { return fmt.Sprintf("%d/%s", p.port, p.protocol) }

// claim is what one Service holds.
type claim struct {
	name  string // namespace/name
	addrs []netip.Addr
	ports []portKey
}

// request is what one Service asks for.
type request struct {
	claim // its addresses are those it has now
	// families in order of wish, true for IPv6; all tells that each is needed.
	families []bool
	all      bool
	// wanted is spec.loadBalancerIP.
	wanted string
}

func newRequest(s *v1.Service) request {
	r := request{claim: claimOf(s), wanted: s.Spec.LoadBalancerIP}
	for _, f := range s.Spec.IPFamilies {
		r.families = append(r.families, f == v1.IPv6Protocol)
	}
	if len(r.families) == 0 {
		a, err := netip.ParseAddr(s.Spec.ClusterIP)
		r.families = []bool{err == nil && a.Is6()}
	}
	r.all = s.Spec.IPFamilyPolicy != nil && *s.Spec.IPFamilyPolicy == v1.IPFamilyPolicyRequireDualStack
	return r
}

func claimOf(s *v1.Service) claim {
	c := claim{name: s.Namespace + "/" + s.Name}
	for _, in := range s.Status.LoadBalancer.Ingress {
		if a, err := netip.ParseAddr(in.IP); err == nil {
			c.addrs = append(c.addrs, a)
		}
	}
	for _, p := range s.Spec.Ports {
		c.ports = append(c.ports, portKey{p.Port, p.Protocol})
	}
	return c
}

// wish is spec.loadBalancerIP, invalid when there is none.
func (r request) wish() (netip.Addr, error) {
	if r.wanted == "" {
		return netip.Addr{}, nil
	}
	a, err := netip.ParseAddr(r.wanted)
	if err != nil {
		return a, fmt.Errorf("spec.loadBalancerIP: %w", err)
	}
	return a.Unmap(), nil
}

// settle gathers the addresses of each family.
func (r request) settle(of func(v6 bool) ([]netip.Addr, error)) ([]netip.Addr, error) {
	var out []netip.Addr
	var errs []error
	for _, v6 := range r.families {
		addrs, err := of(v6)
		errs = append(errs, err)
		out = append(out, addrs...)
		if err != nil && r.all {
			return nil, err
		}
	}
	if len(out) == 0 {
		return nil, errors.Join(errs...)
	}
	return out, nil
}

func family(v6 bool) string {
	if v6 {
		return "IPv6"
	}
	return "IPv4"
}

// fromPool gives the Service an address of its own per family, and the one it
// has when it may keep it.
func fromPool(r request, others []claim, pool []Range) ([]netip.Addr, error) {
	used := map[netip.Addr]string{}
	for _, o := range others {
		for _, a := range o.addrs {
			used[a] = o.name
		}
	}
	inPool := func(a netip.Addr) bool { return InPool(pool, a) }
	wish, err := r.wish()
	if err != nil {
		return nil, err
	}
	if wish.IsValid() {
		if !inPool(wish) {
			return nil, fmt.Errorf("spec.loadBalancerIP %s is not in the address pool", wish)
		}
		if by, taken := used[wish]; taken {
			return nil, fmt.Errorf("spec.loadBalancerIP %s is used by Service %s", wish, by)
		}
	}
	return r.settle(func(v6 bool) ([]netip.Addr, error) {
		if wish.IsValid() && wish.Is6() == v6 {
			return []netip.Addr{wish}, nil
		}
		for _, a := range r.addrs {
			if _, taken := used[a]; a.Is6() == v6 && inPool(a) && !taken {
				return []netip.Addr{a}, nil
			}
		}
		for _, p := range pool {
			if p.First.Is6() != v6 {
				continue
			}
			if a, ok := p.free(used); ok {
				return []netip.Addr{a}, nil
			}
		}
		return nil, fmt.Errorf("the address pool has no free %s address", family(v6))
	})
}

// fromNodes gives the Service all nodes' addresses, when its ports are free on them.
func fromNodes(r request, others []claim, nodes []*v1.Node, reserved []int32) ([]netip.Addr, error) {
	for _, p := range r.ports {
		if slices.Contains(reserved, p.port) {
			return nil, fmt.Errorf("port %s is reserved on the nodes, whose addresses the load balancer has: use another port or an address pool", p)
		}
	}
	wish, err := r.wish()
	if err != nil {
		return nil, err
	}
	all := nodeAddrs(nodes)
	if wish.IsValid() {
		if !slices.Contains(all, wish) {
			return nil, fmt.Errorf("spec.loadBalancerIP %s is no node's address", wish)
		}
		all = []netip.Addr{wish}
	}
	for _, o := range others {
		for _, p := range r.ports {
			if slices.Contains(o.ports, p) && slices.ContainsFunc(o.addrs, func(a netip.Addr) bool { return slices.Contains(all, a) }) {
				return nil, fmt.Errorf("port %s of the nodes is used by the load balancer of Service %s", p, o.name)
			}
		}
	}
	return r.settle(func(v6 bool) ([]netip.Addr, error) {
		var out []netip.Addr
		for _, a := range all {
			if a.Is6() == v6 {
				out = append(out, a)
			}
		}
		if len(out) == 0 {
			return nil, fmt.Errorf("no node has an %s address", family(v6))
		}
		return out, nil
	})
}

// nodeAddrs are the addresses that reach the nodes from outside: for each family
// the external ones of a node, or else its internal ones; in order of names.
func nodeAddrs(nodes []*v1.Node) []netip.Addr {
	sorted := slices.SortedFunc(slices.Values(nodes), func(a, b *v1.Node) int { return cmp.Compare(a.Name, b.Name) })
	var out []netip.Addr
	for _, n := range sorted {
		for _, v6 := range []bool{false, true} {
			found := ofType(n, v1.NodeExternalIP, v6)
			if len(found) == 0 {
				found = ofType(n, v1.NodeInternalIP, v6)
			}
			for _, a := range found {
				if !slices.Contains(out, a) {
					out = append(out, a)
				}
			}
		}
	}
	return out
}

func ofType(n *v1.Node, kind v1.NodeAddressType, v6 bool) []netip.Addr {
	var out []netip.Addr
	for _, a := range n.Status.Addresses {
		if ip, err := netip.ParseAddr(a.Address); err == nil && a.Type == kind && ip.Is6() == v6 {
			out = append(out, ip)
		}
	}
	return out
}
