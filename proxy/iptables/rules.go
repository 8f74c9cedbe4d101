package iptables

import (
	"fmt"
	"hash/fnv"
	"io"
	"net/netip"
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
	// ranges; empty is every one.
	NodePortAddresses []netip.Prefix
	// LocalhostNodePorts lets node ports answer on 127.0.0.1.
	LocalhostNodePorts bool
	// Counted has two kinds of packets counted, which upstream's users look at before
	// they leave the mode: see Counters.
	Counted bool
}

// The counters of packets.
const (
	// CountInvalid is of packets that were dropped since the kernel knows no connection
	// of theirs.
	CountInvalid = "ct_state_invalid_dropped_pkts"
	// CountLocalhost is of packets that came to a node port on the loopback address.
	CountLocalhost = "localhost_nps_accepted_pkts"
)

// Counters are those that the rules count into.
func (c *Config) Counters() []string {
	var out []string
	if !c.KeepInvalid {
		out = append(out, CountInvalid)
	}
	if c.LocalhostNodePorts {
		out = append(out, CountLocalhost)
	}
	return out
}

// counting is the match that counts what the matches before it let through.
func (c *Config) counting(name string) string {
	if !c.Counted {
		return ""
	}
	return "-m nfacct --nfacct-name " + name + " "
}

func (c *Config) loopback() string {
	if c.IPv6 {
		return "::1/128"
	}
	return "127.0.0.0/8"
}

func (c *Config) mark() string {
	m := fmt.Sprintf("%#x", uint32(1)<<c.MasqueradeBit)
	return m + "/" + m
}

// Written tells what the kernel has. The zero value is nothing.
type Written struct {
	// chains are the hashes of their rules: a Service that changed may leave most of
	// its chains as they are.
	chains map[string]uint64
	ports  map[state.PortName]*fragment
}

// fragment is what one service port has, as of a version of the service table: its
// rules in the chains of all, and its own chains.
type fragment struct {
	version     uint64
	filter, nat string
	chains      []string
	// rules are how many there are in the chains.
	rules int
}

// chainsAtOnce is how many chains of service ports one run of iptables-restore
// gets: its time grows with their square.
const chainsAtOnce = 300

// Rules are the inputs of runs of `iptables-restore --noflush` that take the kernel
// from what written says to the table. next is what is true once all succeeded.
// Chains of service ports whose version did not change are left out; full writes
// all of them. The last run is the one that leads packets to them, so each packet
// finds a Service as it was before or as it is after.
func Rules(c *Config, t *state.Table, written Written, full bool) (inputs [][]byte, next Written) {
	b := &builder{cfg: c, written: written, full: full, next: Written{
		chains: make(map[string]uint64, len(written.chains)), ports: make(map[state.PortName]*fragment, len(written.ports)),
	}}
	b.base()
	t.Each(b.add)
	return b.finish(), b.next
}

type builder struct {
	cfg           *Config
	written, next Written
	full          bool

	filterChains, filter strings.Builder
	natChains, nat       strings.Builder
	// ports are the chains of service ports, and now is that which is written.
	ports []*chains
	now   *fragment
}

// chains are declared before the rules.
type chains struct {
	n               int
	declared, rules strings.Builder
}

func (b *builder) base() {
	for _, chain := range []string{chainServices, chainExternal, chainForward, chainNodePorts, chainFirewall, chainLocalhost} {
		fmt.Fprintf(&b.filterChains, ":%s - [0:0]\n", chain)
	}
	for _, chain := range []string{chainServices, chainNodePorts, chainPostrouting} {
		fmt.Fprintf(&b.natChains, ":%s - [0:0]\n", chain)
	}
	mark := b.cfg.mark()
	f := &b.filter
	// An invalid packet would leave untranslated, and its receiver reset the
	// connection that it belongs to.
	if !b.cfg.KeepInvalid {
		line(f, chainForward, "-m conntrack --ctstate INVALID "+b.cfg.counting(CountInvalid)+"-j DROP")
	}
	line(f, chainForward, `-m comment --comment "kubernetes forwarding rules" -m mark --mark `+mark+" -j ACCEPT")
	line(f, chainForward, `-m comment --comment "kubernetes forwarding conntrack rule" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT`)
	if b.cfg.LocalhostNodePorts && !b.cfg.IPv6 {
		// The kernel setting that lets node ports answer on 127.0.0.1 would also
		// let neighbours reach what listens there (CVE-2020-8558).
		line(f, chainLocalhost, `-m comment --comment "block incoming localnet connections" ! -s 127.0.0.0/8 -d 127.0.0.0/8 -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP`)
	}
	bit := strings.SplitN(mark, "/", 2)[0]
	n := &b.nat
	line(n, chainPostrouting, "-m mark ! --mark "+mark+" -j RETURN")
	// Clear the mark, so that a second pass of the packet is not masqueraded.
	line(n, chainPostrouting, "-j MARK --xor-mark "+bit)
	line(n, chainPostrouting, `-m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully`)
	// The chains of service ports jump there, and come first.
	first := &chains{}
	fmt.Fprintf(&first.declared, ":%s - [0:0]\n", chainMarkMasq)
	line(&first.rules, chainMarkMasq, "-j MARK --or-mark "+bit)
	b.ports = append(b.ports, first)
}

