// Package state is the pure half of the service proxy: it turns Services and
// EndpointSlices into the table of what a packet to a service port may reach.
// It knows no clock, no I/O and no packet filter; the writers (iptables,
// nftables) turn the same table into rules.
package state

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
)

// PortName names one port of one Service.
type PortName struct {
	types.NamespacedName
	// Port is the port's name in the Service; empty for an only port.
	Port     string
	Protocol v1.Protocol
}

// String is namespace/name:port.
func (n PortName) String() string {
	if n.Port == "" {
		return n.NamespacedName.String()
	}
	return n.NamespacedName.String() + ":" + n.Port
}

// Endpoint is one address that answers for a service port.
type Endpoint struct {
	Addr netip.AddrPort
	// Local endpoints are on this node.
	Local bool
	// Ready endpoints take new connections; Serving ones that are Terminating
	// take them when no ready one is left (KEP-1669).
	Ready, Serving, Terminating bool
	node, zone                  string
	hintZones, hintNodes        []string
}

// Here tells whether the endpoint may be on this node: one whose node nobody named
// may be.
func (e *Endpoint) Here() bool { return e.Local || e.node == "" }

// Port is one port of one Service for one IP family.
type Port struct {
	Name       PortName
	ClusterIP  netip.Addr
	Port       uint16
	NodePort   uint16
	ExternalIP []netip.Addr
	// LoadBalancerIPs are those whose mode is VIP.
	LoadBalancerIPs []netip.Addr
	// SourceRanges limit who may use the load balancer; empty is everyone.
	SourceRanges []netip.Prefix
	// AffinitySeconds is the ClientIP session affinity; 0 for none.
	AffinitySeconds int32
	// ExternalLocal and InternalLocal are the traffic policies Local.
	ExternalLocal, InternalLocal bool
	HealthCheckNodePort          uint16

	// Cluster are the endpoints for traffic under the policy Cluster, Local
	// those for the policy Local; both in address order.
	Cluster, Local []Endpoint
	// HasAny tells whether any endpoint exists anywhere: without one traffic is
	// rejected, with only remote ones Local traffic is dropped.
	HasAny bool
	// LocalReady is the number of ready local endpoints, for the health check.
	LocalReady int
}

// UsesLocal tells whether some traffic of the port goes to local endpoints only.
func (p *Port) UsesLocal() bool { return p.ExternalLocal && p.External() || p.InternalLocal }

// External tells whether the port can be reached from outside the cluster.
func (p *Port) External() bool {
	return p.NodePort != 0 || len(p.ExternalIP) > 0 || len(p.LoadBalancerIPs) > 0
}

// Internal are the endpoints for traffic to the cluster IP.
func (p *Port) Internal() []Endpoint {
	if p.InternalLocal {
		return p.Local
	}
	return p.Cluster
}

// Node is what the table depends on beside the objects.
type Node struct {
	Name, Zone string
	// IPv6 picks the family.
	IPv6 bool
}

// The label that hands a Service to another proxy.
const proxyNameLabel = "service.kubernetes.io/service-proxy-name"

// Skip tells whether a Service is none of the proxy's.
func Skip(s *v1.Service) bool {
	if s.Spec.Type == v1.ServiceTypeExternalName || s.Labels[proxyNameLabel] != "" {
		return true
	}
	if _, headless := s.Labels[v1.IsHeadlessService]; headless {
		return true
	}
	return s.Spec.ClusterIP == "" || s.Spec.ClusterIP == v1.ClusterIPNone
}

// Ports is the table of one Service with its slices, in port order.
func Ports(s *v1.Service, slicesOf []*discovery.EndpointSlice, node Node) []Port {
	if Skip(s) {
		return nil
	}
	clusterIP, ok := familyIP(clusterIPs(s), node.IPv6)
	if !ok {
		return nil
	}
	base := Port{
		ClusterIP:     clusterIP,
		ExternalIP:    familyIPs(s.Spec.ExternalIPs, node.IPv6),
		ExternalLocal: s.Spec.ExternalTrafficPolicy == v1.ServiceExternalTrafficPolicyLocal,
		InternalLocal: s.Spec.InternalTrafficPolicy != nil && *s.Spec.InternalTrafficPolicy == v1.ServiceInternalTrafficPolicyLocal,
	}
	if s.Spec.SessionAffinity == v1.ServiceAffinityClientIP {
		base.AffinitySeconds = v1.DefaultClientIPServiceAffinitySeconds
		if c := s.Spec.SessionAffinityConfig; c != nil && c.ClientIP != nil && c.ClientIP.TimeoutSeconds != nil {
			base.AffinitySeconds = *c.ClientIP.TimeoutSeconds
		}
	}
	if s.Spec.Type == v1.ServiceTypeLoadBalancer {
		for _, in := range s.Status.LoadBalancer.Ingress {
			if in.IPMode != nil && *in.IPMode != v1.LoadBalancerIPModeVIP {
				continue
			}
			base.LoadBalancerIPs = append(base.LoadBalancerIPs, familyIPs([]string{in.IP}, node.IPv6)...)
		}
		for _, text := range s.Spec.LoadBalancerSourceRanges {
			if p, err := netip.ParsePrefix(strings.TrimSpace(text)); err == nil && p.Addr().Is4() != node.IPv6 {
				base.SourceRanges = append(base.SourceRanges, p.Masked())
			}
		}
		if base.ExternalLocal {
			base.HealthCheckNodePort = uint16(s.Spec.HealthCheckNodePort)
		}
	}
	name := types.NamespacedName{Namespace: s.Namespace, Name: s.Name}
	out := make([]Port, 0, len(s.Spec.Ports))
	for _, sp := range s.Spec.Ports {
		p := base
		p.Name = PortName{NamespacedName: name, Port: sp.Name, Protocol: sp.Protocol}
		p.Port, p.NodePort = uint16(sp.Port), uint16(sp.NodePort)
		choose(&p, endpoints(sp, slicesOf, node), s, node)
		out = append(out, p)
	}
	return out
}

