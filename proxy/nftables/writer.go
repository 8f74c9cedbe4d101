package nftables

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"

	netlink "github.com/google/nftables"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/knftables"

	"skiff/proxy/state"
)

// Table is the name of the table of each family, as upstream's.
const Table = "kube-proxy"

// Layout is what a table holds.
type Layout struct {
	// Name of the table, and its family.
	Name string
	IPv6 bool
	// Base writes the fixed part of it, which names the maps and sets.
	Base func(tx *knftables.Transaction)
	// Rules is the content for one service port.
	Rules func(p *state.Port) *Content
	// Chains have rules as long as nobody has flushed the table.
	Chains []string
}

// Writer keeps one family's table in the kernel. It is for one goroutine.
type Writer struct {
	layout Layout
	nft    knftables.Interface
	// book is what all service ports want, as of a version of the service table,
	// and parts what each does.
	book  *book
	parts map[types.NamespacedName][]part
	as    uint64
	// written tells that the kernel has what the book says.
	written bool
}

// part is one service port's.
type part struct {
	of state.PortName
	// The endpoints keep their places, so that one that goes moves only one other.
	cluster, local []state.Endpoint
	content        *Content
}

// NewWriter finds the nft program.
func NewWriter(cfg Config) (*Writer, error) {
	if cfg.MasqueradeBit < 0 || cfg.MasqueradeBit > 31 {
		return nil, fmt.Errorf("nftables masquerade bit %d: want 0 to 31", cfg.MasqueradeBit)
	}
	return NewLayoutWriter(cfg.layout())
}

// NewLayoutWriter is a Writer of another table than the mode nftables has.
func NewLayoutWriter(l Layout) (*Writer, error) {
	nft, err := knftables.New(familyOf(l.IPv6), l.Name)
	if err != nil {
		return nil, fmt.Errorf("nftables: %w", err)
	}
	return newWriter(l, nft), nil
}

func newWriter(l Layout, nft knftables.Interface) *Writer {
	return &Writer{layout: l, nft: nft, book: newBook(), parts: map[types.NamespacedName][]part{}}
}

func (c Config) layout() Layout {
	return Layout{
		Name: Table, IPv6: c.IPv6, Base: c.base, Rules: func(p *state.Port) *Content { return Rules(&c, p) },
		Chains: []string{"nat-prerouting", "nat-postrouting", chainServices},
	}
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
	before, next := w.take(t)
	tx := w.nft.NewTransaction()
	if full || !w.written {
		tx.Add(&knftables.Table{})
		tx.Delete(&knftables.Table{})
		tx.Add(&knftables.Table{Comment: knftables.PtrTo("rules of Services")})
		w.layout.Base(tx)
		before, next = NewContent(), w.all()
	}
	w.diff(tx, before, next)
	if tx.NumOperations() == 0 {
		return nil
	}
	w.written = false
	if err := w.nft.Run(ctx, tx); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("nftables: %w", err)
	}
	w.written = true
	return nil
}

// take takes the changes of the service table into the book. It returns what they
// touch, before and after.
func (w *Writer) take(t *state.Table) (before, next *Content) {
	names, ok := t.Since(w.as)
	if !ok {
		names = w.everyName(t)
	}
	w.as = t.Version()
	type change struct{ old, new []part }
	changes := make([]change, len(names))
	before, next = NewContent(), NewContent()
	for i, name := range names {
		changes[i] = change{w.parts[name], w.make(w.parts[name], t.Of(name))}
		for _, p := range slices.Concat(changes[i].old, changes[i].new) {
			w.book.show(before, p.content)
		}
	}
	for i, name := range names {
		for _, p := range changes[i].old {
			w.book.replace(p.of, p.content, nil)
		}
		for _, p := range changes[i].new {
			w.book.replace(p.of, nil, p.content)
		}
		if w.parts[name] = changes[i].new; len(changes[i].new) == 0 {
			delete(w.parts, name)
		}
	}
	for _, c := range changes {
		for _, p := range slices.Concat(c.old, c.new) {
			w.book.show(next, p.content)
		}
	}
	return before, next
}

// everyName are the Services of the table in their order, and those that were.
func (w *Writer) everyName(t *state.Table) []types.NamespacedName {
	names := slices.Clone(t.Names())
	for name := range w.parts {
		if t.Of(name) == nil {
			names = append(names, name)
		}
	}
	return names
}

// make is the content of a Service's ports.
func (w *Writer) make(old []part, ports []state.Port) []part {
	out := make([]part, len(ports))
	for i := range ports {
		p := ports[i]
		if j := slices.IndexFunc(old, func(o part) bool { return o.of == p.Name }); j >= 0 {
			p.Cluster, p.Local = placed(old[j].cluster, p.Cluster), placed(old[j].local, p.Local)
		}
		out[i] = part{p.Name, p.Cluster, p.Local, w.layout.Rules(&p)}
	}
	return out
}

// placed are the endpoints in an order in which those that were there keep their
// places, as far as there are so many.
func placed(before, now []state.Endpoint) []state.Endpoint {
	place := map[netip.AddrPort]int{}
	for i, e := range before {
		if i < len(now) {
			place[e.Addr] = i
		}
	}
	out := make([]state.Endpoint, len(now))
	taken := make([]bool, len(now))
	var rest []state.Endpoint
	for _, e := range now {
		if i, ok := place[e.Addr]; ok {
			out[i], taken[i] = e, true
		} else {
			rest = append(rest, e)
		}
	}
	for i := range out {
		if !taken[i] {
			out[i], rest = rest[0], rest[1:]
		}
	}
	return out
}

// all is the content of all service ports.
func (w *Writer) all() *Content {
	out := NewContent()
	for _, parts := range w.parts {
		for _, p := range parts {
			w.book.show(out, p.content)
		}
	}
	return out
}

// Intact tells whether the rules are still there: another program may have
// flushed them all. It asks the kernel itself: the nft program would read all maps
// with their elements to list a chain.
func (w *Writer) Intact() (bool, error) {
	if !w.written {
		return false, nil
	}
	kernel, err := netlink.New()
	if err != nil {
		return false, fmt.Errorf("nftables: %w", err)
	}
	family := netlink.TableFamilyIPv4
	if w.layout.IPv6 {
		family = netlink.TableFamilyIPv6
	}
	for _, chain := range w.layout.Chains {
		rules, err := kernel.GetRules(&netlink.Table{Name: w.layout.Name, Family: family}, &netlink.Chain{Name: chain})
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
func Clean() error { return CleanTable(Table) }

// CleanTable removes the tables of a name of both families.
func CleanTable(name string) error {
	if _, err := exec.LookPath("nft"); err != nil {
		return nil
	}
	var errs []error
	for _, v6 := range []bool{false, true} {
		nft, err := knftables.New(familyOf(v6), name)
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
