package devices

import (
	"context"
	"fmt"
	"maps"
	"slices"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	pluginapi "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"

	"skiff/kubelet/devices/checkpoint"
	"skiff/kubelet/resources"
	"skiff/kubelet/topology"
)

var _ topology.Provider = (*Manager)(nil)

// Managed tells whether a device plugin offers, or offered, the resource.
func (m *Manager) Managed(name v1.ResourceName) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.resources[string(name)] != nil
}

// requests are a container's of resources that plugins offer and no claim gives,
// in order; the caller holds the lock.
func (m *Manager) requests(pod *v1.Pod, c *v1.Container) []v1.ResourceName {
	var out []v1.ResourceName
	for _, name := range slices.Sorted(maps.Keys(c.Resources.Limits)) {
		if q := c.Resources.Limits[name]; m.resources[string(name)] != nil && !q.IsZero() && !resources.Claimed(pod, c.Name, name) {
			out = append(out, name)
		}
	}
	return out
}

// reusable are the devices of the pod's init containers that no other container
// of it keeps; the caller holds the lock.
func (m *Manager) reusable(pod *v1.Pod, name string) set {
	out, kept := set{}, set{}
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		a, _ := m.book.get(pod.UID, c.Name, name)
		if c.RestartPolicy != nil && *c.RestartPolicy == v1.ContainerRestartPolicyAlways {
			kept.add(a.ids())
		} else {
			out.add(a.ids())
		}
	}
	for i := range pod.Spec.Containers {
		a, _ := m.book.get(pod.UID, pod.Spec.Containers[i].Name, name)
		kept.add(a.ids())
	}
	return out.without(kept)
}

// Allocate implements topology.Provider.
func (m *Manager) Allocate(ctx context.Context, pod *v1.Pod, c *v1.Container, hint topology.Hint) error {
	m.mu.Lock()
	names := m.requests(pod, c)
	m.mu.Unlock()
	for _, name := range names {
		if err := m.allocate(ctx, pod, c, string(name), hint); err != nil {
			return err
		}
	}
	return nil
}

func (m *Manager) allocate(ctx context.Context, pod *v1.Pod, c *v1.Container, name string, hint topology.Hint) error {
	q := c.Resources.Limits[v1.ResourceName(name)]
	needed := int(q.Value())
	m.mu.Lock()
	r := m.resources[name]
	have, has := m.book.get(pod.UID, c.Name, name)
	healthy := r.healthy()
	e := r.endpoint
	d := demand{
		resource: name, needed: needed, free: healthy.without(m.book.used(name)), reusable: m.reusable(pod, name), devices: maps.Clone(r.devices), hint: hint,
		prefer: func(available, must set, size int) (set, error) { return e.prefer(ctx, available, must, size) },
	}
	m.mu.Unlock()
	switch ids := have.ids(); {
	case has && len(ids) != needed:
		return fmt.Errorf("pod %q container %q changed request for resource %q from %d to %d", pod.UID, c.Name, name, len(ids), needed)
	case e == nil:
		return fmt.Errorf("no healthy devices present; cannot allocate unhealthy devices %s", name)
	case len(healthy) == 0:
		return fmt.Errorf("no healthy devices present; cannot allocate unhealthy devices %s", name)
	case len(ids.without(healthy)) > 0:
		return fmt.Errorf("previously allocated devices are no longer healthy; cannot allocate unhealthy devices %s", name)
	case has:
		return nil
	}
	chosen, err := choose(d)
	if err != nil {
		return err
	}
	answer, err := e.allocate(ctx, chosen.list())
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.book.put(pod.UID, c.Name, name, assignment{devices: byNode(chosen, d.devices, hint), answer: answer})
	return m.save()
}

// byNode lists devices under the NUMA node that they were chosen for.
func byNode(ids set, devices map[string]*pluginapi.Device, hint topology.Hint) checkpoint.DevicesPerNUMA {
	out := checkpoint.DevicesPerNUMA{}
	for _, id := range ids.list() {
		at := nodesOf(devices[id])
		if near := at & hint.Nodes; near != 0 {
			at = near
		}
		node := int64(nowhere)
		if at != 0 {
			node = int64(at.Nodes()[0])
		}
		out[node] = append(out[node], id)
	}
	return out
}

// Release implements topology.Provider.
func (m *Manager) Release(uid types.UID) error {
	return m.Retain(func(other types.UID) bool { return other != uid })
}

// Retain takes the devices of all other pods back.
func (m *Manager) Retain(keep func(types.UID) bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	changed := false
	for uid := range m.book {
		if !keep(uid) {
			delete(m.book, uid)
			changed = true
		}
	}
	if !changed {
		return nil
	}
	return m.save()
}

// Hints implements topology.Provider.
func (m *Manager) Hints(pod *v1.Pod, c *v1.Container) map[string][]topology.Hint {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := map[string][]topology.Hint{}
	for _, name := range m.requests(pod, c) {
		q := c.Resources.Limits[name]
		have, _ := m.book.get(pod.UID, c.Name, string(name))
		out[string(name)] = m.hints(pod, string(name), int(q.Value()), have.ids())
	}
	return out
}

// PodHints implements topology.Provider.
func (m *Manager) PodHints(pod *v1.Pod) map[string][]topology.Hint {
	m.mu.Lock()
	defer m.mu.Unlock()
	needs, have := map[v1.ResourceName]int{}, map[v1.ResourceName]set{}
	note := func(c *v1.Container, count func(name v1.ResourceName, n int)) {
		for _, name := range m.requests(pod, c) {
			q := c.Resources.Limits[name]
			count(name, int(q.Value()))
			a, _ := m.book.get(pod.UID, c.Name, string(name))
			have[name] = have[name].union(a.ids())
		}
	}
	sidecars, first := map[v1.ResourceName]int{}, map[v1.ResourceName]int{}
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		if c.RestartPolicy != nil && *c.RestartPolicy == v1.ContainerRestartPolicyAlways {
			note(c, func(name v1.ResourceName, n int) { sidecars[name] += n })
			continue
		}
		note(c, func(name v1.ResourceName, n int) { first[name] = max(first[name], sidecars[name]+n) })
	}
	maps.Copy(needs, sidecars)
	for i := range pod.Spec.Containers {
		note(&pod.Spec.Containers[i], func(name v1.ResourceName, n int) { needs[name] += n })
	}
	for name, n := range first {
		needs[name] = max(needs[name], n)
	}
	out := map[string][]topology.Hint{}
	for name, n := range needs {
		out[string(name)] = m.hints(pod, string(name), n, have[name])
	}
	return out
}

// hints for what is still to be given out, or for what was; the caller holds the
// lock.
func (m *Manager) hints(pod *v1.Pod, name string, needed int, have set) []topology.Hint {
	r := m.resources[name]
	if len(have) > 0 {
		if len(have) != needed {
			return []topology.Hint{}
		}
		return hints(m.cfg.Nodes, r.devices, have, nil, needed)
	}
	free, reusable := r.healthy().without(m.book.used(name)), m.reusable(pod, name)
	return hints(m.cfg.Nodes, r.devices, free, reusable, needed)
}
