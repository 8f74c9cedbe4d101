// Package nftables writes the service table as an nftables table of its own.
// What a packet is for is looked up in maps, so a Service more costs packets
// nothing, and a change writes only what changed.
//
// The common Service is nothing but elements of maps: one leads from its address
// to the chain that draws one of N, which all Services with N endpoints share, and
// one for each number drawn to an endpoint. Chains of its own has only a Service
// that needs more: many endpoints, session affinity, or another choice by where
// the packet comes from. The kernel takes time for each chain and anonymous map
// that grows with how many there are, so that ten thousand of each take minutes.
//
// Rules is pure: the wished content of the kernel's table for one service port.
// Writer brings the kernel to it in one transaction.
package nftables

import (
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"skiff/proxy/state"
)

// Config shapes the rules of one family.
type Config struct {
	IPv6 bool
	// Local is what pods send: what others send to a cluster IP is masqueraded, and
	// external traffic from pods takes the policy Cluster.
	Local state.Local
	// MasqueradeAll masquerades all traffic to cluster IPs.
	MasqueradeAll bool
	// KeepInvalid lets packets through that the kernel knows no connection of, as the
	// answers to them may come by another way.
	KeepInvalid bool
	// MasqueradeBit is the bit of the packet mark (0 to 31); upstream's default is 14.
	MasqueradeBit int
	// NodePortAddresses limit the node's own addresses that node ports answer on to
	// ranges; empty is every one but the loopback ones.
	NodePortAddresses []netip.Prefix
}

// Maps and sets that lead packets to chains and endpoints.
const (
	mapServices    = "service-ips"
	mapNodePorts   = "service-nodeports"
	mapFirewall    = "firewall-ips"
	mapNoEndpoints = "no-endpoint-services"
	mapNoNodePorts = "no-endpoint-nodeports"
	setClusterIPs  = "cluster-ips"
	// setHairpin are this node's endpoints, each twice: a packet from one to
	// itself must not keep its source.
	setHairpin = "hairpin"
)

// Of what a packet is for, the endpoints with one number are in one map. Services
// with more endpoints than there are maps have a chain of their own.
const (
	mapEndpoint         = "endpoint-"
	mapNodePortEndpoint = "nodeport-endpoint-"
	endpointMaps        = 16
)

// Chains that every node has.
const (
	chainServices    = "services"
	chainMark        = "mark-for-masquerade"
	chainMasquerade  = "masquerading"
	chainReject      = "reject-chain"
	chainNoEndpoints = "service-endpoints-check"
	chainNoNodePorts = "nodeport-endpoints-check"
	chainFirewall    = "firewall-check"
)

// Key joins the parts of a map's key.
func Key(parts ...any) string {
	texts := make([]string, len(parts))
	for i, p := range parts {
		texts[i] = fmt.Sprint(p)
	}
	return strings.Join(texts, " . ")
}

// Rules is the content for one service port.
func Rules(c *Config, p *state.Port) *Content {
	b := &builder{c: c, p: p, out: NewContent(), ip: "ip", proto: strings.ToLower(string(p.Name.Protocol))}
	if c.IPv6 {
		b.ip = "ip6"
	}
	b.id = Name(p.Name, p.Name.String())
	b.port()
	return b.out
}

type builder struct {
	c             *Config
	p             *state.Port
	out           *Content
	ip, proto, id string
}

// Name of what belongs to a service port is unique by its hash, and tells people
// what it is for.
func Name(n state.PortName, parts ...string) string {
	proto := strings.ToLower(string(n.Protocol))
	sum := sha256.Sum256([]byte(strings.Join(append(parts, proto), "\x00")))
	return base32.StdEncoding.EncodeToString(sum[:])[:8] + "-" + n.Namespace + "/" + n.Name + "/" + proto + "/" + n.Port
}

func (b *builder) chain(name string, rules ...string) { b.out.Chains[name] = rules }

// destination is where packets for a service port go.
type destination struct {
	// in leads from key to a chain; refuse to what becomes of it without endpoints.
	in, refuse, key string
}

func (b *builder) address(ip netip.Addr) destination {
	return destination{mapServices, mapNoEndpoints, Key(ip, b.proto, b.p.Port)}
}

