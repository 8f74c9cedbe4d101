package cpus

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"k8s.io/utils/cpuset"

	"skiff/kubelet/topology"
)

// preference is how CPUs are chosen.
type preference struct {
	// spread takes one thread per core where it can, instead of whole cores.
	spread bool
	// caches keeps to as few shared caches as possible.
	caches bool
}

// take chooses n of the free CPUs so that they are close together: whole sockets
// or NUMA nodes first, then whole caches, whole cores, and single threads of cores
// that others use already. Among equals those come first that have the least
// left, so that big pieces stay whole.
func take(m topology.Machine, free cpuset.CPUSet, n int, p preference) (cpuset.CPUSet, error) {
	if free.Size() < n {
		return cpuset.CPUSet{}, fmt.Errorf("not enough cpus available to satisfy request: requested=%d, available=%d", n, free.Size())
	}
	t := &taker{machine: m, free: free, needed: n}
	t.levels()
	t.whole(t.first)
	t.whole(t.second)
	if p.caches {
		t.whole(cacheOf)
		t.withinCache(p)
	}
	if !p.spread {
		t.whole(coreOf)
	}
	t.threads(p)
	return t.taken, nil
}

// unit names the piece of the machine that a CPU belongs to.
type unit func(topology.CPU) int

func nodeOf(c topology.CPU) int   { return c.Node }
func socketOf(c topology.CPU) int { return c.Socket }
func cacheOf(c topology.CPU) int  { return c.Cache }
func coreOf(c topology.CPU) int   { return c.Core }

type taker struct {
	machine       topology.Machine
	free, taken   cpuset.CPUSet
	needed        int
	first, second unit
}

// levels finds out whether sockets are made of NUMA nodes or the other way round.
func (t *taker) levels() {
	nodes, sockets := map[int]bool{}, map[int]bool{}
	for _, c := range t.machine.CPUs {
		nodes[c.Node], sockets[c.Socket] = true, true
	}
	t.first, t.second = socketOf, nodeOf
	if len(sockets) >= len(nodes) {
		t.first, t.second = nodeOf, socketOf
	}
}

func (t *taker) grab(set cpuset.CPUSet) {
	t.taken, t.free, t.needed = t.taken.Union(set), t.free.Difference(set), t.needed-set.Size()
}

// pieces are the machine's pieces of a kind that have free CPUs, in the order in
// which they are taken: by their first and second level, and the emptiest first.
func (t *taker) pieces(of unit) []cpuset.CPUSet {
	free := map[int][]topology.CPU{}
	left := func(of unit) map[int]int {
		out := map[int]int{}
		for _, c := range t.machine.CPUs {
			if t.free.Contains(c.ID) {
				out[of(c)]++
			}
		}
		return out
	}
	for _, c := range t.machine.CPUs {
		if t.free.Contains(c.ID) {
			free[of(c)] = append(free[of(c)], c)
		}
	}
	first, second, caches := left(t.first), left(t.second), left(cacheOf)
	ids := slices.SortedFunc(maps.Keys(free), func(a, b int) int {
		x, y := free[a][0], free[b][0]
		return cmp.Or(
			cmp.Compare(first[t.first(x)], first[t.first(y)]), cmp.Compare(t.first(x), t.first(y)),
			cmp.Compare(second[t.second(x)], second[t.second(y)]), cmp.Compare(t.second(x), t.second(y)),
			cmp.Compare(caches[x.Cache], caches[y.Cache]), cmp.Compare(x.Cache, y.Cache),
			cmp.Compare(len(free[a]), len(free[b])), cmp.Compare(a, b),
		)
	})
	var out []cpuset.CPUSet
	for _, id := range ids {
		var cpus []int
		for _, c := range free[id] {
			cpus = append(cpus, c.ID)
		}
		out = append(out, cpuset.New(cpus...))
	}
	return out
}

