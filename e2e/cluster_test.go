package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"skiff/testdata/images/imageset"
)

// cluster is a running cluster of the binary under test.
type cluster struct {
	bin, root, kubeconfig string
	nodes                 int
}

// start starts a cluster, and takes it away when the test ends.
func start(t *testing.T) *cluster {
	t.Helper()
	c := prepare(t)
	t.Cleanup(func() { c.remove(t) })
	c.up(t)
	return c
}

// prepare makes the root folder of a cluster, with a registry of the test images
// behind the name docker.io.
func prepare(t *testing.T) *cluster {
	t.Helper()
	bin := os.Getenv("SKIFF_E2E")
	if bin == "" {
		t.Skip("SKIFF_E2E names no binary: make e2e runs these tests")
	}
	if os.Geteuid() != 0 {
		t.Skip("want root")
	}
	if _, err := exec.LookPath("kubectl"); err != nil {
		t.Skip("want kubectl in PATH")
	}
	c := &cluster{bin: bin, nodes: 2}
	if n := os.Getenv("SKIFF_E2E_NODES"); n != "" {
		var err error
		if c.nodes, err = strconv.Atoi(n); err != nil {
			t.Fatalf("SKIFF_E2E_NODES %q: want a number", n)
		}
	}
	// Not t.TempDir: its removal would go through mounts that were left.
	var err error
	if c.root, err = os.MkdirTemp("/var/tmp", "skiff-e2e-"); err != nil {
		t.Fatal(err)
	}
	c.kubeconfig = filepath.Join(c.root, "etc/kubernetes/admin.conf")
	url, err := imageset.Serve(t.Context(), hostAddress+":0")
	if err != nil {
		t.Fatal(err)
	}
	registries := filepath.Join(c.root, "etc/skiff/registries.yaml")
	if err := os.MkdirAll(filepath.Dir(registries), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(registries, []byte(imageset.RegistriesYAML(url)), 0o600); err != nil {
		t.Fatal(err)
	}
	return c
}

// up starts the nodes and waits until they are Ready.
func (c *cluster) up(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	began := time.Now()
	cmd := exec.CommandContext(ctx, c.bin, "up", "--root", c.root, "--nodes", strconv.Itoa(c.nodes))
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("skiff up: %v\n%s\n%s", err, out, c.logTail(80))
	}
	t.Logf("skiff up took %v", time.Since(began).Round(time.Millisecond))
}

// kill ends every skiff process of the cluster with SIGKILL.
func (c *cluster) kill(t *testing.T) {
	t.Helper()
	running := c.processes()
	if len(running) != c.nodes {
		t.Fatalf("%d processes, want one for each of %d nodes", len(running), c.nodes)
	}
	for _, pid := range running {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	// The signal returns before its work is done.
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(10 * time.Second); len(c.processes()) > 0; <-tick.C {
		if time.Now().After(end) {
			t.Fatal("the killed processes are still there")
		}
	}
}

// processes are the nodes' processes by the short names under which run
// folders, cgroups and interfaces of a node are told from others'.
func (c *cluster) processes() map[string]int {
	out := make(map[string]int)
	files, err := filepath.Glob("/run/skiff-*/skiff.pid")
	if err != nil {
		return out
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue // its node was reset meanwhile
		}
		var record struct{ PID int }
		if err := json.Unmarshal(b, &record); err == nil && c.owns(record.PID) {
			out[strings.TrimPrefix(filepath.Base(filepath.Dir(f)), "skiff-")] = record.PID
		}
	}
	return out
}

// owns tells whether a process was started for this cluster.
func (c *cluster) owns(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return err == nil && bytes.Contains(b, []byte(c.root))
}

// logTail is the end of each node's log.
func (c *cluster) logTail(lines int) string {
	logs, err := filepath.Glob(filepath.Join(c.root, "var/log/skiff.log"))
	if err != nil {
		return err.Error()
	}
	members, err := filepath.Glob(filepath.Join(c.root, "*/*/var/log/skiff.log"))
	if err != nil {
		return err.Error()
	}
	var b strings.Builder
	for _, name := range append(logs, members...) {
		data, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		all := strings.Split(strings.TrimSpace(string(data)), "\n")
		fmt.Fprintf(&b, "--- %s\n", name)
		for _, line := range all[max(0, len(all)-lines):] {
			fmt.Fprintln(&b, line[:min(len(line), 600)])
		}
	}
	return b.String()
}

// remove resets the cluster and looks for what it left.
func (c *cluster) remove(t *testing.T) {
	ids := slices.Collect(maps.Keys(c.processes()))
	if len(ids) != c.nodes {
		t.Errorf("%d nodes run at the end, want %d", len(ids), c.nodes)
	}
	if keep := os.Getenv("SKIFF_E2E_LOGS"); keep != "" {
		if err := os.WriteFile(keep, []byte(c.logTail(1<<30)), 0o644); err != nil {
			t.Error(err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if out, err := exec.CommandContext(ctx, c.bin, "reset", "--root", c.root).CombinedOutput(); err != nil {
		t.Errorf("skiff reset: %v\n%s", err, out)
	}
	// The kernel takes the interfaces of a network namespace away a moment after
	// its last user is gone.
	leaks := leaked(c.root, ids)
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(5 * time.Second); len(leaks) > 0 && time.Now().Before(end); <-tick.C {
		leaks = leaked(c.root, ids)
	}
	for _, l := range leaks {
		t.Errorf("left behind: %s", l)
	}
	if len(leaks) == 0 {
		if err := os.RemoveAll(c.root); err != nil {
			t.Error(err)
		}
	}
}
