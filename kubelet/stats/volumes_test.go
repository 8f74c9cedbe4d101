package stats

import (
	"os"
	"path/filepath"
	"testing"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
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
	p.volumes(pod, &before, metav1.Now())
	p.volumes(pod, &after, metav1.Now())
	if got := *after.EphemeralStorage.InodesUsed - *before.EphemeralStorage.InodesUsed; got != 50000 {
		t.Errorf("the container's files add %d inodes, want 50000", got)
	}
	if got := *after.EphemeralStorage.UsedBytes - *before.EphemeralStorage.UsedBytes; got != 4096 {
		t.Errorf("the container's files add %d bytes, want 4096", got)
	}
}
