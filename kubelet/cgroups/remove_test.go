package cgroups

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"skiff/kubelet/cgroupdir"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A pod's cgroup goes also when somebody has moved processes into it, or into a
// container's below it, and has frozen them.
func TestRemovePodWithForeignProcesses(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	root := fmt.Sprintf("/skifftest-cgroups-%d", os.Getpid())
	m, err := New(Config{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, h := range m.allHierarchies() {
			if err := cgroupdir.Remove(filepath.Join(h, root)); err != nil {
				t.Error(err)
			}
		}
	})
	for _, tc := range []struct {
		name   string
		below  string
		frozen bool
	}{{"in the pod's", "", false}, {"in a container's", "container", false}, {"frozen", "container", true}} {
		t.Run(tc.name, func(t *testing.T) {
			pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{UID: "u"}}
			if err := m.EnsurePod(pod); err != nil {
				t.Fatal(err)
			}
			sleep := exec.Command("sleep", "100")
			if err := sleep.Start(); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- sleep.Wait() }()
			moved := 0
			for _, h := range m.allHierarchies() {
				dir := filepath.Join(h, m.PodPath(pod), tc.below)
				if _, err := os.Stat(filepath.Dir(dir)); errors.Is(err, fs.ErrNotExist) {
					continue
				}
				if err := os.MkdirAll(dir, 0o755); err != nil {
					t.Fatal(err)
				}
				// A v1 cpuset without processors takes nobody.
				if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(sleep.Process.Pid)), 0); err == nil {
					moved++
				}
				if tc.frozen {
					_ = os.WriteFile(filepath.Join(dir, "freezer.state"), []byte("FROZEN"), 0)
					_ = os.WriteFile(filepath.Join(dir, "cgroup.freeze"), []byte("1"), 0)
				}
			}
			if moved == 0 {
				t.Fatal("no cgroup took the process")
			}
			if err := m.RemovePod("u"); err != nil {
				t.Error(err)
			}
			if left := m.Pods(); len(left) > 0 {
				t.Errorf("cgroups are left of %v", left)
			}
			select {
			case <-ended:
			case <-time.After(10 * time.Second):
				t.Errorf("the process lives; ending it: %v", sleep.Process.Kill())
				<-ended
			}
		})
	}
}
