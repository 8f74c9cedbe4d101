package nftables

import (
	"maps"
	"slices"
	"strings"
	"time"

	"sigs.k8s.io/knftables"
)

// diff writes what takes the kernel from one content to another. An object goes
// after all that names it, and comes before.
func (w *Writer) diff(tx *knftables.Transaction, before, next *Content) {
	for _, in := range sorted(before.Elements) {
		for _, k := range sorted(before.Elements[in]) {
			old := before.Elements[in][k]
			if value, ok := next.Elements[in][k]; !ok || value != old {
				tx.Delete(elementOf(in, k, old))
			}
		}
	}
	addr := "ipv4_addr"
	if w.layout.IPv6 {
		addr = "ipv6_addr"
	}
	renewed := map[string]bool{}
	for _, name := range sorted(next.Affinity) {
		seconds := next.Affinity[name]
		old, ok := before.Affinity[name]
		if ok && old == seconds {
			continue
		}
		// A set's time cannot be changed, so it is made anew; the rules that name
		// it are written again.
		renewed[name] = ok
		if !ok {
			tx.Add(affinitySet(name, addr, seconds))
		}
	}
	var changed []string
	for _, name := range sorted(next.Chains) {
		rules := next.Chains[name]
		old, ok := before.Chains[name]
		if !ok {
			tx.Add(&knftables.Chain{Name: name})
		}
		if !ok || !slices.Equal(old, rules) || names(rules, renewed) {
			changed = append(changed, name)
			if ok {
				tx.Flush(&knftables.Chain{Name: name})
			}
		}
	}
	for _, name := range sorted(next.Affinity) {
		if renewed[name] {
			tx.Delete(&knftables.Set{Name: name})
			tx.Add(affinitySet(name, addr, next.Affinity[name]))
		}
	}
	for _, name := range changed {
		for _, rule := range next.Chains[name] {
			tx.Add(&knftables.Rule{Chain: name, Rule: rule})
		}
	}
	for _, in := range sorted(next.Elements) {
		for _, k := range sorted(next.Elements[in]) {
			value := next.Elements[in][k]
			if old, ok := before.Elements[in][k]; !ok || value != old {
				tx.Add(elementOf(in, k, value))
			}
		}
	}
	var gone []string
	for _, name := range sorted(before.Chains) {
		if _, still := next.Chains[name]; !still {
			gone = append(gone, name)
			tx.Flush(&knftables.Chain{Name: name})
		}
	}
	for _, name := range gone {
		tx.Delete(&knftables.Chain{Name: name})
	}
	for _, name := range sorted(before.Affinity) {
		if _, still := next.Affinity[name]; !still {
			tx.Delete(&knftables.Set{Name: name})
		}
	}
}

// names tells whether a rule names one of the sets.
func names(rules []string, sets map[string]bool) bool {
	for set, on := range sets {
		if on && slices.ContainsFunc(rules, func(r string) bool { return strings.Contains(r, "@"+set+" ") }) {
			return true
		}
	}
	return false
}

func affinitySet(name, addr string, seconds int32) *knftables.Set {
	timeout := time.Duration(seconds) * time.Second
	return &knftables.Set{Name: name, Type: addr, Flags: []knftables.SetFlag{knftables.DynamicFlag, knftables.TimeoutFlag}, Timeout: &timeout}
}

func elementOf(in, key, value string) *knftables.Element {
	e := &knftables.Element{Key: strings.Split(key, " . ")}
	if value == "" {
		e.Set = in
	} else {
		e.Map, e.Value = in, []string{value}
	}
	return e
}

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
