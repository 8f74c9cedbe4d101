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
	"strconv"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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

	mu      sync.Mutex // guards what follows
	mounted map[types.UID]map[string]volume.Mounted
	groups  map[types.UID][]int64
	// measured are the volumes that can be asked how full they are.
	measured map[types.UID][]measured
}

// New checks the configuration.
func New(cfg Config) (*Manager, error) {
	if cfg.Client == nil || cfg.PodsDir == "" || cfg.Mounter == nil {
		return nil, errors.New("volumes: Client, PodsDir and Mounter are required")
	}
	return &Manager{cfg: cfg, mounted: map[types.UID]map[string]volume.Mounted{}, groups: map[types.UID][]int64{}, measured: map[types.UID][]measured{}}, nil
}

// Error is a volume that could not be made ready.
type Error struct {
	Volume string
	// Message is the event's text.
	Message string
	// Stale says that the volume is there as it was, and only was not brought
	// up to date.
	Stale bool
}

func (e *Error) Error() string { return e.Message }

// PodDir is the pod's folder.
func (m *Manager) PodDir(uid types.UID) string { return filepath.Join(m.cfg.PodsDir, string(uid)) }

// SetUp makes all of the pod's volumes ready, or says which are not. One that
// was ready before stays, also when what it shows is gone.
func (m *Manager) SetUp(ctx context.Context, pod *v1.Pod) (map[string]volume.Mounted, []*Error) {
	used, before := usedVolumes(pod), m.Mounted(pod.UID)
	out := map[string]volume.Mounted{}
	var asked []measured
	var errs []*Error
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		if !used[v.Name] {
			continue
		}
		r := &volume.Request{Pod: pod, Volume: v}
		mounted, plugin, err := m.setUp(ctx, r)
		if err != nil {
			errs = append(errs, err)
			if was, ok := before[v.Name]; ok {
				err.Stale = true
				out[v.Name] = was
			}
			continue
		}
		out[v.Name] = *mounted
		if p, ok := plugin.(volume.Measurer); ok {
			asked = append(asked, measured{p, r})
		}
	}
	m.mu.Lock()
	m.mounted[pod.UID], m.measured[pod.UID] = out, asked
	m.mu.Unlock()
	return out, errs
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

func (m *Manager) setUp(ctx context.Context, r *volume.Request) (*volume.Mounted, volume.Plugin, *Error) {
	name, pod := r.Volume.Name, r.Pod
	if claim := claimName(pod, r.Volume); claim != "" {
		if err := m.bound(ctx, r, claim); err != nil {
			return nil, nil, &Error{Volume: name, Message: fmt.Sprintf("Unable to attach or mount volumes: unmounted volumes=[%s], unattached volumes=[], failed to process volumes=[%s]: error processing PVC %s/%s: %v", name, name, pod.Namespace, claim, err)}
		}
		name = r.PV.Name
	}
	plugin := m.find(r)
	if plugin == nil {
		return nil, nil, &Error{Volume: r.Volume.Name, Message: fmt.Sprintf("MountVolume.SetUp failed for volume %q : no volume plugin matched", name)}
	}
	r.Dir = m.dir(r, plugin, name)
	mounted, err := plugin.SetUp(ctx, r)
	if err != nil {
		step := "MountVolume.SetUp"
		if at := (*volume.StepError)(nil); errors.As(err, &at) {
			step = at.Step
		}
		return nil, nil, &Error{Volume: r.Volume.Name, Message: fmt.Sprintf("%s failed for volume %q : %v", step, name, err)}
	}
	return mounted, plugin, nil
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
	for _, v := range m.mounted[uid] {
		if v.Refresh > 0 && (out == 0 || v.Refresh < out) {
			out = v.Refresh
		}
	}
	return out
}

func (m *Manager) find(r *volume.Request) volume.Plugin {
	for _, p := range m.cfg.Plugins {
		if p.Supports(r) {
			return p
		}
	}
	return nil
}

// claimName is the claim behind a volume, also of a generic ephemeral one.
func claimName(pod *v1.Pod, v *v1.Volume) string {
	switch {
	case v.PersistentVolumeClaim != nil:
		return v.PersistentVolumeClaim.ClaimName
	case v.Ephemeral != nil:
		return pod.Name + "-" + v.Name
	}
	return ""
}

