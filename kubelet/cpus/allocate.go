package cpus

import (
	"context"
	"fmt"

	v1 "k8s.io/api/core/v1"
	"k8s.io/utils/cpuset"

	"skiff/kubelet/resources"
	"skiff/kubelet/topology"
)

var _ topology.Provider = (*Manager)(nil)

// AlignmentError refuses a request that would share a core with others.
type AlignmentError struct {
	// Requested CPUs do not make whole cores of PerCore, or whole cores have only
	// Free CPUs left, where Short says so.
	Requested, PerCore, Free int
	Short                    bool
}

// Error is the text of the pod's status.
func (e AlignmentError) Error() string {
	if e.Short {
		return fmt.Sprintf("SMT Alignment Error: not enough free physical CPUs: available physical CPUs = %d, requested CPUs = %d, CPUs per core = %d", e.Free, e.Requested, e.PerCore)
	}
	return fmt.Sprintf("SMT Alignment Error: requested %d cpus not multiple cpus per core = %d", e.Requested, e.PerCore)
}

// Reason is the reason of the pod's status.
func (AlignmentError) Reason() string { return "SMTAlignmentError" }

// wanted is how many CPUs a container gets to itself.
func wanted(pod *v1.Pod, c *v1.Container) int {
	q, ok := c.Resources.Requests[v1.ResourceCPU]
	if !ok {
		q = c.Resources.Limits[v1.ResourceCPU]
	}
	if resources.QOS(pod) != v1.PodQOSGuaranteed || q.Value()*1000 != q.MilliValue() {
		return 0
	}
	return int(q.Value())
}

// Allocate implements topology.Provider.
func (m *Manager) Allocate(_ context.Context, pod *v1.Pod, c *v1.Container, hint topology.Hint) error {
	n := wanted(pod, c)
	if m.cfg.Policy != Static || n == 0 {
		return nil
	}
	if err := m.allocate(pod, c, n, hint); err != nil {
		return err
	}
	m.cfg.Changed()
	return nil
}

func (m *Manager) allocate(pod *v1.Pod, c *v1.Container, n int, hint topology.Hint) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, has := m.state.Assigned[pod.UID][c.Name]; has {
		return nil
	}
	machine, reusable := m.cfg.Machine, m.reusable(pod)
	free := m.free().Union(reusable)
	if perCore := machine.ThreadsPerCore(); m.cfg.Options.FullCores {
		if n%perCore != 0 {
			return AlignmentError{Requested: n, PerCore: perCore}
		}
		if whole := wholeCores(machine, free); n > whole.Size() {
			return AlignmentError{Requested: n, PerCore: perCore, Free: whole.Size(), Short: true}
		}
	}
	near := cpuset.New()
	if hint.Nodes != 0 {
		near = machine.Where(m.within(hint.Nodes)).Intersection(free)
	}
	chosen, err := m.choose(near, min(near.Size(), n))
	if err != nil {
		return err
	}
	rest, err := m.choose(free.Difference(chosen), n-chosen.Size())
	if err != nil {
		return err
	}
	chosen = chosen.Union(rest)
	if m.state.Assigned[pod.UID] == nil {
		m.state.Assigned[pod.UID] = map[string]cpuset.CPUSet{}
	}
	m.state.Assigned[pod.UID][c.Name] = chosen
	m.state.Shared = m.state.Shared.Difference(chosen)
	return m.save()
}

// within tells whether a CPU is at one of the nodes, or, where sockets count, at
// the socket of one.
func (m *Manager) within(nodes topology.Mask) func(topology.CPU) bool {
	sockets := map[int]bool{}
	for _, c := range m.cfg.Machine.CPUs {
		if nodes.Has(c.Node) {
			sockets[c.Socket] = true
		}
	}
	return func(c topology.CPU) bool {
		return nodes.Has(c.Node) || m.cfg.Options.BySocket && sockets[c.Socket]
	}
}

func (m *Manager) choose(free cpuset.CPUSet, n int) (cpuset.CPUSet, error) {
	o := m.cfg.Options
	p := preference{spread: o.AcrossCores, caches: o.ByCache}
	if n == 0 {
		return cpuset.New(), nil
	}
	if o.AcrossNodes {
		group := 1
		if o.FullCores {
			group = m.cfg.Machine.ThreadsPerCore()
		}
		return distribute(m.cfg.Machine, free, n, group, p)
	}
	return take(m.cfg.Machine, free, n, p)
}

// wholeCores are the CPUs of cores that are free as a whole.
func wholeCores(m topology.Machine, free cpuset.CPUSet) cpuset.CPUSet {
	broken := map[int]bool{}
	for _, c := range m.CPUs {
		if !free.Contains(c.ID) {
			broken[c.Core] = true
		}
	}
	return m.Where(func(c topology.CPU) bool { return !broken[c.Core] })
}

const resourceName = string(v1.ResourceCPU)

// Hints implements topology.Provider.
func (m *Manager) Hints(pod *v1.Pod, c *v1.Container) map[string][]topology.Hint {
	n := wanted(pod, c)
	if m.cfg.Policy != Static || n == 0 {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	have := m.state.Assigned[pod.UID][c.Name]
	return map[string][]topology.Hint{resourceName: m.hints(pod, n, have)}
}

// PodHints implements topology.Provider.
func (m *Manager) PodHints(pod *v1.Pod) map[string][]topology.Hint {
	if m.cfg.Policy != Static {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	have := cpuset.New()
	sidecars, first, n := 0, 0, 0
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		have = have.Union(m.state.Assigned[pod.UID][c.Name])
		if c.RestartPolicy != nil && *c.RestartPolicy == v1.ContainerRestartPolicyAlways {
			sidecars += wanted(pod, c)
		} else {
			first = max(first, sidecars+wanted(pod, c))
		}
	}
	for i := range pod.Spec.Containers {
		n += wanted(pod, &pod.Spec.Containers[i])
		have = have.Union(m.state.Assigned[pod.UID][pod.Spec.Containers[i].Name])
	}
	if n = max(n+sidecars, first); n == 0 {
		return nil
	}
	return map[string][]topology.Hint{resourceName: m.hints(pod, n, have)}
}

// hints for CPUs that are still to be given out, or for those that were; the
// caller holds the lock.
func (m *Manager) hints(pod *v1.Pod, n int, have cpuset.CPUSet) []topology.Hint {
	free, reusable := have, cpuset.New()
	if have.IsEmpty() {
		free, reusable = m.free(), m.reusable(pod)
	} else if have.Size() != n {
		return []topology.Hint{}
	}
	out := topology.HintsFor(m.cfg.Machine.NodeIDs(), func(mask topology.Mask) (ever, now bool) {
		inside := m.cfg.Machine.Where(func(c topology.CPU) bool { return mask.Has(c.Node) })
		ever = inside.Size() >= n
		return ever, reusable.IsSubsetOf(inside) && free.Union(reusable).Intersection(inside).Size() >= n
	})
	if m.cfg.Options.BySocket {
		for i := range out {
			// Nodes of one socket are as good as one node.
			out[i].Preferred = out[i].Preferred || m.oneSocket(out[i].Nodes)
		}
	}
	return out
}

func (m *Manager) oneSocket(nodes topology.Mask) bool {
	sockets := map[int]bool{}
	for _, c := range m.cfg.Machine.CPUs {
		if nodes.Has(c.Node) {
			sockets[c.Socket] = true
		}
	}
	return len(sockets) == 1
}