func (b *builder) nodePort() destination {
	return destination{mapNodePorts, mapNoNodePorts, Key(b.proto, b.p.NodePort)}
}

// outside are the destinations of traffic from outside the cluster.
func (b *builder) outside() []destination {
	var out []destination
	for _, ip := range slices.Concat(b.p.ExternalIP, b.p.LoadBalancerIPs) {
		out = append(out, b.address(ip))
	}
	if b.p.NodePort != 0 {
		out = append(out, b.nodePort())
	}
	return out
}

func (b *builder) port() {
	p := b.p
	b.out.Element(setClusterIPs, p.ClusterIP.String(), "")
	if p.AffinitySeconds > 0 || p.ExternalLocal && p.External() {
		b.chains()
	} else {
		b.spread(b.address(p.ClusterIP), p.Internal(), false)
		for _, to := range b.outside() {
			b.spread(to, p.Cluster, true)
		}
	}
	b.out.Firewall(b.ip, mapFirewall, p)
}

// spread leads a destination evenly to endpoints.
func (b *builder) spread(to destination, eps []state.Endpoint, masquerade bool) {
	if len(eps) == 0 {
		b.out.Element(to.refuse, to.key, b.refusal())
		return
	}
	for i := range eps {
		if at := eps[i].Addr.Addr(); eps[i].Here() {
			b.out.Element(setHairpin, Key(at, at), "")
		}
	}
	var chain string
	if len(eps) > endpointMaps {
		chain = b.many(eps)
	} else {
		chain = b.pick(to, eps)
	}
	if masquerade {
		next := chain
		chain = "external-" + chain
		b.chain(chain, "jump "+chainMark, "goto "+next)
	}
	b.out.Element(to.in, to.key, "goto "+chain)
}

// pick draws a number in a chain that all Services with so many endpoints share;
// base has the chains of the numbers.
func (b *builder) pick(to destination, eps []state.Endpoint) string {
	in, chain := mapEndpoint, "pick-"
	if to.in == mapNodePorts {
		in, chain = mapNodePortEndpoint, "nodeport-pick-"
	}
	targets := make([]string, len(eps))
	for i := range eps {
		number := in + strconv.Itoa(i)
		targets[i] = "goto " + number
		b.out.Element(number, to.key, Key(eps[i].Addr.Addr(), eps[i].Addr.Port()))
	}
	chain += strconv.Itoa(len(eps))
	b.chain(chain, Draw("vmap", targets))
	return chain
}

// many draws in a chain of the port's own.
func (b *builder) many(eps []state.Endpoint) string {
	targets := make([]string, len(eps))
	for i := range eps {
		targets[i] = Key(eps[i].Addr.Addr(), eps[i].Addr.Port())
	}
	chain := "service-" + b.id
	b.chain(chain, "meta l4proto "+b.proto+" dnat "+b.ip+" to "+Draw("map", targets))
	return chain
}

// Draw looks up one of the targets by chance.
func Draw(in string, targets []string) string {
	if in == "vmap" && len(targets) == 1 {
		return targets[0]
	}
	var out strings.Builder
	fmt.Fprintf(&out, "numgen random mod %d %s {", len(targets), in)
	for i, t := range targets {
		if i > 0 {
			out.WriteString(" ,")
		}
		out.WriteString(" " + strconv.Itoa(i) + " : " + t)
	}
	return out.String() + " }"
}

// chains leads to endpoints through chains of the port's own.
func (b *builder) chains() {
	p := b.p
	internal, external := p.Internal(), p.Cluster
	clusterChain, localChain := "service-"+b.id, "local-"+b.id
	internalChain, policyChain := clusterChain, clusterChain
	if p.InternalLocal {
		internalChain = localChain
	}
	if p.ExternalLocal {
		policyChain, external = localChain, p.Local
	}
	if len(p.Cluster) > 0 && (!p.InternalLocal || p.External()) {
		b.balance(clusterChain, p.Cluster)
	}
	if len(p.Local) > 0 && p.UsesLocal() {
		b.balance(localChain, p.Local)
	}
	if to := b.address(p.ClusterIP); len(internal) > 0 {
		b.out.Element(to.in, to.key, "goto "+internalChain)
	} else {
		b.out.Element(to.refuse, to.key, b.refusal())
	}
	if !p.External() {
		return
	}
	externalChain := "external-" + b.id
	reachable := len(p.Cluster) > 0 || len(external) > 0
	if reachable {
		b.external(externalChain, clusterChain, policyChain, len(external) > 0)
	}
	for _, to := range b.outside() {
		if reachable {
			b.out.Element(to.in, to.key, "goto "+externalChain)
		}
		if len(external) == 0 {
			b.out.Element(to.refuse, to.key, b.refusal())
		}
	}
}

