package devices

import (
	"maps"
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"
	apiresource "k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
	pluginapi "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

// Capacity is what the node has of the plugins' resources, and what of it is
// healthy. A resource whose plugin does not come back has none.
func (m *Manager) Capacity() (capacity, allocatable v1.ResourceList) {
	m.mu.Lock()
	defer m.mu.Unlock()
	capacity, allocatable = v1.ResourceList{}, v1.ResourceList{}
	for name, r := range m.resources {
		all := len(r.devices)
		if !r.gone.IsZero() && time.Since(r.gone) > Grace {
			all = 0
		}
		capacity[v1.ResourceName(name)] = *apiresource.NewQuantity(int64(all), apiresource.DecimalSI)
		allocatable[v1.ResourceName(name)] = *apiresource.NewQuantity(int64(len(r.healthy())), apiresource.DecimalSI)
	}
	return capacity, allocatable
}

// Status tells how a container's devices are.
func (m *Manager) Status(uid types.UID, container string) []v1.ResourceStatus {
	m.mu.Lock()
	defer m.mu.Unlock()
	held := m.book[uid][container]
	var out []v1.ResourceStatus
	for _, name := range slices.Sorted(maps.Keys(held)) {
		st := v1.ResourceStatus{Name: v1.ResourceName(name)}
		for _, id := range held[name].ids().list() {
			h := v1.ResourceHealth{ResourceID: v1.ResourceID(id), Health: v1.ResourceHealthStatusUnknown}
			if r := m.resources[name]; r != nil && r.devices[id] != nil {
				switch r.devices[id].Health {
				case pluginapi.Healthy:
					h.Health = v1.ResourceHealthStatusHealthy
				case pluginapi.Unhealthy:
					h.Health = v1.ResourceHealthStatusUnhealthy
				}
			}
			st.Resources = append(st.Resources, h)
		}
		out = append(out, st)
	}
	return out
}

// Placed are devices of one resource that are near the same NUMA nodes.
type Placed struct {
	Resource string
	IDs      []string
	Nodes    []int
}

// Devices are those that a container has.
func (m *Manager) Devices(uid types.UID, container string) []Placed {
	m.mu.Lock()
	defer m.mu.Unlock()
	held := m.book[uid][container]
	var out []Placed
	for _, name := range slices.Sorted(maps.Keys(held)) {
		var known map[string]*pluginapi.Device
		if r := m.resources[name]; r != nil {
			known = r.devices
		}
		for _, node := range slices.Sorted(maps.Keys(held[name].devices)) {
			ids := held[name].devices[node]
			if len(ids) == 0 {
				continue
			}
			p := Placed{Resource: name, IDs: ids}
			if at := nodesOf(known[ids[0]]); at != 0 {
				p.Nodes = at.Nodes()
			} else if node != nowhere {
				p.Nodes = []int{int(node)}
			}
			out = append(out, p)
		}
	}
	return out
}

// Healthy are the node's devices that can be given out, or have been.
func (m *Manager) Healthy() []Placed {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []Placed
	for _, name := range slices.Sorted(maps.Keys(m.resources)) {
		r := m.resources[name]
		at := map[string]*Placed{}
		for _, id := range r.healthy().list() {
			nodes := nodesOf(r.devices[id])
			key := nodes.String()
			if at[key] == nil {
				at[key] = &Placed{Resource: name, Nodes: nodes.Nodes()}
			}
			at[key].IDs = append(at[key].IDs, id)
		}
		for _, key := range slices.Sorted(maps.Keys(at)) {
			out = append(out, *at[key])
		}
	}
	return out
}
