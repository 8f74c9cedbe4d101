// Package memory gives containers of guaranteed pods memory and huge pages of
// known NUMA nodes.
package memory

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	v1 "k8s.io/api/core/v1"
	apiresource "k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
	kubeletv1beta1 "k8s.io/kubelet/config/v1beta1"

	"skiff/kubelet/memory/state"
	"skiff/kubelet/resources"
	"skiff/kubelet/statefile"
	"skiff/kubelet/topology"
)

// The policies.
const (
	None   = kubeletv1beta1.NoneMemoryManagerPolicy
	Static = kubeletv1beta1.StaticMemoryManagerPolicy
)

// Config configures a Manager.
type Config struct {
	Policy  string
	Machine topology.Machine
	// Reserved is what each node keeps for the system. Together it must be what
	// the node as a whole does not let pods have: Total.
	Reserved []kubeletv1beta1.MemoryReservation
	Total    v1.ResourceList
	// Dir is the kubelet's folder, where the state file is.
	Dir string
}

// Manager keeps the accounts.
type Manager struct {
	cfg   Config
	empty state.NUMANodeMap

	mu      sync.Mutex // guards entries
	entries state.ContainerMemoryAssignments
}

var _ topology.Provider = (*Manager)(nil)

// New checks the configuration.
func New(cfg Config) (*Manager, error) {
	if !filepath.IsAbs(cfg.Dir) {
		return nil, errors.New("memory: Dir, an absolute path, is required")
	}
	m := &Manager{cfg: cfg, empty: state.NUMANodeMap{}, entries: state.ContainerMemoryAssignments{}}
	switch cfg.Policy {
	case None:
		return m, nil
	case Static:
	default:
		return nil, fmt.Errorf("unknown policy: %q", cfg.Policy)
	}
	reserved, err := reservations(cfg)
	if err != nil {
		return nil, err
	}
	m.empty = fresh(cfg.Machine, reserved)
	return m, nil
}

// reservations checks that the nodes keep together what the machine keeps.
func reservations(cfg Config) (map[int]request, error) {
	out := map[int]request{}
	sums := map[v1.ResourceName]apiresource.Quantity{}
	for _, r := range cfg.Reserved {
		if !slices.Contains(cfg.Machine.NodeIDs(), int(r.NumaNode)) {
			return nil, fmt.Errorf("the reserved memory configuration references a NUMA node %d that does not exist on this machine", r.NumaNode)
		}
		if out[int(r.NumaNode)] == nil {
			out[int(r.NumaNode)] = request{}
		}
		for kind, q := range r.Limits {
			sum := sums[kind]
			sum.Add(q)
			sums[kind] = sum
			out[int(r.NumaNode)][kind] += uint64(q.Value())
		}
	}
	kinds := map[v1.ResourceName]bool{}
	for kind := range sums {
		kinds[kind] = true
	}
	for kind, q := range cfg.Total {
		if isMemory(kind) && !q.IsZero() {
			kinds[kind] = true
		}
	}
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		have, want := sums[kind], cfg.Total[kind]
		if have.Cmp(want) != 0 {
			return nil, fmt.Errorf("the total amount %q of type %q is not equal to the value %q determined by Node Allocatable feature", have.String(), kind, want.String())
		}
	}
	return out, nil
}

func isMemory(kind v1.ResourceName) bool {
	return kind == v1.ResourceMemory || strings.HasPrefix(string(kind), v1.ResourceHugePagesPrefix)
}

// pageResource is the resource of huge pages of a size.
func pageResource(size int64) v1.ResourceName {
	return v1.ResourceName(v1.ResourceHugePagesPrefix + apiresource.NewQuantity(size, apiresource.BinarySI).String())
}

func (m *Manager) file() string { return filepath.Join(m.cfg.Dir, state.File) }

// Restore reads what an earlier kubelet gave out. One of another policy is
// forgotten where it gave out nothing.
func (m *Manager) Restore() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	data, err := statefile.Read(m.file())
	if err != nil {
		return err
	}
	if data != nil {
		policy, machine, entries, err := state.Decode(data)
		switch {
		case err != nil:
		case policy == m.cfg.Policy:
			err = m.same(machine)
		case len(entries) > 0:
			err = fmt.Errorf("[memorymanager] configured policy %q differs from state checkpoint policy %q", m.cfg.Policy, policy)
		}
		if err == nil {
			_, err = account(m.empty, entries)
		}
		if err != nil {
			return fmt.Errorf("could not restore state from checkpoint: %w, please drain this node and delete the memory manager checkpoint file %q before restarting Kubelet", err, m.file())
		}
		m.entries = entries
	}
	return m.save()
}

// same compares the machine of a state file with this one.
func (m *Manager) same(machine state.NUMANodeMap) error {
	differs := errors.New("[memorymanager] the expected machine state is different from the real one")
	if len(machine) == 0 && len(m.entries) == 0 {
		return nil
	}
	if len(machine) != len(m.empty) {
		return differs
	}
	for id, n := range m.empty {
		other := machine[id]
		if other == nil || len(other.MemoryMap) != len(n.MemoryMap) {
			return differs
		}
		for kind, t := range n.MemoryMap {
			if o := other.MemoryMap[kind]; o == nil || o.TotalMemSize != t.TotalMemSize || o.SystemReserved != t.SystemReserved || o.Allocatable != t.Allocatable {
				return differs
			}
		}
	}
	return nil
}

