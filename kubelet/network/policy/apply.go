package policy

import (
	"maps"
	"slices"
	"strings"

	"sigs.k8s.io/knftables"
)

const (
	forwardChain = "forward"
	outputChain  = "output"
	judgeChain   = "judge"
)

// write adds to tx what leads from one state to another; from nil the whole
// table is made anew. Things are added before what names them and deleted after.
func write(tx *knftables.Transaction, from, to *state) {
	if from == nil {
		tx.Add(&knftables.Table{})
		tx.Delete(&knftables.Table{})
		tx.Add(&knftables.Table{Comment: knftables.PtrTo("NetworkPolicies of skiff")})
		from = &state{}
		for name := range to.verdicts {
			typ, _ := address(name[len(name)-1:])
			tx.Add(&knftables.Map{Name: name, Type: typ + " : verdict"})
		}
		defer writeHooks(tx)
	}
	for _, name := range sorted(to.sets) {
		next := to.sets[name]
		before, known := from.sets[name]
		if !known {
			tx.Add(&knftables.Set{Name: name, Type: next.kind})
		}
		for _, e := range sorted(next.elements) {
			if !before.elements[e] {
				tx.Add(&knftables.Element{Set: name, Key: strings.Split(e, " . ")})
			}
		}
		for _, e := range sorted(before.elements) {
			if !next.elements[e] {
				tx.Delete(&knftables.Element{Set: name, Key: strings.Split(e, " . ")})
			}
		}
	}
	for _, name := range sorted(to.chains) {
		// A chain's name follows from its rules, so a known one is right.
		if _, known := from.chains[name]; known {
			continue
		}
		tx.Add(&knftables.Chain{Name: name})
		for _, rule := range to.chains[name] {
			tx.Add(&knftables.Rule{Chain: name, Rule: rule})
		}
	}
	for _, name := range sorted(to.verdicts) {
		before, next := from.verdicts[name], to.verdicts[name]
		for _, ip := range sorted(before) {
			if next[ip] != before[ip] {
				tx.Delete(&knftables.Element{Map: name, Key: []string{ip}, Value: []string{before[ip]}})
			}
		}
		for _, ip := range sorted(next) {
			if next[ip] != before[ip] {
				tx.Add(&knftables.Element{Map: name, Key: []string{ip}, Value: []string{next[ip]}})
			}
		}
	}
	for _, name := range sorted(from.chains) {
		if _, still := to.chains[name]; !still {
			tx.Flush(&knftables.Chain{Name: name})
		}
	}
	for _, name := range sorted(from.chains) {
		if _, still := to.chains[name]; !still {
			tx.Delete(&knftables.Chain{Name: name})
		}
	}
	for _, name := range sorted(from.sets) {
		if _, still := to.sets[name]; !still {
			tx.Delete(&knftables.Set{Name: name})
		}
	}
}

// writeHooks makes the chains that every packet passes. They come before other
// tables' filters: what they drop no one else can accept. What IPVS leads to a pod
// is never forwarded: it comes in for the node and goes out, from another's address.
func writeHooks(tx *knftables.Transaction) {
	tx.Add(&knftables.Chain{Name: judgeChain})
	for _, rule := range []string{
		// A pod always reaches itself, also through a Service.
		"ip saddr . ip daddr @" + selfSet + "4 accept",
		"ip6 saddr . ip6 daddr @" + selfSet + "6 accept",
		"ip saddr vmap @" + egressMap + "4",
		"ip6 saddr vmap @" + egressMap + "6",
		"ip daddr vmap @" + ingressMap + "4",
		"ip6 daddr vmap @" + ingressMap + "6",
	} {
		tx.Add(&knftables.Rule{Chain: judgeChain, Rule: rule})
	}
	const known = "ct state established,related accept"
	for _, hook := range []struct {
		name  string
		at    knftables.BaseChainHook
		rules []string
	}{
		{forwardChain, knftables.ForwardHook, []string{known, "jump " + judgeChain}},
		{outputChain, knftables.OutputHook, []string{known, "fib saddr type local accept", "jump " + judgeChain}},
	} {
		tx.Add(&knftables.Chain{
			Name: hook.name, Type: knftables.PtrTo(knftables.FilterType),
			Hook: &hook.at, Priority: knftables.PtrTo(knftables.BaseChainPriority("-5")),
		})
		for _, rule := range hook.rules {
			tx.Add(&knftables.Rule{Chain: hook.name, Rule: rule})
		}
	}
}

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
