// Package topology decides from which NUMA nodes a pod gets its CPUs, memory
// and devices. The decision is a pure function of the machine and of what each
// provider of resources could do.
package topology

import (
	"fmt"
	"math/bits"
	"strings"
)

// Mask is a set of NUMA nodes.
type Mask uint64

// NewMask is the set of the given nodes.
func NewMask(nodes ...int) Mask {
	var m Mask
	for _, n := range nodes {
		if n >= 0 && n < 64 {
			m |= 1 << n
		}
	}
	return m
}

// Nodes lists the set in order.
func (m Mask) Nodes() []int {
	var out []int
	for rest := uint64(m); rest != 0; rest &= rest - 1 {
		out = append(out, bits.TrailingZeros64(rest))
	}
	return out
}

// Count is the size of the set.
func (m Mask) Count() int { return bits.OnesCount64(uint64(m)) }

// Has tells whether a node is in the set.
func (m Mask) Has(node int) bool { return node >= 0 && node < 64 && m&(1<<node) != 0 }

// Narrower orders sets: fewer nodes first, then those with the lower numbers.
func (m Mask) Narrower(than Mask) bool {
	if a, b := m.Count(), than.Count(); a != b {
		return a < b
	}
	return m < than
}

// Each calls f for every set that can be made of the nodes, but the empty one.
func Each(nodes []int, f func(Mask)) {
	for chosen := uint64(1); chosen < 1<<len(nodes); chosen++ {
		var m Mask
		for i, n := range nodes {
			if chosen&(1<<i) != 0 {
				m |= NewMask(n)
			}
		}
		f(m)
	}
}

// String shows the set's nodes.
func (m Mask) String() string { return strings.Trim(fmt.Sprint(m.Nodes()), "[]") }

// Hint is one set of NUMA nodes that a request could be met from.
type Hint struct {
	// Nodes is empty when any will do.
	Nodes Mask
	// Preferred says that no smaller set could ever meet the request.
	Preferred bool
}
