package nftables

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"sigs.k8s.io/knftables"
)

// base writes what every node has: chains on the kernel's hooks, maps, and the
// rules that look up in them. The table is empty before.
func (c Config) base(tx *knftables.Transaction) {
	ip, addr, loopback := "ip", "ipv4_addr", "127.0.0.0/8"
	if c.IPv6 {
		ip, addr, loopback = "ip6", "ipv6_addr", "::1"
	}
	for name, kind := range map[string]string{
		mapServices: addr + " . inet_proto . inet_service : verdict", mapFirewall: addr + " . inet_proto . inet_service : verdict",
		mapNoEndpoints: addr + " . inet_proto . inet_service : verdict",
		mapNodePorts:   "inet_proto . inet_service : verdict", mapNoNodePorts: "inet_proto . inet_service : verdict",
	} {
		tx.Add(&knftables.Map{Name: name, Type: kind})
	}
	tx.Add(&knftables.Set{Name: setClusterIPs, Type: addr})
	tx.Add(&knftables.Set{Name: setHairpin, Type: addr + " . " + addr})
	local := "fib daddr type local " + ip + " daddr != " + loopback
	if len(c.NodePortAddresses) > 0 {
		local = "fib daddr type local " + ip + " daddr " + Anonymous(c.NodePortAddresses)
	}
	for _, name := range []string{chainServices, chainMark, chainMasquerade, chainReject, chainNoEndpoints, chainNoNodePorts, chainFirewall} {
		tx.Add(&knftables.Chain{Name: name})
	}
	rule := func(chain string, texts ...string) {
		for _, text := range texts {
			tx.Add(&knftables.Rule{Chain: chain, Rule: text})
		}
	}
	hook := func(name string, kind knftables.BaseChainType, at knftables.BaseChainHook, priority knftables.BaseChainPriority, rules ...string) {
		tx.Add(&knftables.Chain{Name: name, Type: &kind, Hook: &at, Priority: &priority})
		rule(name, rules...)
	}
	mark := fmt.Sprintf("%#x", uint32(1)<<c.MasqueradeBit)
	rule(chainMark, "mark set mark or "+mark)
	// Clear the mark, so that a second pass of the packet is not masqueraded.
	rule(chainMasquerade, ip+" saddr . "+ip+" daddr @"+setHairpin+" masquerade fully-random",
		"mark and "+mark+" == 0 return", "mark set mark xor "+mark, "masquerade fully-random")
	rule(chainReject, "reject")
	for i := range endpointMaps {
		for in, match := range map[string]string{mapEndpoint: ip + " daddr . ", mapNodePortEndpoint: ""} {
			name, typ := in+strconv.Itoa(i), "inet_proto . inet_service : "+addr+" . inet_service"
			if match != "" {
				typ = addr + " . " + typ
			}
			tx.Add(&knftables.Map{Name: name, Type: typ})
			tx.Add(&knftables.Chain{Name: name})
			// Ports are translated too, for which the protocol must be known.
			rule(name, "meta l4proto { tcp, udp, sctp } dnat "+ip+" to "+match+"meta l4proto . th dport map @"+name)
		}
	}
	rule(chainServices, c.outsiders(ip)...)
	rule(chainServices,
		ip+" daddr . meta l4proto . th dport vmap @"+mapServices,
		local+" meta l4proto . th dport vmap @"+mapNodePorts)
	rule(chainFirewall, ip+" daddr . meta l4proto . th dport vmap @"+mapFirewall)
	rule(chainNoEndpoints,
		ip+" daddr . meta l4proto . th dport vmap @"+mapNoEndpoints,
		// Nothing else answers on a cluster IP.
		ip+" daddr @"+setClusterIPs+" goto "+chainReject)
	rule(chainNoNodePorts, local+" meta l4proto . th dport vmap @"+mapNoNodePorts)

	const isNew = "ct state new "
	// Addresses are judged before they are translated.
	hook("filter-prerouting-pre-dnat", knftables.FilterType, knftables.PreroutingHook, "-110", isNew+"jump "+chainFirewall)
	hook("filter-output-pre-dnat", knftables.FilterType, knftables.OutputHook, "-110", isNew+"jump "+chainFirewall)
	hook("nat-prerouting", knftables.NATType, knftables.PreroutingHook, "-100", "jump "+chainServices)
	hook("nat-output", knftables.NATType, knftables.OutputHook, "-100", "jump "+chainServices)
	hook("nat-postrouting", knftables.NATType, knftables.PostroutingHook, "100", "jump "+chainMasquerade)
	// What is still for a service address has no endpoint.
	hook("filter-input", knftables.FilterType, knftables.InputHook, "0", isNew+"jump "+chainNoEndpoints, isNew+"jump "+chainNoNodePorts)
	// An invalid packet would leave untranslated, and its receiver reset the
	// connection that it belongs to.
	forward := []string{"ct state invalid drop", isNew + "jump " + chainNoEndpoints}
	if c.KeepInvalid {
		forward = forward[1:]
	}
	hook("filter-forward", knftables.FilterType, knftables.ForwardHook, "0", forward...)
	hook("filter-output", knftables.FilterType, knftables.OutputHook, "0", isNew+"jump "+chainNoEndpoints, isNew+"jump "+chainNoNodePorts)
}

// outsiders are the rules that masquerade what comes to cluster IPs from outside
// the cluster: its answers must come back by this node.
func (c Config) outsiders(ip string) []string {
	match := ip + " daddr @" + setClusterIPs
	if !c.MasqueradeAll {
		_, others := c.Local.NFTables(ip)
		if others == "" {
			return nil
		}
		match += " " + others
	}
	return []string{match + " jump " + chainMark}
}

// Anonymous is a set of ranges in a rule.
func Anonymous(ranges []netip.Prefix) string {
	texts := make([]string, len(ranges))
	for i, r := range ranges {
		texts[i] = r.Masked().String()
	}
	return "{ " + strings.Join(texts, ", ") + " }"
}