// bound finds the persistent volume of a claim.
func (m *Manager) bound(ctx context.Context, r *volume.Request, claim string) error {
	pvc, err := m.cfg.Client.CoreV1().PersistentVolumeClaims(r.Pod.Namespace).Get(ctx, claim, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("failed to fetch PVC from API server: %w", err)
	}
	if r.Volume.Ephemeral != nil && !metav1.IsControlledBy(pvc, r.Pod) {
		return fmt.Errorf("PVC %s/%s was not created for pod %s/%s (pod is not owner)", pvc.Namespace, pvc.Name, r.Pod.Namespace, r.Pod.Name)
	}
	if pvc.DeletionTimestamp != nil {
		return errors.New("PVC is being deleted")
	}
	if pvc.Status.Phase != v1.ClaimBound || pvc.Spec.VolumeName == "" {
		return errors.New("PVC is not bound")
	}
	pv, err := m.cfg.Client.CoreV1().PersistentVolumes().Get(ctx, pvc.Spec.VolumeName, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("failed to fetch PV %q from API server: %w", pvc.Spec.VolumeName, err)
	}
	if pv.Spec.ClaimRef == nil || pv.Spec.ClaimRef.UID != pvc.UID {
		return fmt.Errorf("failed to fetch PV %q from API server. dangling PVC reference", pvc.Spec.VolumeName)
	}
	r.PV, r.PVC = pv, pvc
	if gid, err := strconv.ParseInt(pv.Annotations["pv.beta.kubernetes.io/gid"], 10, 64); err == nil {
		m.mu.Lock()
		if !slices.Contains(m.groups[r.Pod.UID], gid) {
			m.groups[r.Pod.UID] = append(m.groups[r.Pod.UID], gid)
		}
		m.mu.Unlock()
	}
	return nil
}

// Mounted returns what is ready of a pod.
func (m *Manager) Mounted(uid types.UID) map[string]volume.Mounted {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mounted[uid]
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

// TearDown takes all volumes of a pod down and removes its folder. It needs
// nothing but the disk.
func (m *Manager) TearDown(ctx context.Context, uid types.UID) error {
	dir := m.PodDir(uid)
	if err := subpath.CleanPod(m.cfg.Mounter, dir); err != nil {
		return fmt.Errorf("subPaths of pod %s: %w", uid, err)
	}
	errs := append(m.tearDownAll(ctx, filepath.Join(dir, filesDir)), m.tearDownAll(ctx, filepath.Join(dir, devicesDir))...)
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if err := volume.RemoveAllOneFS(m.cfg.Mounter, dir); err != nil {
		return fmt.Errorf("remove the folder of pod %s: %w", uid, err)
	}
	m.mu.Lock()
	delete(m.mounted, uid)
	delete(m.groups, uid)
	delete(m.measured, uid)
	m.mu.Unlock()
	for _, p := range m.cfg.Plugins {
		if f, ok := p.(volume.Forgetter); ok {
			f.Forget(uid)
		}
	}
	return nil
}

// tearDownAll takes down the volumes of all kinds in one of a pod's folders.
func (m *Manager) tearDownAll(ctx context.Context, dir string) []error {
	kinds, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	errs := []error{err}
	for _, kind := range kinds {
		list, err := os.ReadDir(filepath.Join(dir, kind.Name()))
		errs = append(errs, err)
		for _, v := range list {
			path := filepath.Join(dir, kind.Name(), v.Name())
			if err := m.tearDown(ctx, volume.Unescape(kind.Name()), path); err != nil {
				errs = append(errs, fmt.Errorf("UnmountVolume.TearDown failed for volume %q: %w", v.Name(), err))
			}
		}
	}
	return errs
}

// Sweep undoes what volumes have on the node beside pods' folders and no pod
// needs any more.
func (m *Manager) Sweep(ctx context.Context) error {
	var errs []error
	for _, p := range m.cfg.Plugins {
		if s, ok := p.(volume.Sweeper); ok {
			errs = append(errs, s.Sweep(ctx))
		}
	}
	return errors.Join(errs...)
}

func (m *Manager) tearDown(ctx context.Context, plugin, dir string) error {
	for _, p := range m.cfg.Plugins {
		if p.Name() == plugin {
			return p.TearDown(ctx, dir)
		}
	}
	return volume.UnmountAndRemove(m.cfg.Mounter, dir)
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
