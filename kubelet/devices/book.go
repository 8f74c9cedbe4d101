package devices

import (
	"cmp"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"k8s.io/apimachinery/pkg/types"
	pluginapi "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"

	"skiff/kubelet/devices/checkpoint"
	"skiff/kubelet/statefile"
)

// nowhere is the NUMA node of devices that are near none.
const nowhere = -1

// assignment is what a container has of a resource.
type assignment struct {
	devices checkpoint.DevicesPerNUMA
	// answer is what the plugin said that the container needs for them.
	answer *pluginapi.ContainerAllocateResponse
}

func (a assignment) ids() set {
	out := set{}
	for _, list := range a.devices {
		out.add(setOf(list))
	}
	return out
}

// book holds assignments by pod, container and resource.
type book map[types.UID]map[string]map[string]assignment

func (b book) get(uid types.UID, container, resource string) (assignment, bool) {
	a, ok := b[uid][container][resource]
	return a, ok
}

func (b book) put(uid types.UID, container, resource string, a assignment) {
	if b[uid] == nil {
		b[uid] = map[string]map[string]assignment{}
	}
	if b[uid][container] == nil {
		b[uid][container] = map[string]assignment{}
	}
	b[uid][container][resource] = a
}

// used are all devices of a resource that containers have.
func (b book) used(resource string) set {
	out := set{}
	for _, containers := range b {
		for _, resources := range containers {
			out.add(resources[resource].ids())
		}
	}
	return out
}

// holders are the pods that have one of the devices.
func (b book) holders(resource string, ids set) []types.UID {
	var out []types.UID
	for uid, containers := range b {
		for _, resources := range containers {
			if len(resources[resource].ids().with(ids)) > 0 {
				out = append(out, uid)
				break
			}
		}
	}
	return out
}

// entries is the book as the checkpoint has it.
func (b book) entries() ([]checkpoint.PodDevicesEntry, error) {
	var out []checkpoint.PodDevicesEntry
	for uid, containers := range b {
		for container, resources := range containers {
			for name, a := range resources {
				answer, err := proto.Marshal(a.answer)
				if err != nil {
					return nil, err
				}
				out = append(out, checkpoint.PodDevicesEntry{PodUID: string(uid), ContainerName: container, ResourceName: name, DeviceIDs: a.devices, AllocResp: answer})
			}
		}
	}
	slices.SortFunc(out, func(x, y checkpoint.PodDevicesEntry) int {
		return cmp.Or(cmp.Compare(x.PodUID, y.PodUID), cmp.Compare(x.ContainerName, y.ContainerName), cmp.Compare(x.ResourceName, y.ResourceName))
	})
	return out, nil
}

func bookOf(entries []checkpoint.PodDevicesEntry) (book, error) {
	out := book{}
	for _, e := range entries {
		a := assignment{devices: e.DeviceIDs, answer: &pluginapi.ContainerAllocateResponse{}}
		if err := proto.Unmarshal(e.AllocResp, a.answer); err != nil {
			return nil, fmt.Errorf("device checkpoint: pod %s, container %s, resource %s: %w", e.PodUID, e.ContainerName, e.ResourceName, err)
		}
		out.put(types.UID(e.PodUID), e.ContainerName, e.ResourceName, a)
	}
	return out, nil
}

func (m *Manager) file() string { return filepath.Join(m.cfg.Dir, checkpoint.File) }

// Restore reads what an earlier kubelet gave out. The plugins' resources are
// known from then on, without a healthy device until their plugins register.
func (m *Manager) Restore() error {
	data, err := statefile.Read(m.file())
	if err != nil || data == nil {
		return err
	}
	entries, registered, err := checkpoint.Decode(data)
	if err != nil {
		return fmt.Errorf("%s: %w; drain the node and remove the file", m.file(), err)
	}
	b, err := bookOf(entries)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.book = b
	for name := range registered {
		m.resources[name] = &resource{devices: map[string]*pluginapi.Device{}, gone: time.Now()}
	}
	for _, containers := range b {
		for _, resources := range containers {
			for name := range resources {
				if m.resources[name] == nil {
					m.resources[name] = &resource{devices: map[string]*pluginapi.Device{}, gone: time.Now()}
				}
			}
		}
	}
	return nil
}

// save writes the checkpoint; the caller holds the lock.
func (m *Manager) save() error {
	entries, err := m.book.entries()
	if err != nil {
		return err
	}
	registered := map[string][]string{}
	for name, r := range m.resources {
		registered[name] = slices.Sorted(maps.Keys(r.healthy()))
	}
	data, err := checkpoint.Encode(entries, registered)
	if err != nil {
		return err
	}
	if err := statefile.Write(m.file(), data); err != nil {
		return fmt.Errorf("failed to write checkpoint file %q: %w", checkpoint.File, err)
	}
	return nil
}
