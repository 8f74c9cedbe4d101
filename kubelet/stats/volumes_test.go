package stats

import (
	"os"
	"path/filepath"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
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
