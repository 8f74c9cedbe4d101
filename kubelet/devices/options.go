package devices

import (
	"cmp"
	"context"
	"maps"
	"slices"

	v1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Options is what a container needs for its devices.
type Options struct {
	Envs        map[string]string
	Mounts      []*runtimeapi.Mount
	Devices     []*runtimeapi.Device
	Annotations map[string]string
	CDI         []string
}

// Options merges what the plugins said that the container needs, and lets those
// that want it prepare the devices. Where they disagree the first resource's
// word counts.
func (m *Manager) Options(ctx context.Context, pod *v1.Pod, c *v1.Container) (Options, error) {
	m.mu.Lock()
	held := maps.Clone(m.book[pod.UID][c.Name])
	endpoints := map[string]*endpoint{}
	for name := range held {
		if r := m.resources[name]; r != nil {
			endpoints[name] = r.endpoint
		}
	}
	m.mu.Unlock()
	var out merged
	for _, name := range slices.Sorted(maps.Keys(held)) {
		if e := endpoints[name]; e != nil {
			if err := e.preStart(ctx, held[name].ids().list()); err != nil {
				return Options{}, err
			}
		}
		out.add(held[name])
	}
	return out.options(), nil
}

// merged collects answers by what they are about.
type merged struct {
	envs, annotations map[string]string
	mounts            map[string]*runtimeapi.Mount
	devices           map[string]*runtimeapi.Device
	cdi               set
}

func (o *merged) add(a assignment) {
	first(&o.envs, a.answer.Envs)
	first(&o.annotations, a.answer.Annotations)
	mounts, devices := map[string]*runtimeapi.Mount{}, map[string]*runtimeapi.Device{}
	for _, m := range a.answer.Mounts {
		mounts[m.ContainerPath] = &runtimeapi.Mount{ContainerPath: m.ContainerPath, HostPath: m.HostPath, Readonly: m.ReadOnly}
	}
	for _, d := range a.answer.Devices {
		devices[d.ContainerPath] = &runtimeapi.Device{ContainerPath: d.ContainerPath, HostPath: d.HostPath, Permissions: d.Permissions}
	}
	first(&o.mounts, mounts)
	first(&o.devices, devices)
	if o.cdi == nil {
		o.cdi = set{}
	}
	for _, d := range a.answer.CdiDevices {
		o.cdi[d.Name] = true
	}
}

// first copies what is not there yet.
func first[V any](to *map[string]V, from map[string]V) {
	if *to == nil {
		*to = map[string]V{}
	}
	for k, v := range from {
		if _, ok := (*to)[k]; !ok {
			(*to)[k] = v
		}
	}
}

func (o *merged) options() Options {
	return Options{
		Envs: o.envs, Annotations: o.annotations, CDI: o.cdi.list(),
		Mounts: slices.SortedFunc(maps.Values(o.mounts), func(x, y *runtimeapi.Mount) int { return cmp.Compare(x.ContainerPath, y.ContainerPath) }),
		Devices: slices.SortedFunc(maps.Values(o.devices), func(x, y *runtimeapi.Device) int {
			return cmp.Compare(x.ContainerPath, y.ContainerPath)
		}),
	}
}
