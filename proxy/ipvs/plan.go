// Package ipvs writes the service table as virtual servers of the kernel's IPVS,
// which spreads connections by many schedulers.
//
// IPVS takes packets that are for the node, so every Service's address is one of
// the node's, on a link of its own that leads nowhere. What IPVS does not do, a
// table of nftables beside it does: masquerading, source ranges, the refusal of
// what nothing answers, and the way of pods and of the node itself to Services
// whose external traffic stays on a node.
//
// plan is pure: what one service port wants. Writer brings the kernel to it.
package ipvs

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"

	"skiff/proxy/nftables"
	"skiff/proxy/state"
)

// Config shapes the virtual servers of one family.
type Config struct {
	IPv6 bool
	// Local, MasqueradeAll and MasqueradeBit are as in the mode nftables.
	Local         state.Local
	MasqueradeAll bool
	MasqueradeBit int
	// NodePortAddresses limit the node's own addresses that node ports answer on to
	// ranges; empty is every one but the loopback ones.
	NodePortAddresses []netip.Prefix
	Options
}

// Options are those of this mode alone.
type Options struct {
	// Scheduler picks the endpoint of a connection; empty is rr.
	Scheduler string
	// Exclude are the addresses of other programs' virtual servers, which stay.
	Exclude []netip.Prefix
	// StrictARP lets a link answer for its own addresses alone.
	StrictARP bool
	// The timeouts of idle connections; 0 leaves the kernel's.
	TCPTimeout, TCPFinTimeout, UDPTimeout time.Duration
}

// Schedulers are those that the kernel may have.
func Schedulers() []string {
	return []string{"rr", "wrr", "lc", "wlc", "lblc", "lblcr", "sh", "dh", "sed", "nq", "mh", "fo", "ovf", "twos"}
}

// Sets and maps of the table, by address, protocol and port.
const (
	setAddresses = "service-ips"
	setHairpin   = "hairpin"
	// setServed are all that have an endpoint; those to cluster IPs, and those from
	// outside that any node's endpoint may answer, are masqueraded.
	setServed   = "served"
	setInternal = "internal"
	setExternal = "external"
	mapRefused  = "refused"
	mapFirewall = "firewall"
	// mapEverywhere leads pods and the node itself to all endpoints of what others
	// reach the node's own endpoints by.
	mapEverywhere = "everywhere"
)

const (
	chainMark       = "mark-for-masquerade"
	chainMasquerade = "masquerading"
	chainReject     = "reject-chain"
	chainServices   = "services"
	chainCheck      = "check"
	chainFirewall   = "firewall-check"
)

// serverName names a virtual server.
type serverName struct {
	at       netip.AddrPort
	protocol v1.Protocol
}

// server is a virtual server.
type server struct {
	scheduler string
	// affinity is for how many seconds a client keeps its endpoint; 0 is not.
	affinity uint32
	// endpoints by their weights.
	endpoints map[netip.AddrPort]int
}

// wish is what a service port wants.
type wish struct {
	servers map[serverName]server
	// addresses are to be the node's.
	addresses []netip.Addr
}

// servers are those that a port wants. own are all the node's addresses, and nodes
// those that node ports answer on.
func (c *Config) servers(own, nodes []netip.Addr, p *state.Port) wish {
	out := wish{servers: map[serverName]server{}}
	for _, t := range targets(nodes, p) {
		if !slices.Contains(own, t.at.Addr()) {
			out.addresses = append(out.addresses, t.at.Addr())
		}
		s := server{scheduler: c.Scheduler, affinity: uint32(p.AffinitySeconds), endpoints: map[netip.AddrPort]int{}}
		for _, e := range t.endpoints {
			s.endpoints[e.Addr] = 1
		}
		out.servers[serverName{t.at, p.Name.Protocol}] = s
	}
	return out
}

// target is where packets for a port go to.
type target struct {
	at        netip.AddrPort
	endpoints []state.Endpoint
	external  bool
}

func targets(nodes []netip.Addr, p *state.Port) []target {
	out := []target{{netip.AddrPortFrom(p.ClusterIP, p.Port), p.Internal(), false}}
	external := p.Cluster
	if p.ExternalLocal {
		external = p.Local
	}
	for _, ip := range slices.Concat(p.ExternalIP, p.LoadBalancerIPs) {
		out = append(out, target{netip.AddrPortFrom(ip, p.Port), external, true})
	}
	if p.NodePort != 0 {
		for _, ip := range nodes {
			out = append(out, target{netip.AddrPortFrom(ip, p.NodePort), external, true})
		}
	}
	return out
}

// content is what a port wants of the table.
func (c *Config) content(own, nodes []netip.Addr, p *state.Port) *nftables.Content {
	out := nftables.NewContent()
	ip, proto := "ip", strings.ToLower(string(p.Name.Protocol))
	if c.IPv6 {
		ip = "ip6"
	}
	everywhere := "everywhere-" + nftables.Name(p.Name, p.Name.String())
	for _, t := range targets(nodes, p) {
		key := nftables.Key(t.at.Addr(), proto, t.at.Port())
		if !slices.Contains(own, t.at.Addr()) {
			out.Element(setAddresses, t.at.Addr().String(), "")
		}
		for i := range t.endpoints {
			if at := t.endpoints[i].Addr.Addr(); t.endpoints[i].Here() {
				out.Element(setHairpin, nftables.Key(at, at), "")
			}
		}
		switch {
		case len(t.endpoints) > 0:
			out.Element(setServed, key, "")
		case p.HasAny:
			out.Element(mapRefused, key, "drop")
		default:
			out.Element(mapRefused, key, "goto "+chainReject)
		}
		switch {
		case t.external && p.ExternalLocal:
			if len(p.Cluster) > 0 {
				out.Element(mapEverywhere, key, "goto "+everywhere)
				out.Chains[everywhere] = c.everywhere(ip, proto, p)
			}
		case len(t.endpoints) == 0:
		case t.external:
			out.Element(setExternal, key, "")
		default:
			out.Element(setInternal, key, "")
		}
	}
	out.Firewall(ip, mapFirewall, p)
	return out
}

// everywhere is the chain to all endpoints.
func (c *Config) everywhere(ip, proto string, p *state.Port) []string {
	ends := make([]string, len(p.Cluster))
	for i := range p.Cluster {
		ends[i] = nftables.Key(p.Cluster[i].Addr.Addr(), p.Cluster[i].Addr.Port())
	}
	return []string{"fib saddr type local jump " + chainMark, "meta l4proto " + proto + " dnat " + ip + " to " + nftables.Draw("map", ends)}
}