func line(w *strings.Builder, chain, rule string) {
	w.WriteString("-A ")
	w.WriteString(chain)
	w.WriteByte(' ')
	w.WriteString(rule)
	w.WriteByte('\n')
}

// add writes a service port, or what it was if it did not change.
func (b *builder) add(p *state.Port, version uint64) {
	f := b.written.ports[p.Name]
	if f != nil && f.version == version && !b.full {
		b.filter.WriteString(f.filter)
		b.nat.WriteString(f.nat)
		for _, name := range f.chains {
			b.next.chains[name] = b.written.chains[name]
		}
	} else {
		f = &fragment{version: version}
		b.now = f
		filter, nat := b.filter.Len(), b.nat.Len()
		b.port(p)
		f.filter, f.nat = strings.Clone(b.filter.String()[filter:]), strings.Clone(b.nat.String()[nat:])
	}
	b.next.ports[p.Name] = f
}

// chain writes a chain of a service port, unless the kernel has it already.
func (b *builder) chain(name string, rules func(w *strings.Builder)) {
	var text strings.Builder
	rules(&text)
	h := fnv.New64a()
	_, _ = io.WriteString(h, text.String()) // never fails
	sum := h.Sum64()
	b.now.chains = append(b.now.chains, name)
	b.now.rules += strings.Count(text.String(), "\n")
	b.next.chains[name] = sum
	if have, ok := b.written.chains[name]; ok && have == sum && !b.full {
		return
	}
	last := b.ports[len(b.ports)-1]
	if last.n == chainsAtOnce {
		last = &chains{}
		b.ports = append(b.ports, last)
	}
	last.n++
	fmt.Fprintf(&last.declared, ":%s - [0:0]\n", name)
	last.rules.WriteString(text.String())
}

func (b *builder) port(p *state.Port) {
	proto := strings.ToLower(string(p.Name.Protocol))
	id := portHash(p)
	name := p.Name.String()
	internal, external := p.Internal(), p.Cluster
	clusterChain, localChain := prefixCluster+id, prefixLocal+id
	internalChain, externalPolicyChain := clusterChain, clusterChain
	if p.InternalLocal {
		internalChain = localChain
	}
	if p.ExternalLocal {
		externalPolicyChain, external = localChain, p.Local
	}
	usesCluster := len(p.Cluster) > 0 && (!p.InternalLocal || p.External())
	usesLocal := len(p.Local) > 0 && p.UsesLocal()

	b.endpoints(p, proto, usesCluster, usesLocal)
	if usesCluster {
		b.balance(p, clusterChain, proto, p.Cluster)
	}
	if usesLocal {
		b.balance(p, localChain, proto, p.Local)
	}

	match := func(ip netip.Addr, port uint16, what string) string {
		return fmt.Sprintf(`-m comment --comment "%s %s" -p %s -m %s -d %s --dport %d`, name, what, proto, proto, ip, port)
	}
	if len(internal) > 0 {
		line(&b.nat, chainServices, match(p.ClusterIP, p.Port, "cluster IP")+" -j "+internalChain)
	} else {
		b.refuse(p, chainServices, match(p.ClusterIP, p.Port, refusal(p, "has no endpoints", "has no local endpoints")))
	}
	if !p.External() {
		return
	}
	externalChain := prefixExternal + id
	hasExternal := len(p.Cluster) > 0 || len(external) > 0
	if hasExternal {
		b.external(p, externalChain, clusterChain, externalPolicyChain, len(external) > 0, usesCluster)
	}
	for _, ip := range p.ExternalIP {
		if hasExternal {
			line(&b.nat, chainServices, match(ip, p.Port, "external IP")+" -j "+externalChain)
		}
		if len(external) == 0 {
			b.refuse(p, chainExternal, match(ip, p.Port, refusal(p, "has no endpoints", "has no local endpoints")))
		}
	}
	lbChain := externalChain
	if len(p.SourceRanges) > 0 && hasExternal {
		lbChain = prefixFirewall + id
		b.firewall(p, lbChain, externalChain)
	}
	for _, ip := range p.LoadBalancerIPs {
		if hasExternal {
			line(&b.nat, chainServices, match(ip, p.Port, "loadbalancer IP")+" -j "+lbChain)
			if lbChain != externalChain {
				line(&b.filter, chainFirewall, match(ip, p.Port, "traffic not accepted by "+lbChain)+" -j DROP")
			}
		}
		if len(external) == 0 {
			b.refuse(p, chainExternal, match(ip, p.Port, refusal(p, "has no endpoints", "has no local endpoints")))
		}
	}
	if p.NodePort != 0 {
		rule := fmt.Sprintf(`-m comment --comment "%s" -p %s -m %s --dport %d`, name, proto, proto, p.NodePort)
		if hasExternal {
			if b.cfg.Counted && b.cfg.LocalhostNodePorts {
				line(&b.nat, chainNodePorts, rule+" -d "+b.cfg.loopback()+" "+b.cfg.counting(CountLocalhost)+"-j "+externalChain)
			}
			line(&b.nat, chainNodePorts, rule+" -j "+externalChain)
		}
		if len(external) == 0 {
			b.refuse(p, chainExternal, fmt.Sprintf(`-m comment --comment "%s %s" -m addrtype --dst-type LOCAL -p %s -m %s --dport %d`,
				name, refusal(p, "has no endpoints", "has no local endpoints"), proto, proto, p.NodePort))
		}
	}
	if p.HealthCheckNodePort != 0 {
		line(&b.filter, chainNodePorts, fmt.Sprintf(`-m comment --comment "%s health check node port" -m tcp -p tcp --dport %d -j ACCEPT`,
			p.Name.NamespacedName, p.HealthCheckNodePort))
	}
}

