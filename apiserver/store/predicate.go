package store

import (
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
)

// Predicate selects objects. The zero Predicate selects all.
type Predicate struct {
	// Namespace limits to one namespace; "" means all.
	Namespace string
	// Labels and Fields may be nil.
	Labels labels.Selector
	Fields fields.Selector
	// Slow, when not nil, is asked of what the rest selects, and may wait: a
	// watch asks it where its events are read, not where they come from.
	Slow func(*Item) bool
}

// Empty tells whether there are selectors beside the namespace.
func (p Predicate) Empty() bool {
	return (p.Labels == nil || p.Labels.Empty()) && (p.Fields == nil || p.Fields.Empty()) && p.Slow == nil
}

// exactName is the one name that the field selector allows, if it names one.
func (p Predicate) exactName() (string, bool) { return p.exact("metadata.name") }

func (p Predicate) exact(field string) (string, bool) {
	if p.Fields == nil || p.Fields.Empty() {
		return "", false
	}
	return p.Fields.RequiresExactMatch(field)
}

type itemFields struct {
	s  *Store
	it *Item
}

func (f itemFields) Has(name string) bool {
	if name == "metadata.name" || name == "metadata.namespace" {
		return true
	}
	_, ok := f.it.fields[name]
	return ok
}

func (f itemFields) Get(name string) string { return f.s.field(f.it, name) }

// matches ignores the namespace, which ranges and buckets have seen to, unless asked.
func (s *Store) matches(p *Predicate, it *Item) bool {
	return s.matchesFast(p, it) && (p.Slow == nil || p.Slow(it))
}

// matchesFast leaves Slow out.
func (s *Store) matchesFast(p *Predicate, it *Item) bool {
	if it.unread != nil {
		// It may have any labels: whoever lists is told that it cannot be read, and
		// does not take the rest for all there is.
		name, one := p.exactName()
		return !one || name == s.field(it, "metadata.name")
	}
	if p.Labels != nil && !p.Labels.Matches(it.labels) {
		return false
	}
	if p.Fields != nil && !p.Fields.Empty() && !p.Fields.Matches(itemFields{s, it}) {
		return false
	}
	return true
}