// size is how many CPUs the piece that a CPU is of has altogether.
func (t *taker) size(of unit, set cpuset.CPUSet) int {
	one := set.UnsortedList()[0]
	var id int
	for _, c := range t.machine.CPUs {
		if c.ID == one {
			id = of(c)
		}
	}
	return t.machine.Where(func(c topology.CPU) bool { return of(c) == id }).Size()
}

// whole takes pieces that are free as a whole, as long as one more is needed.
func (t *taker) whole(of unit) {
	for _, set := range t.pieces(of) {
		if set.Size() <= t.needed && set.Size() == t.size(of, set) {
			t.grab(set)
		}
	}
}

// withinCache takes the rest from one cache, if one has it.
func (t *taker) withinCache(p preference) {
	if t.needed == 0 {
		return
	}
	for _, set := range t.pieces(cacheOf) {
		if set.Size() < t.needed {
			continue
		}
		inside := &taker{machine: t.machine, free: set, needed: t.needed}
		inside.levels()
		if !p.spread {
			inside.whole(coreOf)
		}
		inside.threads(p)
		t.grab(inside.taken)
		return
	}
}

// threads takes single CPUs: of the fullest cores, or of as many cores as
// possible.
func (t *taker) threads(p preference) {
	if t.needed == 0 {
		return
	}
	var order []int
	cores := t.pieces(coreOf)
	if !p.spread {
		for _, core := range cores {
			order = append(order, core.List()...)
		}
	} else {
		for round := 0; len(order) < t.free.Size(); round++ {
			for _, core := range cores {
				if list := core.List(); round < len(list) {
					order = append(order, list[round])
				}
			}
		}
	}
	t.grab(cpuset.New(order[:t.needed]...))
}

// distribute chooses n of the free CPUs in equal parts from as few NUMA nodes as
// can give them, in groups that stay together on a node.
func distribute(m topology.Machine, free cpuset.CPUSet, n, group int, p preference) (cpuset.CPUSet, error) {
	if n%group != 0 || free.Size() < n {
		return take(m, free, n, p)
	}
	on := map[int]cpuset.CPUSet{}
	for _, id := range m.NodeIDs() {
		on[id] = m.Where(func(c topology.CPU) bool { return c.Node == id }).Intersection(free)
	}
	for count := 1; count <= len(on); count++ {
		var best map[int]int
		var bestScore float64
		topology.Each(m.NodeIDs(), func(mask topology.Mask) {
			if mask.Count() != count {
				return
			}
			parts := split(on, mask.Nodes(), n, group)
			if parts == nil {
				return
			}
			if score := imbalance(on, parts); best == nil || score < bestScore {
				best, bestScore = parts, score
			}
		})
		if best == nil {
			continue
		}
		out := cpuset.New()
		for _, id := range slices.Sorted(maps.Keys(best)) {
			part, err := take(m, on[id], best[id], p)
			if err != nil {
				return out, err
			}
			out = out.Union(part)
		}
		return out, nil
	}
	return take(m, free, n, p)
}

// split parts n among nodes; what does not part evenly goes, a group each, to
// those that have the most left. Nil means that the nodes do not have it.
func split(on map[int]cpuset.CPUSet, nodes []int, n, group int) map[int]int {
	each := n / len(nodes) / group * group
	out := map[int]int{}
	for _, id := range nodes {
		if each == 0 || on[id].Size() < each {
			return nil
		}
		out[id] = each
	}
	for rest := n - each*len(nodes); rest > 0; rest -= group {
		most, left := -1, 0
		for _, id := range nodes {
			if l := on[id].Size() - out[id]; out[id] == each && l >= group && l > left {
				most, left = id, l
			}
		}
		if most < 0 {
			return nil
		}
		out[most] += group
	}
	return out
}

// imbalance is how far apart the nodes are in what they have left.
func imbalance(on map[int]cpuset.CPUSet, parts map[int]int) float64 {
	sum, squares := 0.0, 0.0
	for id, set := range on {
		left := float64(set.Size() - parts[id])
		sum, squares = sum+left, squares+left*left
	}
	mean := sum / float64(len(on))
	return squares/float64(len(on)) - mean*mean
}
