// Package nftables writes the service table as an nftables table of its own.
// What a packet is for is looked up in maps, so a Service more costs packets
// nothing, and a change writes only what changed.
//
// Rules is pure: the wished content of the kernel's table from the service
// table. Writer brings the kernel to it in one transaction.
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
	// ClusterCIDRs are the pods' ranges of this family: what comes from elsewhere
	// to a cluster IP is masqueraded, and external traffic from pods takes the
	// policy Cluster. Empty: nothing is known to be a pod.
	ClusterCIDRs []netip.Prefix
	// MasqueradeAll masquerades all traffic to cluster IPs.
	MasqueradeAll bool
	// MasqueradeBit is the bit of the packet mark (0 to 31); upstream's default is 14.
	MasqueradeBit int
	// NodePortAddresses limit the addresses that node ports answer on; empty is
	// every local address but the loopback ones.
	NodePortAddresses []netip.Addr
}

// Maps and sets that lead packets to chains.
const (
	mapServices    = "service-ips"
	mapNodePorts   = "service-nodeports"
	mapFirewall    = "firewall-ips"
	mapNoEndpoints = "no-endpoint-services"
	mapNoNodePorts = "no-endpoint-nodeports"
	setClusterIPs  = "cluster-ips"
	setNodeIPs     = "nodeport-ips"
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

// Content is what a table holds beside its fixed part.
type Content struct {
	// Chains are the rules by chain.
	Chains map[string][]string
	// Elements are key and value by map or set; a set has empty values.
	Elements map[string]map[string]string
	// Affinity are the seconds that a set of clients remembers, by set.
	Affinity map[string]int32
}

func newContent() *Content {
	return &Content{Chains: map[string][]string{}, Elements: map[string]map[string]string{}, Affinity: map[string]int32{}}
}

// element keeps the first of two that want the same key: two Services may name
// one external address.
func (c *Content) element(in, key, value string) {
	m := c.Elements[in]
	if m == nil {
		m = map[string]string{}
		c.Elements[in] = m
	}
	if _, taken := m[key]; !taken {
		m[key] = value
	}
}

func (c *Content) merge(part *Content) {
	for name, rules := range part.Chains {
		c.Chains[name] = rules
	}
	for in, m := range part.Elements {
		for key, value := range m {
			c.element(in, key, value)
		}
	}
	for name, seconds := range part.Affinity {
		c.Affinity[name] = seconds
	}
}

// key joins the parts of a map's key.
func key(parts ...any) string {
	texts := make([]string, len(parts))
	for i, p := range parts {
		texts[i] = fmt.Sprint(p)
	}
	return strings.Join(texts, " . ")
}

// Rules is the content for one service port.
func Rules(c *Config, p *state.Port) *Content {
	b := &builder{c: c, p: p, out: newContent(), ip: "ip", proto: strings.ToLower(string(p.Name.Protocol))}
	if c.IPv6 {
		b.ip = "ip6"
	}
	b.id = b.name(p.Name.String())
	b.port()
	return b.out
}

type builder struct {
	c             *Config
	p             *state.Port
	out           *Content
	ip, proto, id string
}

// name is unique by its hash, and tells people what it is for.
func (b *builder) name(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(append(parts, b.proto), "\x00")))
	n := b.p.Name
	return base32.StdEncoding.EncodeToString(sum[:])[:8] + "-" + n.Namespace + "/" + n.Name + "/" + b.proto + "/" + n.Port
}

func (b *builder) chain(name string, rules ...string) { b.out.Chains[name] = rules }

