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
}

// New checks the configuration.
func New(cfg Config) (*Manager, error) {
	if cfg.Client == nil || cfg.PodsDir == "" || cfg.Mounter == nil {
		return nil, errors.New("volumes: Client, PodsDir and Mounter are required")
	}
	return &Manager{cfg: cfg, mounted: map[types.UID]map[string]volume.Mounted{}, groups: map[types.UID][]int64{}}, nil
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
	var errs []*Error
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		if !used[v.Name] {
			continue
		}
		mounted, err := m.setUp(ctx, pod, v)
		if err != nil {
			errs = append(errs, err)
			if was, ok := before[v.Name]; ok {
				err.Stale = true
				out[v.Name] = was
			}
			continue
		}
		out[v.Name] = *mounted
	}
	m.mu.Lock()
	m.mounted[pod.UID] = out
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

func (m *Manager) setUp(ctx context.Context, pod *v1.Pod, v *v1.Volume) (*volume.Mounted, *Error) {
	r := &volume.Request{Pod: pod, Volume: v}
	name := v.Name
	if claim := claimName(pod, v); claim != "" {
		if err := m.bound(ctx, r, claim); err != nil {
			return nil, &Error{Volume: v.Name, Message: fmt.Sprintf("Unable to attach or mount volumes: unmounted volumes=[%s], unattached volumes=[], failed to process volumes=[%s]: error processing PVC %s/%s: %v", v.Name, v.Name, pod.Namespace, claim, err)}
		}
		name = r.PV.Name
	}
	plugin := m.find(r)
	if plugin == nil {
		return nil, &Error{Volume: v.Name, Message: fmt.Sprintf("MountVolume.SetUp failed for volume %q : no volume plugin matched", name)}
	}
	r.Dir = filepath.Join(m.PodDir(pod.UID), "volumes", volume.Escape(plugin.Name()), name)
	mounted, err := plugin.SetUp(ctx, r)
	if err != nil {
		return nil, &Error{Volume: v.Name, Message: fmt.Sprintf("MountVolume.SetUp failed for volume %q : %v", name, err)}
	}
	return mounted, nil
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
	kinds, err := os.ReadDir(filepath.Join(dir, "volumes"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var errs []error
	for _, kind := range kinds {
		list, err := os.ReadDir(filepath.Join(dir, "volumes", kind.Name()))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for _, v := range list {
			path := filepath.Join(dir, "volumes", kind.Name(), v.Name())
			if err := m.tearDown(ctx, volume.Unescape(kind.Name()), path); err != nil {
				errs = append(errs, fmt.Errorf("UnmountVolume.TearDown failed for volume %q: %w", v.Name(), err))
			}
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if err := volume.RemoveAllOneFS(m.cfg.Mounter, dir); err != nil {
		return fmt.Errorf("remove the folder of pod %s: %w", uid, err)
	}
	m.mu.Lock()
	delete(m.mounted, uid)
	delete(m.groups, uid)
	m.mu.Unlock()
	return nil
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