// save writes the state file; the caller holds the lock.
func (m *Manager) save() error {
	machine, err := account(m.empty, m.entries)
	if err != nil {
		return err
	}
	data, err := state.Encode(m.cfg.Policy, machine, m.entries)
	if err != nil {
		return err
	}
	return statefile.Write(m.file(), data)
}

// Nodes are the NUMA nodes that a container's memory is to come from; none means
// any.
func (m *Manager) Nodes(uid types.UID, container string) []int {
	var out topology.Mask
	for _, b := range m.Blocks(uid, container) {
		out |= topology.NewMask(b.NUMAAffinity...)
	}
	return out.Nodes()
}

// Blocks is what a container has.
func (m *Manager) Blocks(uid types.UID, container string) []state.Block {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.entries[string(uid)][container]
}

// Allocatable is what containers can have, by node.
func (m *Manager) Allocatable() []state.Block {
	var out []state.Block
	for _, id := range slices.Sorted(maps.Keys(m.empty)) {
		for _, kind := range slices.Sorted(maps.Keys(m.empty[id].MemoryMap)) {
			out = append(out, state.Block{NUMAAffinity: []int{id}, Type: kind, Size: m.empty[id].MemoryMap[kind].Allocatable})
		}
	}
	return out
}

// wanted is what a container gets from known nodes.
func wanted(pod *v1.Pod, c *v1.Container) request {
	if resources.QOS(pod) != v1.PodQOSGuaranteed {
		return nil
	}
	out := request{}
	for kind, q := range c.Resources.Requests {
		if isMemory(kind) && q.Value() > 0 {
			out[kind] = uint64(q.Value())
		}
	}
	return out
}

// lenders are the init containers whose memory the container can use.
func lenders(pod *v1.Pod, container string) []string {
	var out []string
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		if c.Name == container {
			break
		}
		if c.RestartPolicy == nil || *c.RestartPolicy != v1.ContainerRestartPolicyAlways {
			out = append(out, c.Name)
		}
	}
	return out
}

// Allocate implements topology.Provider.
func (m *Manager) Allocate(_ context.Context, pod *v1.Pod, c *v1.Container, hint topology.Hint) error {
	r := wanted(pod, c)
	if m.cfg.Policy != Static || len(r) == 0 {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, has := m.entries[string(pod.UID)][c.Name]; has {
		return nil
	}
	entries, err := assign(m.empty, m.entries, string(pod.UID), c.Name, lenders(pod, c.Name), r, hint)
	if err != nil {
		return err
	}
	m.entries = entries
	return m.save()
}

// Release implements topology.Provider.
func (m *Manager) Release(uid types.UID) error {
	return m.Retain(func(other types.UID) bool { return other != uid })
}

// Retain takes the memory of all other pods back.
func (m *Manager) Retain(keep func(types.UID) bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	before := len(m.entries)
	entries := maps.Clone(m.entries)
	maps.DeleteFunc(entries, func(uid string, _ map[string][]state.Block) bool { return !keep(types.UID(uid)) })
	if m.entries = entries; len(entries) == before {
		return nil
	}
	return m.save()
}

// Hints implements topology.Provider.
func (m *Manager) Hints(pod *v1.Pod, c *v1.Container) map[string][]topology.Hint {
	return m.hints(pod, wanted(pod, c), lenders(pod, c.Name), []string{c.Name})
}

// PodHints implements topology.Provider.
func (m *Manager) PodHints(pod *v1.Pod) map[string][]topology.Hint {
	sum, first := request{}, request{}
	var names []string
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		names = append(names, c.Name)
		sidecar := c.RestartPolicy != nil && *c.RestartPolicy == v1.ContainerRestartPolicyAlways
		for kind, size := range wanted(pod, c) {
			if sidecar {
				sum[kind] += size
			} else {
				first[kind] = max(first[kind], sum[kind]+size)
			}
		}
	}
	for i := range pod.Spec.Containers {
		names = append(names, pod.Spec.Containers[i].Name)
		for kind, size := range wanted(pod, &pod.Spec.Containers[i]) {
			sum[kind] += size
		}
	}
	for kind, size := range first {
		sum[kind] = max(sum[kind], size)
	}
	return m.hints(pod, sum, nil, names)
}

// hints for a request, as if lenders had nothing. What the containers have
// already is the one hint.
func (m *Manager) hints(pod *v1.Pod, r request, lenders, names []string) map[string][]topology.Hint {
	if m.cfg.Policy != Static || len(r) == 0 {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	out := map[string][]topology.Hint{}
	var have topology.Mask
	for _, name := range names {
		for _, b := range m.entries[string(pod.UID)][name] {
			have |= topology.NewMask(b.NUMAAffinity...)
		}
	}
	possible := []topology.Hint{{Nodes: have, Preferred: true}}
	if have == 0 {
		machine, err := account(m.empty, without(m.entries, string(pod.UID), lenders))
		if err != nil {
			machine = state.NUMANodeMap{}
		}
		possible = hints(machine, r)
	}
	for kind := range r {
		out[string(kind)] = possible
	}
	return out
}
