package nftables

import (
	"cmp"
	"slices"

	"skiff/proxy/state"
)

// Content is what a table holds beside its fixed part.
type Content struct {
	// Chains are the rules by chain.
	Chains map[string][]string
	// Elements are key and value by map or set; a set has empty values.
	Elements map[string]map[string]string
	// Affinity are the seconds that a set of clients remembers, by set.
	Affinity map[string]int32
}

// NewContent is empty.
func NewContent() *Content {
	return &Content{Chains: map[string][]string{}, Elements: map[string]map[string]string{}, Affinity: map[string]int32{}}
}

// Element keeps the first of two that want the same key.
func (c *Content) Element(in, key, value string) {
	m := c.Elements[in]
	if m == nil {
		m = map[string]string{}
		c.Elements[in] = m
	}
	if _, taken := m[key]; !taken {
		m[key] = value
	}
}

// claims are those who want something in the table, in their order, and what
// each wants it to be: two Services may name one external address, and many share
// a chain. The first has it.
type claims[V any] []claim[V]

type claim[V any] struct {
	of    state.PortName
	value V
}

func comparePorts(a, b state.PortName) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Port, b.Port), cmp.Compare(a.Protocol, b.Protocol))
}

func (c claims[V]) find(of state.PortName) (int, bool) {
	return slices.BinarySearchFunc(c, of, func(x claim[V], of state.PortName) int { return comparePorts(x.of, of) })
}

// ledger is what is wanted, by name.
type ledger[V any] map[string]claims[V]

// claim says what a port wants a name to be.
func (l ledger[V]) claim(name string, of state.PortName, value V) {
	c := l[name]
	i, ok := c.find(of)
	if ok {
		c[i].value = value
		return
	}
	l[name] = slices.Insert(c, i, claim[V]{of, value})
}

// leave takes back what a port wanted.
func (l ledger[V]) leave(name string, of state.PortName) {
	c := l[name]
	if i, ok := c.find(of); ok {
		c = slices.Delete(c, i, i+1)
	}
	if len(c) == 0 {
		delete(l, name)
		return
	}
	l[name] = c
}

// to adds what holds of a name to what is shown, if anything does.
func (l ledger[V]) to(shown map[string]V, name string) {
	if c := l[name]; len(c) > 0 {
		shown[name] = c[0].value
	}
}

// book is what all service ports want of the table. It shows the content of what
// some ports touch without a look at the others.
type book struct {
	chains   ledger[[]string]
	affinity ledger[int32]
	elements map[string]ledger[string]
}

func newBook() *book {
	return &book{chains: ledger[[]string]{}, affinity: ledger[int32]{}, elements: map[string]ledger[string]{}}
}

// replace changes what a port wants from one content to another; nil is nothing.
func (b *book) replace(of state.PortName, before, next *Content) {
	if before != nil {
		for name := range before.Chains {
			b.chains.leave(name, of)
		}
		for name := range before.Affinity {
			b.affinity.leave(name, of)
		}
		for in, m := range before.Elements {
			for key := range m {
				b.elements[in].leave(key, of)
			}
		}
	}
	if next == nil {
		return
	}
	for name, rules := range next.Chains {
		b.chains.claim(name, of, rules)
	}
	for name, seconds := range next.Affinity {
		b.affinity.claim(name, of, seconds)
	}
	for in, m := range next.Elements {
		if b.elements[in] == nil {
			b.elements[in] = ledger[string]{}
		}
		for key, value := range m {
			b.elements[in].claim(key, of, value)
		}
	}
}

// show adds to out what holds of all that a content names.
func (b *book) show(out, named *Content) {
	if named == nil {
		return
	}
	for name := range named.Chains {
		b.chains.to(out.Chains, name)
	}
	for name := range named.Affinity {
		b.affinity.to(out.Affinity, name)
	}
	for in, m := range named.Elements {
		if out.Elements[in] == nil {
			out.Elements[in] = map[string]string{}
		}
		for key := range m {
			b.elements[in].to(out.Elements[in], key)
		}
	}
}
