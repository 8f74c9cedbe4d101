package nftables

import (
	"skiff/proxy/ledger"
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

// book is what all service ports want of the table. It shows the content of what
// some ports touch without a look at the others.
type book struct {
	chains   ledger.Ledger[string, []string]
	affinity ledger.Ledger[string, int32]
	elements map[string]ledger.Ledger[string, string]
}

func newBook() *book {
	return &book{chains: ledger.Ledger[string, []string]{}, affinity: ledger.Ledger[string, int32]{}, elements: map[string]ledger.Ledger[string, string]{}}
}

// replace changes what a port wants from one content to another; nil is nothing.
func (b *book) replace(of state.PortName, before, next *Content) {
	if before != nil {
		for name := range before.Chains {
			b.chains.Leave(name, of)
		}
		for name := range before.Affinity {
			b.affinity.Leave(name, of)
		}
		for in, m := range before.Elements {
			for key := range m {
				b.elements[in].Leave(key, of)
			}
		}
	}
	if next == nil {
		return
	}
	for name, rules := range next.Chains {
		b.chains.Claim(name, of, rules)
	}
	for name, seconds := range next.Affinity {
		b.affinity.Claim(name, of, seconds)
	}
	for in, m := range next.Elements {
		if b.elements[in] == nil {
			b.elements[in] = ledger.Ledger[string, string]{}
		}
		for key, value := range m {
			b.elements[in].Claim(key, of, value)
		}
	}
}

// show adds to out what holds of all that a content names.
func (b *book) show(out, named *Content) {
	if named == nil {
		return
	}
	for name := range named.Chains {
		show(b.chains, out.Chains, name)
	}
	for name := range named.Affinity {
		show(b.affinity, out.Affinity, name)
	}
	for in, m := range named.Elements {
		if out.Elements[in] == nil {
			out.Elements[in] = map[string]string{}
		}
		for key := range m {
			show(b.elements[in], out.Elements[in], key)
		}
	}
}

// show adds what holds of a name to what is shown, if anything does.
func show[V any](l ledger.Ledger[string, V], shown map[string]V, name string) {
	if v, ok := l.First(name); ok {
		shown[name] = v
	}
}
