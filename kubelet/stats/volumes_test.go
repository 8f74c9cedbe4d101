package stats

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	internalapi "k8s.io/cri-api/pkg/apis"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	statsapi "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
	"k8s.io/utils/ptr"
)

// All that a pod can make grow counts as its own, also what the kubelet made for it:
// /etc/hosts and the files of termination messages (CVE-2020-8557).
func TestDiskUse(t *testing.T) {
	pods, logs := t.TempDir(), t.TempDir()
	const size = 1 << 20
	wants := map[string]string{
		"volume scratch":  filepath.Join(pods, "volumes/kubernetes.io~empty-dir/scratch/data"),
		"volume settings": filepath.Join(pods, "volumes/kubernetes.io~configmap/settings/a"),
		"node etc-hosts":  filepath.Join(pods, "etc-hosts"),
		"node containers": filepath.Join(pods, "containers/c/1234"),
		"log c":           filepath.Join(logs, "c/0.log"),
	}
	for _, file := range wants {
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p := &Provider{
		cfg:  Config{PodDir: func(types.UID) string { return pods }, LogDir: func(*v1.Pod) string { return logs }},
		disk: map[types.UID]diskUsage{}, rates: map[string]sample{},
	}
	use := p.diskUse(&v1.Pod{Spec: v1.PodSpec{Volumes: []v1.Volume{
		{Name: "scratch", VolumeSource: v1.VolumeSource{EmptyDir: &v1.EmptyDirVolumeSource{}}},
		{Name: "settings", VolumeSource: v1.VolumeSource{ConfigMap: &v1.ConfigMapVolumeSource{}}},
		{Name: "memory", VolumeSource: v1.VolumeSource{EmptyDir: &v1.EmptyDirVolumeSource{Medium: v1.StorageMediumMemory}}},
	}}})
	for name := range wants {
		if got := use.of[name]; got.Bytes < size || got.Bytes > 2*size {
			t.Errorf("%s uses %d bytes, want %d and its folders", name, got.Bytes, size)
		}
	}
	if got, counted := use.of["volume memory"]; counted {
		t.Errorf("what is in memory uses the disk: %+v", got)
	}
}

// What a container writes counts for its pod, in bytes and in inodes: by these the pod is
// found that fills the disk.
func TestContainerRootsCount(t *testing.T) {
	dir := t.TempDir()
	p := &Provider{cfg: Config{PodDir: func(types.UID) string { return dir }, LogDir: func(*v1.Pod) string { return dir }}, disk: map[types.UID]diskUsage{}}
	pod := &v1.Pod{}
	before, after := statsapi.PodStats{}, statsapi.PodStats{Containers: []statsapi.ContainerStats{{
		Name: "c", Rootfs: &statsapi.FsStats{UsedBytes: ptr.To[uint64](4096), InodesUsed: ptr.To[uint64](50000)},
	}}}
	p.volumes(t.Context(), pod, &before, metav1.Now())
	p.volumes(t.Context(), pod, &after, metav1.Now())
	if got := *after.EphemeralStorage.InodesUsed - *before.EphemeralStorage.InodesUsed; got != 50000 {
		t.Errorf("the container's files add %d inodes, want 50000", got)
	}
	if got := *after.EphemeralStorage.UsedBytes - *before.EphemeralStorage.UsedBytes; got != 4096 {
		t.Errorf("the container's files add %d bytes, want 4096", got)
	}
}

// layers answers with the writable layers of containers by their ids.
type layers struct {
	internalapi.RuntimeService
	inodes map[string]uint64
}

func (l layers) ContainerStats(_ context.Context, id string) (*runtimeapi.ContainerStats, error) {
	n, ok := l.inodes[id]
	if !ok {
		return nil, errors.New("no such container")
	}
	return &runtimeapi.ContainerStats{WritableLayer: &runtimeapi.FilesystemUsage{UsedBytes: &runtimeapi.UInt64Value{Value: 10 * n}, InodesUsed: &runtimeapi.UInt64Value{Value: n}}}, nil
}

// So does what one wrote that ended and is to start again; one that runs is counted
// as a running one.
func TestEndedContainersCount(t *testing.T) {
	dir := t.TempDir()
	p := &Provider{cfg: Config{
		Runtime: layers{inodes: map[string]uint64{"ended": 7, "waiting": 100, "runs": 1000}},
		PodDir:  func(types.UID) string { return dir }, LogDir: func(*v1.Pod) string { return dir },
	}, disk: map[types.UID]diskUsage{}}
	pod := &v1.Pod{Status: v1.PodStatus{
		InitContainerStatuses: []v1.ContainerStatus{{Name: "i", ContainerID: "skiff://ended", State: v1.ContainerState{Terminated: &v1.ContainerStateTerminated{}}}},
		ContainerStatuses: []v1.ContainerStatus{
			{Name: "w", ContainerID: "skiff://waiting", State: v1.ContainerState{Waiting: &v1.ContainerStateWaiting{}}},
			{Name: "r", ContainerID: "skiff://runs", State: v1.ContainerState{Running: &v1.ContainerStateRunning{}}},
			{Name: "g", ContainerID: "skiff://gone"},
			{Name: "n", State: v1.ContainerState{Waiting: &v1.ContainerStateWaiting{}}},
		},
	}}
	running := []statsapi.ContainerStats{{Name: "r"}}
	before, after := statsapi.PodStats{Containers: running}, statsapi.PodStats{Containers: running}
	p.volumes(t.Context(), &v1.Pod{}, &before, metav1.Now())
	p.volumes(t.Context(), pod, &after, metav1.Now())
	if got := *after.EphemeralStorage.InodesUsed - *before.EphemeralStorage.InodesUsed; got != 107 {
		t.Errorf("ended containers add %d inodes, want 107", got)
	}
	if got := *after.EphemeralStorage.UsedBytes - *before.EphemeralStorage.UsedBytes; got != 1070 {
		t.Errorf("ended containers add %d bytes, want 1070", got)
	}
}
