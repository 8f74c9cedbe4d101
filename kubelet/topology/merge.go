package topology

import "slices"

// merger finds the best set of nodes for all resources together.
type merger struct {
	// all are the machine's nodes.
	all Mask
	// aim is how many nodes the most demanding resource needs at the least.
	aim int
	// distance, when set, prefers sets of nodes near each other.
	distance func(Mask) float64
}

// preferences flattens the answers of all providers to one list per resource. A
// provider that has no preference accepts every set; one that has no way to meet
// the request accepts every set too, and prefers none.
func preferences(answers []map[string][]Hint) [][]Hint {
	var out [][]Hint
	for _, answer := range answers {
		if len(answer) == 0 {
			out = append(out, []Hint{{Preferred: true}})
			continue
		}
		names := make([]string, 0, len(answer))
		for name := range answer {
			names = append(names, name)
		}
		slices.Sort(names)
		for _, name := range names {
			hints := answer[name]
			switch {
			case hints == nil:
				hints = []Hint{{Preferred: true}}
			case len(hints) == 0:
				hints = []Hint{{Preferred: false}}
			}
			out = append(out, hints)
		}
	}
	return out
}

// aim is the size of the smallest set that the most demanding resource allows.
func aim(lists [][]Hint) int {
	out := 0
	for _, hints := range lists {
		smallest := 0
		for _, h := range hints {
			if n := h.Nodes.Count(); n > 0 && (smallest == 0 || n < smallest) {
				smallest = n
			}
		}
		out = max(out, smallest)
	}
	return out
}

// merge tries every combination of one hint per resource.
func (m merger) merge(lists [][]Hint) Hint {
	var best *Hint
	chosen := make([]Hint, 0, len(lists))
	var walk func(int)
	walk = func(i int) {
		if i < len(lists) {
			for _, h := range lists[i] {
				chosen = append(chosen, h)
				walk(i + 1)
				chosen = chosen[:len(chosen)-1]
			}
			return
		}
		if h := m.combine(chosen); h.Nodes != 0 && (best == nil || m.better(*best, h)) {
			best = &h
		}
	}
	walk(0)
	if best == nil {
		return Hint{Nodes: m.all}
	}
	return *best
}

// combine is what hints have in common; it is preferred when all agree.
func (m merger) combine(hints []Hint) Hint {
	out := Hint{Nodes: m.all, Preferred: true}
	var first Mask
	for _, h := range hints {
		if h.Nodes != 0 {
			if first == 0 {
				first = h.Nodes
			}
			out.Preferred = out.Preferred && h.Nodes == first
			out.Nodes &= h.Nodes
		}
		out.Preferred = out.Preferred && h.Preferred
	}
	return out
}

func (m merger) closer(a, than Mask) bool {
	if m.distance != nil && a.Count() == than.Count() {
		if x, y := m.distance(a), m.distance(than); x != y {
			return x < y
		}
	}
	return a.Narrower(than)
}

// better tells whether next beats the best so far. Among sets that nobody
// prefers those are better that hold as many nodes as the most demanding
// resource needs: fewer would serve it from afar.
func (m merger) better(best, next Hint) bool {
	if best.Preferred != next.Preferred {
		return next.Preferred
	}
	if best.Preferred {
		return m.closer(next.Nodes, best.Nodes)
	}
	have, other := best.Nodes.Count(), next.Nodes.Count()
	switch {
	case have > m.aim:
		return m.closer(next.Nodes, best.Nodes)
	case have == m.aim:
		return other == m.aim && m.closer(next.Nodes, best.Nodes)
	case other > m.aim:
		return false
	case other != have:
		return other > have
	}
	return m.closer(next.Nodes, best.Nodes)
}
