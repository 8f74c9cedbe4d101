package ipvs

import (
	"fmt"

	"sigs.k8s.io/knftables"
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
	for _, name := range []string{setServed, setInternal, setExternal} {
		tx.Add(&knftables.Set{Name: name, Type: addr + ports})
	}
	tx.Add(&knftables.Set{Name: setAddresses, Type: addr})
	tx.Add(&knftables.Set{Name: setHairpin, Type: addr + " . " + addr})
	to := ip + " daddr . meta l4proto . th dport "
	mark := fmt.Sprintf("%#x", uint32(1)<<c.MasqueradeBit)
	const always = " jump " + chainMark
	var marks, prerouting []string
	outsider := ""
	if pods, others := c.Local.NFTables(ip); pods != "" {
		outsider = others + " "
		prerouting = append(prerouting, pods+" "+to+"vmap @"+mapEverywhere)
	}
	switch {
	case c.MasqueradeAll:
		marks = append(marks, to+"@"+setInternal+always)
	case outsider != "":
		marks = append(marks, outsider+to+"@"+setInternal+always)
	}
	marks = append(marks, to+"@"+setExternal+always)
	type chain struct {
		name  string
		rules []string
	}
	chains := []chain{
		{chainMark, []string{"mark set mark or " + mark}},
		{chainMasquerade, []string{ip + " saddr . " + ip + " daddr @" + setHairpin + " masquerade fully-random",
			"mark and " + mark + " == 0 return", "mark set mark xor " + mark, "masquerade fully-random"}},
		{chainReject, []string{"reject"}},
		{chainFirewall, []string{to + "vmap @" + mapFirewall}},
		// What nothing answers, and other ports of a Service's address: the node's own
		// programs listen on it too, as it is one of the node's.
		{chainCheck, []string{to + "vmap @" + mapRefused, to + "@" + setServed + " return", ip + " daddr @" + setAddresses + " goto " + chainReject}},
		{chainServices, marks},
	}
	for _, c := range chains {
		tx.Add(&knftables.Chain{Name: c.name})
	}

	const isNew = "ct state new "
	for _, h := range []struct {
		chain
		kind     knftables.BaseChainType
		at       knftables.BaseChainHook
		priority knftables.BaseChainPriority
	}{
		{chain{"filter-prerouting-pre-dnat", []string{isNew + "jump " + chainFirewall}}, knftables.FilterType, knftables.PreroutingHook, "-110"},
		{chain{"filter-output-pre-dnat", []string{isNew + "jump " + chainFirewall}}, knftables.FilterType, knftables.OutputHook, "-110"},
		{chain{"nat-prerouting", append(prerouting, "jump "+chainServices)}, knftables.NATType, knftables.PreroutingHook, "-100"},
		// The node's packets to a Service have the Service's own address as their
		// source, which is the node's on its link.
		{chain{"nat-output", []string{to + "vmap @" + mapEverywhere, to + "@" + setInternal + always, "jump " + chainServices}}, knftables.NATType, knftables.OutputHook, "-100"},
		{chain{"nat-postrouting", []string{"jump " + chainMasquerade}}, knftables.NATType, knftables.PostroutingHook, "100"},
		{chain{"filter-input", []string{isNew + "jump " + chainCheck}}, knftables.FilterType, knftables.InputHook, "0"},
		// Between the translation above and IPVS, which takes the node's own packets at -98.
		{chain{"filter-output", []string{isNew + "jump " + chainCheck}}, knftables.FilterType, knftables.OutputHook, "-99"},
	} {
		tx.Add(&knftables.Chain{Name: h.name, Type: &h.kind, Hook: &h.at, Priority: &h.priority})
		chains = append(chains, h.chain)
	}
	for _, c := range chains {
		for _, rule := range c.rules {
			tx.Add(&knftables.Rule{Chain: c.name, Rule: rule})
		}
	}
}
