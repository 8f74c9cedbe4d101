package cgroups

import (
	"os"
	"path/filepath"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A pod's limit of memory is never set below what the pod uses.
func TestMemoryLimitWaits(t *testing.T) {
	for _, tc := range []struct{ name, used, want string }{
		{"less is used", "1000", "1048576"},
		{"as much is used", "1048576", "1048576"},
		{"more is used", "1048577\n", "before"},
		{"nobody counts", "", "1048576"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			mount := t.TempDir()
			if err := os.Mkdir(filepath.Join(mount, "memory"), 0o755); err != nil {
				t.Fatal(err)
			}
			m, err := New(Config{Root: "/r", Mount: mount})
			if err != nil {
				t.Fatal(err)
			}
			pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{UID: "u"}, Spec: v1.PodSpec{Containers: []v1.Container{{
				Resources: v1.ResourceRequirements{Limits: v1.ResourceList{v1.ResourceMemory: resource.MustParse("1Mi")}},
			}}}}
			dir := filepath.Join(mount, "memory", m.PodPath(pod))
			if err := os.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			for file, text := range map[string]string{"memory.usage_in_bytes": tc.used, "memory.limit_in_bytes": "before"} {
				if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if err := m.EnsurePod(pod); err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(filepath.Join(dir, "memory.limit_in_bytes")); err != nil || string(got) != tc.want {
				t.Errorf("the limit is %q (%v), want %q", got, err, tc.want)
			}
		})
	}
}
