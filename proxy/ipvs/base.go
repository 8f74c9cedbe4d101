package ipvs

import (
	"fmt"

	"sigs.k8s.io/knftables"

	"skiff/proxy/nftables"
)

// Table is the name of the table of each family.
const Table = "kube-proxy-ipvs"

// base writes the fixed part of the table.
func (c *Config) base(tx *knftables.Transaction) {
	ip, addr := "ip", "ipv4_addr"
	if c.IPv6 {
		ip, addr = "ip6", "ipv6_addr"
	}
	const ports = " . inet_proto . inet_service"
	for _, name := range []string{mapRefused, mapFirewall, mapEverywhere} {
		tx.Add(&knftables.Map{Name: name, Type: addr + ports + " : verdict"})
	}
	for name, kind := range map[string]string{
		setAddresses: addr, setHairpin: addr + " . " + addr, setServed: addr + ports, setInternal: addr + ports, setExternal: addr + ports,
	} {
		tx.Add(&knftables.Set{Name: name, Type: kind})
	}
	for _, name := range []string{chainMark, chainMasquerade, chainReject, chainServices, chainCheck, chainFirewall} {
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
	to := ip + " daddr . meta l4proto . th dport "
	mark := fmt.Sprintf("%#x", uint32(1)<<c.MasqueradeBit)
	rule(chainMark, "mark set mark or "+mark)
	rule(chainMasquerade, ip+" saddr . "+ip+" daddr @"+setHairpin+" masquerade fully-random",
		"mark and "+mark+" == 0 return", "mark set mark xor "+mark, "masquerade fully-random")
	rule(chainReject, "reject")
	rule(chainFirewall, to+"vmap @"+mapFirewall)
	// What nothing answers, and other ports of a Service's address: the node's own
	// programs listen on it too, as it is one of the node's.
	rule(chainCheck, to+"vmap @"+mapRefused, to+"@"+setServed+" return", ip+" daddr @"+setAddresses+" goto "+chainReject)
	const always = " jump " + chainMark
	outsider, pods := "", "" // whom is masqueraded to cluster IPs, and who may use all endpoints
	switch {
	case len(c.ClusterCIDRs) > 0:
		pods = ip + " saddr " + nftables.Anonymous(c.ClusterCIDRs) + " "
		outsider = ip + " saddr != " + nftables.Anonymous(c.ClusterCIDRs) + " "
		fallthrough
	case c.MasqueradeAll:
		if c.MasqueradeAll {
			outsider = ""
		}
		rule(chainServices, outsider+to+"@"+setInternal+always)
	}
	rule(chainServices, to+"@"+setExternal+always)

	const isNew = "ct state new "
	hook("filter-prerouting-pre-dnat", knftables.FilterType, knftables.PreroutingHook, "-110", isNew+"jump "+chainFirewall)
	hook("filter-output-pre-dnat", knftables.FilterType, knftables.OutputHook, "-110", isNew+"jump "+chainFirewall)
	prerouting := []string{"jump " + chainServices}
	if pods != "" {
		prerouting = append([]string{pods + to + "vmap @" + mapEverywhere}, prerouting...)
	}
	hook("nat-prerouting", knftables.NATType, knftables.PreroutingHook, "-100", prerouting...)
	// The node's packets to a Service have the Service's own address as their
	// source, which is the node's on its link.
	hook("nat-output", knftables.NATType, knftables.OutputHook, "-100", to+"vmap @"+mapEverywhere, to+"@"+setInternal+always, "jump "+chainServices)
	hook("nat-postrouting", knftables.NATType, knftables.PostroutingHook, "100", "jump "+chainMasquerade)
	hook("filter-input", knftables.FilterType, knftables.InputHook, "0", isNew+"jump "+chainCheck)
	// Between the translation above and IPVS, which takes the node's own packets at -98.
	hook("filter-output", knftables.FilterType, knftables.OutputHook, "-99", isNew+"jump "+chainCheck)
}
