package cri_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// TestCDI describes a device in a file and looks for it in containers.
func TestCDI(t *testing.T) {
	dir := t.TempDir()
	n := newNode(t)
	n.stop()
	n.cfg.CDIDirs = []string{dir}
	n.start()
	n.pull()
	data := filepath.Join(dir, "data")
	if err := os.WriteFile(data, []byte("of the device\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	description := `{"cdiVersion": "0.6.0", "kind": "skiff.example/toy", "containerEdits": {"env": ["TOYS=all"]},
		"devices": [{"name": "one", "containerEdits": {"env": ["TOY=one"],
			"deviceNodes": [{"path": "/dev/toy", "hostPath": "/dev/zero"}],
			"mounts": [{"hostPath": "` + data + `", "containerPath": "/toy/data", "options": ["ro", "rbind"]}]}}]}`
	if err := os.WriteFile(filepath.Join(dir, "toy.json"), []byte(description), 0o644); err != nil {
		t.Fatal(err)
	}
	sb, scfg := n.pod("cdi")
	for i, tc := range []struct {
		name string
		edit func(*runtimeapi.ContainerConfig)
	}{
		{"by field", func(c *runtimeapi.ContainerConfig) {
			c.CDIDevices = []*runtimeapi.CDIDevice{{Name: "skiff.example/toy=one"}}
		}},
		{"by annotation", func(c *runtimeapi.ContainerConfig) {
			c.Annotations = map[string]string{"cdi.k8s.io/toys": "skiff.example/toy=one"}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			id := n.run(sb, scfg, "c"+strconv.Itoa(i), []string{"stubborn"}, tc.edit)
			defer n.RemoveContainer(t.Context(), id)
			for _, probe := range []struct {
				cmd  []string
				want string
			}{
				{[]string{"env", "TOY"}, "one\n"}, {[]string{"env", "TOYS"}, "all\n"},
				{[]string{"cat", "/toy/data"}, "of the device\n"}, {[]string{"stat", "/dev/toy"}, "Dcrw-rw-rw-\n"},
				{[]string{"write", "/dev/toy", "x"}, ""}, // the device cgroup lets it
			} {
				out, errOut, err := n.ExecSync(t.Context(), id, append([]string{"/probe"}, probe.cmd...), 10*time.Second)
				if err != nil || string(out) != probe.want {
					t.Errorf("%v: got %q, %q, %v, want %q", probe.cmd, out, errOut, err, probe.want)
				}
			}
		})
	}
	_, err := n.CreateContainer(t.Context(), sb, &runtimeapi.ContainerConfig{
		Metadata: &runtimeapi.ContainerMetadata{Name: "unknown"}, Image: &runtimeapi.ImageSpec{Image: "docker.io/library/probe:1"},
		CDIDevices: []*runtimeapi.CDIDevice{{Name: "skiff.example/toy=two"}},
	}, scfg)
	if err == nil || !strings.Contains(err.Error(), "unresolvable CDI devices skiff.example/toy=two") {
		t.Errorf("an unknown device: got %v", err)
	}
}