// refusal rejects what no endpoint can take, or drops it when another node could:
// a load balancer then tries that one.
func (b *builder) refusal() string {
	if b.p.HasAny {
		return "drop"
	}
	return "goto " + chainReject
}

// external is the chain of traffic from outside the cluster.
func (b *builder) external(chain, clusterChain, policyChain string, hasPolicy bool) {
	var rules []string
	if !b.p.ExternalLocal {
		rules = append(rules, "jump "+chainMark)
	} else if len(b.p.Cluster) > 0 {
		// Pods and the node itself may use every endpoint.
		if pods, _ := b.c.Local.NFTables(b.ip); pods != "" {
			rules = append(rules, pods+" goto "+clusterChain)
		}
		rules = append(rules, "fib saddr type local jump "+chainMark, "fib saddr type local goto "+clusterChain)
	}
	if hasPolicy {
		rules = append(rules, "goto "+policyChain)
	}
	b.chain(chain, rules...)
}

// Firewall drops what does not come from the load balancer's source ranges, in a
// chain that a map of the family ip leads to.
func (c *Content) Firewall(ip, in string, p *state.Port) {
	if len(p.SourceRanges) == 0 || len(p.LoadBalancerIPs) == 0 || len(p.Cluster) == 0 && len(p.Local) == 0 {
		return
	}
	chain := "firewall-" + Name(p.Name, p.Name.String())
	var rules []string
	for _, r := range p.SourceRanges {
		rules = append(rules, fmt.Sprintf("%s saddr %s return", ip, r))
	}
	for _, at := range p.LoadBalancerIPs {
		// A node that talks to a balancer of its own is its own source.
		rules = append(rules, fmt.Sprintf("%s saddr %s return", ip, at))
		c.Element(in, Key(at, strings.ToLower(string(p.Name.Protocol)), p.Port), "goto "+chain)
	}
	c.Chains[chain] = append(rules, "drop")
}

// balance spreads new connections evenly over endpoints.
func (b *builder) balance(chain string, eps []state.Endpoint) {
	p := b.p
	var rules []string
	chains := make([]string, len(eps))
	for i := range eps {
		chains[i] = b.endpoint(&eps[i])
		if p.AffinitySeconds > 0 {
			rules = append(rules, fmt.Sprintf("%s saddr @%s goto %s", b.ip, affinity(chains[i]), chains[i]))
		}
	}
	targets := make([]string, len(chains))
	for i, c := range chains {
		targets[i] = "goto " + c
	}
	b.chain(chain, append(rules, Draw("vmap", targets))...)
}

func affinity(endpointChain string) string {
	return "affinity-" + strings.TrimPrefix(endpointChain, "endpoint-")
}

// endpoint is the chain that translates to one endpoint.
func (b *builder) endpoint(e *state.Endpoint) string {
	chain := "endpoint-" + Name(b.p.Name, b.p.Name.String(), e.Addr.String()) + "__" + strings.NewReplacer("[", "", "]", "", ":", ".").Replace(e.Addr.Addr().String()) + "/" + strconv.Itoa(int(e.Addr.Port()))
	// A pod that reaches itself through its Service must not see its own address.
	rules := []string{fmt.Sprintf("%s saddr %s jump %s", b.ip, e.Addr.Addr(), chainMark)}
	if seconds := b.p.AffinitySeconds; seconds > 0 {
		set := affinity(chain)
		b.out.Affinity[set] = seconds
		rules = append(rules, fmt.Sprintf("update @%s { %s saddr }", set, b.ip))
	}
	b.chain(chain, append(rules, fmt.Sprintf("meta l4proto %s dnat to %s", b.proto, e.Addr))...)
	return chain
}