func (b *builder) port() {
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
	b.out.element(setClusterIPs, p.ClusterIP.String(), "")
	if len(internal) > 0 {
		b.out.element(mapServices, key(p.ClusterIP, b.proto, p.Port), "goto "+internalChain)
	} else {
		b.out.element(mapNoEndpoints, key(p.ClusterIP, b.proto, p.Port), b.refusal())
	}
	if !p.External() {
		return
	}
	externalChain := "external-" + b.id
	reachable := len(p.Cluster) > 0 || len(external) > 0
	if reachable {
		b.external(externalChain, clusterChain, policyChain, len(external) > 0)
	}
	for _, ip := range slices.Concat(p.ExternalIP, p.LoadBalancerIPs) {
		if reachable {
			b.out.element(mapServices, key(ip, b.proto, p.Port), "goto "+externalChain)
		}
		if len(external) == 0 {
			b.out.element(mapNoEndpoints, key(ip, b.proto, p.Port), b.refusal())
		}
	}
	if len(p.SourceRanges) > 0 && reachable {
		b.firewall("firewall-" + b.id)
	}
	if p.NodePort != 0 {
		if reachable {
			b.out.element(mapNodePorts, key(b.proto, p.NodePort), "goto "+externalChain)
		}
		if len(external) == 0 {
			b.out.element(mapNoNodePorts, key(b.proto, p.NodePort), b.refusal())
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
		for _, cidr := range b.c.ClusterCIDRs {
			rules = append(rules, fmt.Sprintf("%s saddr %s goto %s", b.ip, cidr, clusterChain))
		}
		rules = append(rules, "fib saddr type local jump "+chainMark, "fib saddr type local goto "+clusterChain)
	}
	if hasPolicy {
		rules = append(rules, "goto "+policyChain)
	}
	b.chain(chain, rules...)
}

// firewall drops what does not come from the load balancer's source ranges.
func (b *builder) firewall(chain string) {
	var rules []string
	for _, r := range b.p.SourceRanges {
		rules = append(rules, fmt.Sprintf("%s saddr %s return", b.ip, r))
	}
	for _, ip := range b.p.LoadBalancerIPs {
		// A node that talks to a balancer of its own is its own source.
		rules = append(rules, fmt.Sprintf("%s saddr %s return", b.ip, ip))
		b.out.element(mapFirewall, key(ip, b.proto, b.p.Port), "goto "+chain)
	}
	b.chain(chain, append(rules, "drop")...)
}

// balance spreads new connections evenly over endpoints.
func (b *builder) balance(chain string, eps []state.Endpoint) {
	p := b.p
	to := fmt.Sprintf("%s daddr %s %s dport %d ", b.ip, p.ClusterIP, b.proto, p.Port)
	var rules []string
	switch {
	case b.c.MasqueradeAll:
		rules = append(rules, to+"jump "+chainMark)
	case len(b.c.ClusterCIDRs) == 1:
		rules = append(rules, fmt.Sprintf("%s%s saddr != %s jump %s", to, b.ip, b.c.ClusterCIDRs[0], chainMark))
	}
	chains := make([]string, len(eps))
	for i := range eps {
		chains[i] = b.endpoint(&eps[i])
		if p.AffinitySeconds > 0 {
			rules = append(rules, fmt.Sprintf("%s saddr @%s goto %s", b.ip, affinity(chains[i]), chains[i]))
		}
	}
	if len(chains) == 1 {
		b.chain(chain, append(rules, "goto "+chains[0])...)
		return
	}
	var pick strings.Builder
	for i, c := range chains {
		if i > 0 {
			pick.WriteString(" , ")
		}
		pick.WriteString(strconv.Itoa(i) + " : goto " + c)
	}
	b.chain(chain, append(rules, fmt.Sprintf("numgen random mod %d vmap { %s }", len(chains), pick.String()))...)
}

func affinity(endpointChain string) string {
	return "affinity-" + strings.TrimPrefix(endpointChain, "endpoint-")
}

// endpoint is the chain that translates to one endpoint.
func (b *builder) endpoint(e *state.Endpoint) string {
	chain := "endpoint-" + b.name(b.p.Name.String(), e.Addr.String()) + "__" + strings.NewReplacer("[", "", "]", "", ":", ".").Replace(e.Addr.Addr().String()) + "/" + strconv.Itoa(int(e.Addr.Port()))
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
