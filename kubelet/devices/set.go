package devices

import (
	"maps"
	"slices"
)

// set are device identifiers.
type set map[string]bool

func setOf(ids []string) set {
	out := set{}
	for _, id := range ids {
		out[id] = true
	}
	return out
}

func (s set) list() []string { return slices.Sorted(maps.Keys(s)) }

func (s set) add(o set) { maps.Copy(s, o) }

// without is what the set has and the other does not.
func (s set) without(o set) set {
	out := set{}
	for id := range s {
		if !o[id] {
			out[id] = true
		}
	}
	return out
}

// with is what both have.
func (s set) with(o set) set {
	out := set{}
	for id := range s {
		if o[id] {
			out[id] = true
		}
	}
	return out
}

func (s set) union(o set) set {
	out := maps.Clone(s)
	if out == nil {
		out = set{}
	}
	out.add(o)
	return out
}
