package network

import (
	"errors"
	"strings"

	"github.com/coreos/go-iptables/iptables"
	"github.com/vishvananda/netlink"
)

// Clean removes every rule, link and route that the built-in network ever made
// in the namespace it is called in.
func Clean() error {
	var errs []error
	for _, p := range []iptables.Protocol{iptables.ProtocolIPv4, iptables.ProtocolIPv6} {
		t, err := iptables.New(iptables.IPFamily(p), iptables.Timeout(5))
		if err != nil {
			continue // without the programs there are no rules
		}
		for _, table := range []string{"nat", "filter"} {
			errs = append(errs, cleanTable(t, table))
		}
	}
	for _, b := range []backend{vxlan{}, hostGateway{}, &wireGuard{}} {
		errs = append(errs, b.remove())
	}
	links, err := netlink.LinkList()
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	for _, link := range links {
		if isPodLink(link) {
			if err := netlink.LinkDel(link); err != nil && !isGone(err) {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

// isPodLink tells a pod's link from those of other programs, which also call theirs
// veth and something: ours is on no bridge and has the pods' gateway as its only
// host.
func isPodLink(link netlink.Link) bool {
	if link.Type() != "veth" || !strings.HasPrefix(link.Attrs().Name, "veth") || link.Attrs().MasterIndex != 0 {
		return false
	}
	addrs, err := netlink.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		return false
	}
	for _, a := range addrs {
		if ones, bits := a.Mask.Size(); ones == bits {
			return true
		}
	}
	return false
}

// cleanTable takes the jumps to our chains out of the others, then the chains.
func cleanTable(t *iptables.IPTables, table string) error {
	chains, err := t.ListChains(table)
	if err != nil {
		return nil // no such table
	}
	var ours []string
	var errs []error
	for _, chain := range chains {
		if strings.HasPrefix(chain, "SKIFF-") {
			ours = append(ours, chain)
			continue
		}
		rules, err := t.List(table, chain)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for i := len(rules) - 1; i >= 1; i-- {
			if strings.Contains(rules[i], "-j SKIFF-") {
				// By number, from the end: the text may need quoting.
				errs = append(errs, t.DeleteById(table, chain, i))
			}
		}
	}
	for _, chain := range ours {
		errs = append(errs, t.ClearChain(table, chain))
	}
	for _, chain := range ours {
		errs = append(errs, t.DeleteChain(table, chain))
	}
	return errors.Join(errs...)
}