func clusterIPs(s *v1.Service) []string {
	if len(s.Spec.ClusterIPs) > 0 {
		return s.Spec.ClusterIPs
	}
	return []string{s.Spec.ClusterIP}
}

func familyIPs(texts []string, v6 bool) []netip.Addr {
	var out []netip.Addr
	for _, text := range texts {
		if a, err := netip.ParseAddr(text); err == nil && a.Is4() != v6 {
			out = append(out, a)
		}
	}
	return out
}

func familyIP(texts []string, v6 bool) (netip.Addr, bool) {
	ips := familyIPs(texts, v6)
	if len(ips) == 0 {
		return netip.Addr{}, false
	}
	return ips[0], true
}

// endpoints are those of one service port, without duplicates, in address order.
func endpoints(sp v1.ServicePort, slicesOf []*discovery.EndpointSlice, node Node) []Endpoint {
	family := discovery.AddressTypeIPv4
	if node.IPv6 {
		family = discovery.AddressTypeIPv6
	}
	found := map[netip.AddrPort]Endpoint{}
	for _, slice := range slicesOf {
		if slice.AddressType != family || slice.DeletionTimestamp != nil {
			continue
		}
		port, ok := portOf(sp, slice)
		if !ok {
			continue
		}
		for i := range slice.Endpoints {
			e := &slice.Endpoints[i]
			if len(e.Addresses) == 0 {
				continue
			}
			addr, err := netip.ParseAddr(e.Addresses[0])
			if err != nil {
				continue
			}
			at := netip.AddrPortFrom(addr, port)
			ep := newEndpoint(e, at, node.Name)
			// The same address in two slices is one endpoint, which is as ready
			// as its readier appearance.
			if old, dup := found[at]; !dup || ep.Ready && !old.Ready {
				found[at] = ep
			}
		}
	}
	out := make([]Endpoint, 0, len(found))
	for _, e := range found {
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b Endpoint) int { return a.Addr.Compare(b.Addr) })
	return out
}

func portOf(sp v1.ServicePort, slice *discovery.EndpointSlice) (uint16, bool) {
	for _, p := range slice.Ports {
		name, protocol := "", v1.ProtocolTCP
		if p.Name != nil {
			name = *p.Name
		}
		if p.Protocol != nil {
			protocol = *p.Protocol
		}
		if name == sp.Name && protocol == cmp.Or(sp.Protocol, v1.ProtocolTCP) && p.Port != nil {
			return uint16(*p.Port), true
		}
	}
	return 0, false
}

func newEndpoint(e *discovery.Endpoint, at netip.AddrPort, nodeName string) Endpoint {
	out := Endpoint{
		Addr:        at,
		Ready:       e.Conditions.Ready == nil || *e.Conditions.Ready,
		Terminating: e.Conditions.Terminating != nil && *e.Conditions.Terminating,
	}
	out.Serving = out.Ready
	if e.Conditions.Serving != nil {
		out.Serving = *e.Conditions.Serving
	}
	if e.NodeName != nil {
		out.node = *e.NodeName
		out.Local = out.node == nodeName
	}
	if e.Zone != nil {
		out.zone = *e.Zone
	}
	if e.Hints != nil {
		for _, z := range e.Hints.ForZones {
			out.hintZones = append(out.hintZones, z.Name)
		}
		for _, n := range e.Hints.ForNodes {
			out.hintNodes = append(out.hintNodes, n.Name)
		}
	}
	return out
}

// choose splits the endpoints over the two policies.
func choose(p *Port, all []Endpoint, s *v1.Service, node Node) {
	p.HasAny = slices.ContainsFunc(all, func(e Endpoint) bool { return e.Ready || e.Serving && e.Terminating })
	for _, e := range all {
		if e.Local && e.Ready {
			p.LocalReady++
		}
	}
	var local []Endpoint
	for _, e := range all {
		if e.Local {
			local = append(local, e)
		}
	}
	p.Local = usable(local)
	p.Cluster = usable(all)
	// Hints are about endpoints that take new connections; the last resort of
	// those that end is everybody's.
	if len(p.Cluster) > 0 && p.Cluster[0].Ready {
		if hinted := topology(p.Cluster, node); hinted != nil {
			p.Cluster = hinted
		}
	}
}

// usable are the ready endpoints, or those that still serve while they end when
// none is ready.
func usable(all []Endpoint) []Endpoint {
	var ready, ending []Endpoint
	for _, e := range all {
		switch {
		case e.Ready:
			ready = append(ready, e)
		case e.Serving && e.Terminating:
			ending = append(ending, e)
		}
	}
	if len(ready) > 0 {
		return ready
	}
	return ending
}

// topology are the endpoints hinted for this node or its zone. nil when the hints
// are not complete or would leave the node without endpoints (KEP-2433, KEP-3015).
func topology(all []Endpoint, node Node) []Endpoint {
	pick := func(hints func(*Endpoint) []string, own string) []Endpoint {
		if own == "" {
			return nil
		}
		var out []Endpoint
		for i := range all {
			h := hints(&all[i])
			if len(h) == 0 {
				return nil
			}
			if slices.Contains(h, own) {
				out = append(out, all[i])
			}
		}
		return out
	}
	if out := pick(func(e *Endpoint) []string { return e.hintNodes }, node.Name); len(out) > 0 {
		return out
	}
	return pick(func(e *Endpoint) []string { return e.hintZones }, node.Zone)
}
