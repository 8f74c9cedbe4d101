// Package volumes makes a pod's volumes ready and takes them down. What is
// mounted is read from disk, so that nothing is forgotten by a restart.
package volumes

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/mount-utils"

	"skiff/kubelet/volumes/subpath"
	"skiff/kubelet/volumes/volume"
)

// Config configures a Manager.
type Config struct {
	Client kubernetes.Interface
	// PodsDir holds a folder per pod.
	PodsDir string
	Mounter mount.Interface
	// Plugins are the kinds of volumes, asked in order.
	Plugins []volume.Plugin
}

// Manager mounts and unmounts.
type Manager struct {
	cfg Config

	mu     sync.Mutex // guards what follows
	ready  map[types.UID]map[string]ready
	groups map[types.UID][]int64
	usage  map[types.UID][]Usage
	// fresh tells Run of volumes that were not measured yet.
	fresh chan struct{}
}

// ready is a volume that was set up.
type ready struct {
	volume.Mounted
	plugin  volume.Plugin
	request *volume.Request
}

// New checks the configuration.
func New(cfg Config) (*Manager, error) {
	if cfg.Client == nil || cfg.PodsDir == "" || cfg.Mounter == nil {
		return nil, errors.New("volumes: Client, PodsDir and Mounter are required")
	}
	return &Manager{cfg: cfg, ready: map[types.UID]map[string]ready{}, groups: map[types.UID][]int64{}, usage: map[types.UID][]Usage{}, fresh: make(chan struct{}, 1)}, nil
}

// Error is a volume that could not be made ready.
type Error struct {
	Volume string
	// Message is the event's text.
	Message string
	// Stale says that the volume is there as it was, and only was not brought
	// up to date.
	Stale bool
	// Cause is what the volume's plugin said, if it was asked.
	Cause error
}

func (e *Error) Error() string { return e.Message }

func (e *Error) Unwrap() error { return e.Cause }

// PodDir is the pod's folder.
func (m *Manager) PodDir(uid types.UID) string { return filepath.Join(m.cfg.PodsDir, string(uid)) }

// SetUp makes all of the pod's volumes ready, or says which are not. One that
// was ready before stays, also when what it shows is gone.
func (m *Manager) SetUp(ctx context.Context, pod *v1.Pod) []*Error {
	used := usedVolumes(pod)
	m.mu.Lock()
	before := m.ready[pod.UID]
	m.mu.Unlock()
	now := map[string]ready{}
	var errs []*Error
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		if !used[v.Name] {
			continue
		}
		r := &volume.Request{Pod: pod, Volume: v}
		if err := m.claimed(ctx, r); err != nil {
			// What is mounted stays so while its claim cannot be read, or is
			// being deleted and waits for the pod.
			if old, ok := before[v.Name]; ok {
				now[v.Name] = old
			} else {
				errs = append(errs, err)
			}
			continue
		}
		made, err := m.setUp(ctx, r)
		if err != nil {
			errs = append(errs, err)
			if old, ok := before[v.Name]; ok {
				err.Stale = true
				now[v.Name] = old
			}
			continue
		}
		now[v.Name] = *made
	}
	m.mu.Lock()
	m.ready[pod.UID] = now
	m.mu.Unlock()
	m.noteFresh(pod.UID, now)
	return errs
}

// usedVolumes are those that a container mounts.
func usedVolumes(pod *v1.Pod) map[string]bool {
	out := map[string]bool{}
	add := func(mounts []v1.VolumeMount, devices []v1.VolumeDevice) {
		for _, m := range mounts {
			out[m.Name] = true
		}
		for _, d := range devices {
			out[d.Name] = true
		}
	}
	for _, list := range [][]v1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			add(list[i].VolumeMounts, list[i].VolumeDevices)
			for _, e := range list[i].Env {
				if e.ValueFrom != nil && e.ValueFrom.FileKeyRef != nil {
					out[e.ValueFrom.FileKeyRef.VolumeName] = true
				}
			}
		}
	}
	for i := range pod.Spec.EphemeralContainers {
		add(pod.Spec.EphemeralContainers[i].VolumeMounts, pod.Spec.EphemeralContainers[i].VolumeDevices)
	}
	return out
}

func (m *Manager) setUp(ctx context.Context, r *volume.Request) (*ready, *Error) {
	name := r.Volume.Name
	if r.PV != nil {
		name = r.PV.Name
	}
	plugin := m.find(r)
	if plugin == nil {
		return nil, &Error{Volume: r.Volume.Name, Message: fmt.Sprintf("MountVolume.SetUp failed for volume %q : %s", name, unsupported(r))}
	}
	r.Dir = m.dir(r, plugin, name)
	mounted, err := plugin.SetUp(ctx, r)
	if err != nil {
		step := "MountVolume.SetUp"
		if at := (*volume.StepError)(nil); errors.As(err, &at) {
			step = at.Step
		}
		return nil, &Error{Volume: r.Volume.Name, Message: fmt.Sprintf("%s failed for volume %q : %v", step, name, err), Cause: err}
	}
	return &ready{*mounted, plugin, r}, nil
}

// The folders of a pod that hold its volumes.
const (
	filesDir   = "volumes"
	devicesDir = "volumeDevices"
)

func (m *Manager) dir(r *volume.Request, plugin volume.Plugin, name string) string {
	kind := filesDir
	if r.Block() {
		kind = devicesDir
	}
	return filepath.Join(m.PodDir(r.Pod.UID), kind, volume.Escape(plugin.Name()), name)
}

// RefreshIn is when the first of the pod's volumes wants to be set up again;
// 0 means none does.
func (m *Manager) RefreshIn(uid types.UID) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out time.Duration
	for _, v := range m.ready[uid] {
		if v.Refresh > 0 && (out == 0 || v.Refresh < out) {
			out = v.Refresh
		}
	}
	return out
}

// unsupported says why there is no plugin for a volume.
func unsupported(r *volume.Request) string {
	if r.Volume.GitRepo != nil {
		// Cloning runs what the repository says on the node.
		return "git-repo volume plugin has been disabled: clone with an init container into an emptyDir"
	}
	return "no volume plugin matched"
}

func (m *Manager) find(r *volume.Request) volume.Plugin {
	for _, p := range m.cfg.Plugins {
		if p.Supports(r) {
			return p
		}
	}
	return nil
}

// Mounted returns what is ready of a pod.
func (m *Manager) Mounted(uid types.UID) map[string]volume.Mounted {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := map[string]volume.Mounted{}
	for name, v := range m.ready[uid] {
		out[name] = v.Mounted
	}
	return out
}

// Groups are those that the pod's persistent volumes add to its processes.
func (m *Manager) Groups(uid types.UID) []int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.groups[uid])
}

// SubPath prepares a part of a volume for a container.
func (m *Manager) SubPath(uid types.UID, v volume.Mounted, name, container, path string, index int) (string, error) {
	return subpath.Prepare(m.cfg.Mounter, subpath.Request{
		VolumePath: v.Path, SubPath: path, PodDir: m.PodDir(uid), VolumeName: name, Container: container, Index: index,
	})
}

// Pods lists the pods that have a folder.
func (m *Manager) Pods() ([]types.UID, error) {
	entries, err := os.ReadDir(m.cfg.PodsDir)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		return nil, err
	}
	var out []types.UID
	for _, e := range entries {
		if e.IsDir() {
			out = append(out, types.UID(e.Name()))
		}
	}
	return out, nil
}
