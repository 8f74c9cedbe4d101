package nftables

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"slices"
	"strings"
	"time"

	"sigs.k8s.io/knftables"

	"skiff/proxy/state"
)

// Table is the name of the table of each family, as upstream's.
const Table = "kube-proxy"

// Writer keeps one family's table in the kernel. It is for one goroutine.
type Writer struct {
	cfg Config
	nft knftables.Interface
	// parts are the content of each service port, made of a version of it.
	parts   map[state.PortName]part
	written *Content // nil when the kernel's content is not known
}

type part struct {
	version uint64
	content *Content
}

// NewWriter finds the nft program.
func NewWriter(cfg Config) (*Writer, error) {
	if cfg.MasqueradeBit < 0 || cfg.MasqueradeBit > 31 {
		return nil, fmt.Errorf("nftables masquerade bit %d: want 0 to 31", cfg.MasqueradeBit)
	}
	nft, err := knftables.New(familyOf(cfg.IPv6), Table)
	if err != nil {
		return nil, fmt.Errorf("nftables: %w", err)
	}
	return newWriter(cfg, nft), nil
}

func newWriter(cfg Config, nft knftables.Interface) *Writer {
	return &Writer{cfg: cfg, nft: nft, parts: map[state.PortName]part{}}
}

func familyOf(v6 bool) knftables.Family {
	if v6 {
		return knftables.IPv6Family
	}
	return knftables.IPv4Family
}

// Sync brings the kernel to the table in one transaction. After an error, and
// when full is set, it makes the kernel's table anew.
func (w *Writer) Sync(ctx context.Context, t *state.Table, full bool) error {
	next := w.content(t)
	tx := w.nft.NewTransaction()
	before := w.written
	if full || before == nil {
		tx.Add(&knftables.Table{})
		tx.Delete(&knftables.Table{})
		tx.Add(&knftables.Table{Comment: knftables.PtrTo("rules of Services")})
		w.base(tx)
		before = newContent()
	}
	w.diff(tx, before, next)
	if tx.NumOperations() == 0 {
		return nil
	}
	w.written = nil
	if err := w.nft.Run(ctx, tx); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("nftables: %w", err)
	}
	w.written = next
	return nil
}

// content is that of all service ports; what did not change is not made again.
func (w *Writer) content(t *state.Table) *Content {
	all := newContent()
	parts := make(map[state.PortName]part, len(w.parts))
	t.Each(func(p *state.Port, version uint64) {
		c, ok := w.parts[p.Name]
		if !ok || c.version != version {
			c = part{version, Rules(&w.cfg, p)}
		}
		parts[p.Name] = c
		all.merge(c.content)
	})
	w.parts = parts
	return all
}

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
	if w.cfg.IPv6 {
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

// Intact tells whether the rules are still there: another program may have
// flushed them all.
func (w *Writer) Intact() (bool, error) {
	if w.written == nil {
		return false, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for _, chain := range []string{"nat-prerouting", chainServices} {
		rules, err := w.nft.ListRules(ctx, chain)
		if knftables.IsNotFound(err) {
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("nftables: %w", err)
		}
		if len(rules) == 0 {
			return false, nil
		}
	}
	return true, nil
}

// Clean removes the tables of both families, where there is an nft program.
func Clean() error {
	if _, err := exec.LookPath("nft"); err != nil {
		return nil
	}
	var errs []error
	for _, v6 := range []bool{false, true} {
		nft, err := knftables.New(familyOf(v6), Table)
		if err != nil {
			continue // the kernel has no tables
		}
		// Add before Delete: what is not there cannot be deleted.
		tx := nft.NewTransaction()
		tx.Add(&knftables.Table{})
		tx.Delete(&knftables.Table{})
		errs = append(errs, nft.Run(context.Background(), tx))
	}
	return errors.Join(errs...)
}