func refusal(p *state.Port, none, noLocal string) string {
	if p.HasAny {
		return noLocal
	}
	return none
}

// refuse rejects what no endpoint can take, or drops it when another node could:
// a load balancer then tries that one.
func (b *builder) refuse(p *state.Port, chain, match string) {
	verdict := "REJECT"
	if p.HasAny {
		verdict = "DROP"
	}
	line(&b.filter, chain, match+" -j "+verdict)
}

// external is the chain of traffic from outside the cluster.
func (b *builder) external(p *state.Port, chain, clusterChain, policyChain string, hasPolicy, hasCluster bool) {
	b.chain(chain, func(w *strings.Builder) {
		b.externalRules(w, p, chain, clusterChain, policyChain, hasPolicy, hasCluster)
	})
}

func (b *builder) externalRules(w *strings.Builder, p *state.Port, chain, clusterChain, policyChain string, hasPolicy, hasCluster bool) {
	name := p.Name.String()
	if !p.ExternalLocal {
		line(w, chain, fmt.Sprintf(`-m comment --comment "masquerade traffic for %s external destinations" -j %s`, name, chainMarkMasq))
	} else if hasCluster {
		// Pods and the node itself may use every endpoint.
		pods, _ := b.cfg.Local.IPTables()
		for _, match := range pods {
			line(w, chain, fmt.Sprintf(`-m comment --comment "pod traffic for %s external destinations" %s -j %s`, name, match, clusterChain))
		}
		line(w, chain, fmt.Sprintf(`-m comment --comment "masquerade LOCAL traffic for %s external destinations" -m addrtype --src-type LOCAL -j %s`, name, chainMarkMasq))
		line(w, chain, fmt.Sprintf(`-m comment --comment "route LOCAL traffic for %s external destinations" -m addrtype --src-type LOCAL -j %s`, name, clusterChain))
	}
	if hasPolicy {
		line(w, chain, "-j "+policyChain)
	}
}

func (b *builder) firewall(p *state.Port, chain, next string) {
	b.chain(chain, func(w *strings.Builder) {
		comment := fmt.Sprintf(`-m comment --comment "%s loadbalancer IP"`, p.Name)
		for _, r := range p.SourceRanges {
			line(w, chain, fmt.Sprintf("%s -s %s -j %s", comment, r, next))
		}
		// A node that talks to a balancer of its own is its own source.
		for _, ip := range p.LoadBalancerIPs {
			line(w, chain, fmt.Sprintf("%s -s %s -j %s", comment, ip, next))
		}
	})
}

