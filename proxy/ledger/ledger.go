// Package ledger keeps what service ports want of the kernel: two Services may name one
// external address, and many may share a chain. The first in their order has it, and
// the next when that one leaves, without a look at the others.
package ledger

import (
	"cmp"
	"slices"

	"skiff/proxy/state"
)

// Ledger is who wants each thing, and what each wants it to be.
type Ledger[K comparable, V any] map[K][]claim[V]

type claim[V any] struct {
	of    state.PortName
	value V
}

func compare(a, b state.PortName) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Port, b.Port), cmp.Compare(a.Protocol, b.Protocol))
}

func find[V any](claims []claim[V], of state.PortName) (int, bool) {
	return slices.BinarySearchFunc(claims, of, func(x claim[V], of state.PortName) int { return compare(x.of, of) })
}

// Claim says what a port wants a thing to be.
func (l Ledger[K, V]) Claim(key K, of state.PortName, value V) {
	c := l[key]
	i, ok := find(c, of)
	if ok {
		c[i].value = value
		return
	}
	l[key] = slices.Insert(c, i, claim[V]{of, value})
}

// Leave takes back what a port wanted.
func (l Ledger[K, V]) Leave(key K, of state.PortName) {
	c := l[key]
	if i, ok := find(c, of); ok {
		c = slices.Delete(c, i, i+1)
	}
	if len(c) == 0 {
		delete(l, key)
		return
	}
	l[key] = c
}

// First is what holds of a thing, if anybody wants it.
func (l Ledger[K, V]) First(key K) (value V, ok bool) {
	if c := l[key]; len(c) > 0 {
		return c[0].value, true
	}
	return value, false
}
