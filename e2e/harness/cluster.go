// Package harness starts real clusters of the binary under test for the e2e
// tests, in a network namespace of their own and under temporary roots, and looks
// for what they leave behind.
package harness

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"skiff/testdata/images/imageset"
)

// Cluster is a cluster of the binary under test.
type Cluster struct {
	// Bin is the binary, Root the folder that holds all of the cluster.
	Bin, Root string
	// Kubeconfig is the administrator's.
	Kubeconfig string
	// Nodes is how many nodes should run.
	Nodes int

	// runtime is nil where skiff's own runs the containers.
	runtime *containerd
}

// ErrSkip says why no cluster can be had here.
var ErrSkip = errors.New("no cluster to test")

// Prepare makes the root folder of a cluster of two nodes, with a registry of
// the test images behind the name docker.io that lives as long as ctx.
func Prepare(ctx context.Context) (*Cluster, error) {
	bin := os.Getenv(binaryEnv)
	if bin == "" {
		return nil, fmt.Errorf("%w: %s names no binary: make e2e runs these tests", ErrSkip, binaryEnv)
	}
	if os.Geteuid() != 0 {
		return nil, fmt.Errorf("%w: want root", ErrSkip)
	}
	c := &Cluster{Bin: bin, Nodes: 2}
	if n := os.Getenv("SKIFF_E2E_NODES"); n != "" {
		var err error
		if c.Nodes, err = strconv.Atoi(n); err != nil {
			return nil, fmt.Errorf("SKIFF_E2E_NODES %q: want a number", n)
		}
	}
	// Not a folder that a test removes by itself: that would go through mounts
	// that were left.
	var err error
	if c.Root, err = os.MkdirTemp("/var/tmp", "skiff-e2e-"); err != nil {
		return nil, err
	}
	// Users of pods with a user namespace pass through it.
	if err := os.Chmod(c.Root, 0o711); err != nil {
		return nil, err
	}
	c.Kubeconfig = filepath.Join(c.Root, "etc/kubernetes/admin.conf")
	url, err := imageset.Serve(ctx, HostAddress+":0")
	if err != nil {
		return nil, err
	}
	registries := filepath.Join(c.Root, "etc/skiff/registries.yaml")
	if err := os.MkdirAll(filepath.Dir(registries), 0o755); err != nil {
		return nil, err
	}
	if err := os.WriteFile(registries, []byte(imageset.RegistriesYAML(url)), 0o600); err != nil {
		return nil, err
	}
	conf := fmt.Appendf(nil, configuration, os.Getenv("SKIFF_E2E_PROXY_MODE"))
	switch name := os.Getenv(runtimeEnv); name {
	case "":
	case "containerd":
		if c.runtime, err = startContainerd(ctx, filepath.Join(c.Root, name), url); err != nil {
			return nil, err
		}
		c.Nodes = 1
		conf = fmt.Appendf(conf, registration, c.runtime.socket())
	default:
		return nil, fmt.Errorf("%s %q: want containerd, or nothing for skiff's own", runtimeEnv, name)
	}
	return c, os.WriteFile(c.configuration(), conf, 0o600)
}

// configuration is what every node runs with. A disk that other work has filled
// is no reason to refuse the tests' pods.
const configuration = `apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
evictionHard: {memory.available: 50Mi, nodefs.available: 1%%, nodefs.inodesFree: 1%%, imagefs.available: 1%%, imagefs.inodesFree: 1%%}
imageGCHighThresholdPercent: 100
---
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: %q
`

// registration makes the node use another container runtime.
const registration = `---
apiVersion: kubeadm.k8s.io/v1beta4
kind: InitConfiguration
nodeRegistration:
  criSocket: unix://%s
`

func (c *Cluster) configuration() string { return filepath.Join(c.Root, "etc/skiff/e2e.yaml") }

// Configure adds a document to what the nodes run with.
func (c *Cluster) Configure(document string) error {
	f, err := os.OpenFile(c.configuration(), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString("---\n" + document)
	return errors.Join(err, f.Close())
}

// Up starts the nodes and returns when they are Ready.
func (c *Cluster) Up() error {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.Bin, "up", "--root", c.Root, "--nodes", strconv.Itoa(c.Nodes), "--config", c.configuration())
	cmd.WaitDelay = time.Second
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("skiff up: %w\n%s\n%s", err, out, c.LogTail(80))
	}
	return nil
}

// Kill ends every skiff process of the cluster with SIGKILL.
func (c *Cluster) Kill() error {
	running := c.Processes()
	if len(running) != c.Nodes {
		return fmt.Errorf("%d processes, want one for each of %d nodes", len(running), c.Nodes)
	}
	for _, pid := range running {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			return err
		}
	}
	// The signal returns before its work is done: a process that ends has no
	// command line any more, but still counts as running.
	ended := func() bool {
		for _, pid := range running {
			if syscall.Kill(pid, 0) == nil {
				return false
			}
		}
		return true
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(10 * time.Second); !ended(); <-tick.C {
		if time.Now().After(end) {
			return errors.New("the killed processes are still there")
		}
	}
	return nil
}

// Processes are the nodes' processes by the short names under which run
// folders, cgroups and interfaces of a node are told from others'.
func (c *Cluster) Processes() map[string]int {
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
func (c *Cluster) owns(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return err == nil && bytes.Contains(b, []byte(c.Root))
}

// LogTail is the end of each node's log.
func (c *Cluster) LogTail(lines int) string {
	logs, err := filepath.Glob(filepath.Join(c.Root, "var/log/skiff.log"))
	if err != nil {
		return err.Error()
	}
	members, err := filepath.Glob(filepath.Join(c.Root, "*/*/var/log/skiff.log"))
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

// Remove resets the cluster and returns what went wrong and what it left.
func (c *Cluster) Remove() error {
	var problems []error
	ids := slices.Collect(maps.Keys(c.Processes()))
	if len(ids) != c.Nodes {
		problems = append(problems, fmt.Errorf("%d nodes run at the end, want %d", len(ids), c.Nodes))
	}
	if keep := os.Getenv("SKIFF_E2E_LOGS"); keep != "" {
		problems = append(problems, os.WriteFile(keep, []byte(c.LogTail(1<<30)), 0o644))
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if out, err := exec.CommandContext(ctx, c.Bin, "reset", "--root", c.Root).CombinedOutput(); err != nil {
		problems = append(problems, fmt.Errorf("skiff reset: %w\n%s", err, out))
	}
	if c.runtime != nil {
		problems = append(problems, c.runtime.stop())
	}
	// The kernel takes the interfaces of a network namespace away a moment after
	// its last user is gone.
	leaks := leaked(c.Root, ids)
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(5 * time.Second); len(leaks) > 0 && time.Now().Before(end); <-tick.C {
		leaks = leaked(c.Root, ids)
	}
	for _, l := range leaks {
		problems = append(problems, fmt.Errorf("left behind: %s", l))
	}
	if len(leaks) == 0 {
		problems = append(problems, os.RemoveAll(c.Root))
	}
	return errors.Join(problems...)
}
