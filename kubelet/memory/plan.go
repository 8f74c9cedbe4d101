package memory

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	v1 "k8s.io/api/core/v1"

	"skiff/kubelet/memory/state"
	"skiff/kubelet/topology"
)

// request is how much of each kind of memory is asked for.
type request map[v1.ResourceName]uint64

// fresh are the accounts of a machine that nothing was given out of.
func fresh(m topology.Machine, reserved map[int]request) state.NUMANodeMap {
	out := state.NUMANodeMap{}
	for _, n := range m.Nodes {
		st := &state.NUMANodeState{MemoryMap: map[v1.ResourceName]*state.MemoryTable{}, Cells: []int{n.ID}}
		pages := uint64(0)
		add := func(kind v1.ResourceName, total, usable uint64) {
			kept := reserved[n.ID][kind]
			left := usable - min(kept, usable)
			st.MemoryMap[kind] = &state.MemoryTable{TotalMemSize: total, SystemReserved: kept, Allocatable: left, Free: left}
		}
		for size, bytes := range n.HugePages {
			pages += uint64(bytes)
			add(pageResource(size), uint64(bytes), uint64(bytes))
		}
		total := uint64(n.Memory)
		add(v1.ResourceMemory, total, total-min(pages, total))
		out[n.ID] = st
	}
	return out
}

// hints are the sets of nodes that could serve a request. A node that serves
// containers alone serves none together with others, and a group of nodes stays
// together.
func hints(machine state.NUMANodeMap, r request) []topology.Hint {
	nodes := slices.Sorted(maps.Keys(machine))
	return topology.HintsFor(nodes, func(mask topology.Mask) (ever, now bool) {
		group := mask.Nodes()
		if len(group) > 1 {
			for _, id := range group {
				if n := machine[id]; n.NumberOfAssignments > 0 && !slices.Equal(n.Cells, group) {
					return false, false
				}
			}
		}
		ever, now = true, true
		for kind, size := range r {
			var free, all uint64
			for _, id := range group {
				if t := machine[id].MemoryMap[kind]; t != nil {
					free, all = free+t.Free, all+t.Allocatable
				}
			}
			ever, now = ever && all >= size, now && free >= size
		}
		if len(group) == 1 && len(machine[group[0]].Cells) > 1 {
			now = false
		}
		return ever, ever && now
	})
}

// nodesFor settles on the nodes of a container: those of the hint where they
// suffice, else the smallest set around them.
func nodesFor(machine state.NUMANodeMap, r request, hint topology.Hint) (topology.Mask, error) {
	possible := hints(machine, r)
	for _, h := range possible {
		if h.Nodes == hint.Nodes {
			return h.Nodes, nil
		}
	}
	var best *topology.Hint
	for i, h := range possible {
		if h.Nodes&hint.Nodes != hint.Nodes {
			continue
		}
		if best == nil || h.Preferred && !best.Preferred || h.Preferred == best.Preferred && h.Nodes.Narrower(best.Nodes) {
			best = &possible[i]
		}
	}
	switch {
	case best == nil && hint.Nodes == 0:
		return 0, errors.New("[memorymanager] failed to get the default NUMA affinity, no NUMA nodes with enough memory is available")
	case best == nil:
		return 0, errors.New("[memorymanager] failed to find the extended preferred hint")
	}
	return best.Nodes, nil
}

// account are the accounts after all that containers have. Groups of nodes stay
// together, so that the order of containers does not matter.
func account(empty state.NUMANodeMap, entries state.ContainerMemoryAssignments) (state.NUMANodeMap, error) {
	out := empty.Clone()
	for _, uid := range slices.Sorted(maps.Keys(entries)) {
		for _, name := range slices.Sorted(maps.Keys(entries[uid])) {
			for _, b := range entries[uid][name] {
				if err := give(out, b); err != nil {
					return nil, fmt.Errorf("pod %s, container %s: %w", uid, name, err)
				}
			}
		}
	}
	return out, nil
}

// give takes a block out of the accounts, from the first of its nodes on.
func give(machine state.NUMANodeMap, b state.Block) error {
	left := b.Size
	for _, id := range b.NUMAAffinity {
		n := machine[id]
		if n == nil {
			return fmt.Errorf("the machine has no NUMA node %d", id)
		}
		n.NumberOfAssignments++
		n.Cells = b.NUMAAffinity
		if t := n.MemoryMap[b.Type]; t != nil {
			part := min(left, t.Free)
			t.Free, t.Reserved, left = t.Free-part, t.Reserved+part, left-part
		}
	}
	if left > 0 {
		return fmt.Errorf("[memorymanager] insufficient %s on NUMA nodes %v: %d bytes more are needed", b.Type, b.NUMAAffinity, left)
	}
	return nil
}

// without are the entries when the lenders of a pod have nothing.
func without(entries state.ContainerMemoryAssignments, uid string, lenders []string) state.ContainerMemoryAssignments {
	out := maps.Clone(entries)
	if entries[uid] != nil {
		out[uid] = maps.Clone(entries[uid])
		for _, name := range lenders {
			delete(out[uid], name)
		}
	}
	return out
}

// assign adds a container to the entries. Init containers of its pod, the
// lenders, have ended when it starts: it uses what they had, and they keep what
// is more.
func assign(empty state.NUMANodeMap, entries state.ContainerMemoryAssignments, uid, container string, lenders []string, r request, hint topology.Hint) (state.ContainerMemoryAssignments, error) {
	machine, err := account(empty, without(entries, uid, lenders))
	if err != nil {
		return nil, err
	}
	nodes, err := nodesFor(machine, r, hint)
	if err != nil {
		return nil, err
	}
	out := maps.Clone(entries)
	if out == nil {
		out = state.ContainerMemoryAssignments{}
	}
	containers := maps.Clone(entries[uid])
	if containers == nil {
		containers = map[string][]state.Block{}
	}
	for _, kind := range slices.Sorted(maps.Keys(r)) {
		b := state.Block{NUMAAffinity: nodes.Nodes(), Type: kind, Size: r[kind]}
		containers[container] = append(containers[container], b)
		reused := b.Size
		for _, lender := range lenders {
			blocks := slices.Clone(containers[lender])
			for i, have := range blocks {
				if have.Type == kind && slices.Equal(have.NUMAAffinity, b.NUMAAffinity) {
					part := min(reused, have.Size)
					blocks[i].Size, reused = have.Size-part, reused-part
				}
			}
			if blocks != nil {
				containers[lender] = blocks
			}
		}
	}
	out[uid] = containers
	if _, err := account(empty, out); err != nil {
		return nil, err
	}
	return out, nil
}