// balance spreads new connections evenly over endpoints.
func (b *builder) balance(p *state.Port, chain, proto string, eps []state.Endpoint) {
	b.chain(chain, func(w *strings.Builder) { b.balanceRules(w, p, chain, proto, eps) })
}

func (b *builder) balanceRules(w *strings.Builder, p *state.Port, chain, proto string, eps []state.Endpoint) {
	name := p.Name.String()
	dst := fmt.Sprintf(`-m comment --comment "%s cluster IP" -p %s -m %s -d %s --dport %d`, name, proto, proto, p.ClusterIP, p.Port)
	if b.cfg.MasqueradeAll {
		line(w, chain, dst+" -j "+chainMarkMasq)
	} else if _, others := b.cfg.Local.IPTables(); others != "" {
		line(w, chain, fmt.Sprintf("%s %s -j %s", dst, others, chainMarkMasq))
	}
	if p.AffinitySeconds > 0 {
		for i := range eps {
			ep := endpointChain(p, &eps[i])
			line(w, chain, fmt.Sprintf(`-m comment --comment "%s -> %s" -m recent --name %s --rcheck --seconds %d --reap -j %s`,
				name, eps[i].Addr, ep, p.AffinitySeconds, ep))
		}
	}
	for i := range eps {
		rule := fmt.Sprintf(`-m comment --comment "%s -> %s"`, name, eps[i].Addr)
		if left := len(eps) - i; left > 1 {
			rule += " -m statistic --mode random --probability " + strconv.FormatFloat(1/float64(left), 'f', 10, 64)
		}
		line(w, chain, rule+" -j "+endpointChain(p, &eps[i]))
	}
}

// endpoints writes the chains that translate to one endpoint each.
func (b *builder) endpoints(p *state.Port, proto string, usesCluster, usesLocal bool) {
	seen := map[netip.AddrPort]bool{}
	one := func(eps []state.Endpoint) {
		for i := range eps {
			e := &eps[i]
			if seen[e.Addr] {
				continue
			}
			seen[e.Addr] = true
			chain := endpointChain(p, e)
			b.chain(chain, func(w *strings.Builder) {
				comment := fmt.Sprintf(`-m comment --comment "%s"`, p.Name)
				// A pod that reaches itself through its Service must not see its own address.
				line(w, chain, fmt.Sprintf("%s -s %s -j %s", comment, e.Addr.Addr(), chainMarkMasq))
				rule := comment
				if p.AffinitySeconds > 0 {
					rule += " -m recent --name " + chain + " --set"
				}
				line(w, chain, fmt.Sprintf("%s -p %s -m %s -j DNAT --to-destination %s", rule, proto, proto, e.Addr))
			})
		}
	}
	if usesCluster {
		one(p.Cluster)
	}
	if usesLocal {
		one(p.Local)
	}
}

func (b *builder) finish() [][]byte {
	const note = `-m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain" `
	local := "-m addrtype --dst-type LOCAL -j " + chainNodePorts
	switch {
	case len(b.cfg.NodePortAddresses) > 0:
		for _, r := range b.cfg.NodePortAddresses {
			line(&b.nat, chainServices, note+"-d "+r.String()+" "+local)
		}
	case b.cfg.LocalhostNodePorts:
		line(&b.nat, chainServices, note+local)
	default:
		line(&b.nat, chainServices, note+"! -d "+b.cfg.loopback()+" "+local)
	}
	var out [][]byte
	for _, c := range b.ports[:len(b.ports)-1] {
		out = append(out, []byte("*nat\n"+c.declared.String()+c.rules.String()+"COMMIT\n"))
	}
	var last strings.Builder
	last.WriteString("*filter\n")
	last.WriteString(b.filterChains.String())
	last.WriteString(b.filter.String())
	last.WriteString("COMMIT\n*nat\n")
	last.WriteString(b.natChains.String())
	// A chain that is gone is emptied in the same transaction; it is removed
	// later, when nothing jumps to it any more.
	for name := range b.written.chains {
		if _, still := b.next.chains[name]; !still {
			fmt.Fprintf(&last, ":%s - [0:0]\n", name)
		}
	}
	last.WriteString(b.ports[len(b.ports)-1].declared.String())
	last.WriteString(b.ports[len(b.ports)-1].rules.String())
	last.WriteString(b.nat.String())
	for name := range b.written.chains {
		if _, still := b.next.chains[name]; !still {
			fmt.Fprintf(&last, "-X %s\n", name)
		}
	}
	last.WriteString("COMMIT\n")
	return append(out, []byte(last.String()))
}
