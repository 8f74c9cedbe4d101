package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestRefusedSetUp starts what cannot work. Each gets one message with the
// remedy, and changes nothing.
func TestRefusedSetUp(t *testing.T) {
	c := prepare(t)
	t.Cleanup(func() {
		if err := os.RemoveAll(c.Root); err != nil {
			t.Error(err)
		}
	})
	hidden := fmt.Sprintf("umount -lR /sys/fs/cgroup && exec %s init --root %s", c.Bin, c.Root)
	small := fmt.Sprintf("mkdir -p %[2]s/var/lib && mount -t tmpfs -o size=16m none %[2]s/var/lib && exec %[1]s init --root %[2]s", c.Bin, c.Root)
	for _, tc := range []struct {
		name    string
		command []string
		listen  string
		nobody  bool
		want    string
	}{
		// Covers: up.port-taken
		{"port taken", []string{c.Bin, "up", "--root", c.Root}, ":6443", false, "port 6443 is in use"},
		// Covers: up.kernel
		{"no cgroups", []string{"unshare", "--mount", "/bin/sh", "-c", hidden}, "", false, "no cgroup file system is mounted"},
		// Covers: up.disk-full
		{"too little space", []string{"unshare", "--mount", "/bin/sh", "-c", small}, "", false, "free some space"},
		// Covers: up.not-root
		{"not root", []string{c.Bin, "init", "--root", filepath.Join(c.Root, "mine")}, "", true, "not running as root"},
		// Covers: up.kubeconfig-corrupt
		{"corrupt kubeconfig", []string{c.Bin, "scheduler", "--kubeconfig", filepath.Join(c.Root, "corrupt.conf")}, "", false, "corrupt.conf"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.listen != "" {
				l, err := net.Listen("tcp", tc.listen)
				if err != nil {
					t.Fatal(err)
				}
				defer l.Close()
			}
			if err := os.WriteFile(filepath.Join(c.Root, "corrupt.conf"), []byte("}{"), 0o600); err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), tc.command[0], tc.command[1:]...)
			if tc.nobody {
				cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
				if err := os.Chmod(c.Root, 0o777); err != nil {
					t.Fatal(err)
				}
			}
			out, err := cmd.CombinedOutput()
			if err == nil || !strings.Contains(string(out), tc.want) {
				t.Errorf("error %v, want one that says %q:\n%s", err, tc.want, out)
			}
			if n := strings.Count(string(out), "error: "); n != 1 {
				t.Errorf("%d errors, want one:\n%s", n, out)
			}
			if left, err := filepath.Glob(filepath.Join(c.Root, "etc/kubernetes/*")); err != nil || len(left) > 0 {
				t.Errorf("it left %v (%v)", left, err)
			}
		})
	}
	// Covers: init.preflight
	t.Run("dry run", func(t *testing.T) {
		out := c.skiff(t, "init", "--root", c.Root, "--dry-run")
		if !strings.Contains(out, "[certs]") {
			t.Errorf("it does not say what it would do:\n%s", out)
		}
		if left, err := filepath.Glob(filepath.Join(c.Root, "etc/kubernetes/*")); err != nil || len(left) > 0 {
			t.Errorf("it left %v (%v)", left, err)
		}
	})
}

// startOnSmallDisk starts a node whose state is on a disk of little more than the
// checks before init want, mounted with more options, and tells where that is.
func startOnSmallDisk(t *testing.T, options string) (*cluster, string) {
	t.Helper()
	c := prepare(t)
	c.Nodes = 1
	state := filepath.Join(c.Root, "var")
	if err := os.MkdirAll(state, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("none", state, "tmpfs", 0, "size=1100m,mode=755"+options); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// What is left below the mount is looked for after it is gone.
		out, err := exec.Command(c.Bin, "reset", "--root", c.Root).CombinedOutput()
		if err != nil {
			t.Errorf("skiff reset: %v\n%s", err, out)
		}
		if err := syscall.Unmount(state, 0); err != nil {
			t.Error(err)
		}
		c.Nodes = 0
		c.remove(t)
	})
	c.up(t)
	return c, state
}

// TestEviction has pods take all blocks and all inodes of a node's disk. They are
// ended, with the reason, and the disk is free again; their neighbour runs on.
//
// Covers: node.eviction
func TestEviction(t *testing.T) {
	c, state := startOnSmallDisk(t, ",nr_inodes=20000")
	s := c.space(t, "e2e-eviction")
	s.apply(pod("neighbour", `"serve"`, ""))
	s.ready("pod/neighbour")
	for name, command := range map[string]string{
		"blocks": "dd if=/dev/zero of=/data/file bs=1M; sleep 1h",
		"inodes": "i=0; while true; do true > /data/$i; i=$((i+1)); done 2>/dev/null",
	} {
		s.apply(fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata: {name: %s}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: main, image: busybox, command: [/bin/busybox, sh, -c, %q], volumeMounts: [{name: data, mountPath: /data}]}]
  volumes: [{name: data, emptyDir: {}}]
`, name, command))
	}
	for name, resource := range map[string]string{"blocks": "ephemeral-storage", "inodes": "inodes"} {
		s.until(3*time.Minute, "Failed Evicted The node was low on resource: "+resource+". Threshold quantity: ",
			"get", "pod", name, "-o", "jsonpath={.status.phase} {.status.reason} {.status.message}")
	}
	s.eventually(30*time.Second, "room on the disk", func() error {
		var st syscall.Statfs_t
		if err := syscall.Statfs(state, &st); err != nil {
			return err
		}
		if st.Bavail < st.Blocks/2 || st.Ffree < st.Files/2 {
			return fmt.Errorf("%d of %d blocks and %d of %d inodes are free", st.Bavail, st.Blocks, st.Ffree, st.Files)
		}
		return nil
	})
	if got := s.field("pod/neighbour", ".status.phase") + s.field("pod/neighbour", ".status.containerStatuses[0].restartCount"); got != "Running0" {
		t.Errorf("the neighbour is %s, want that it runs as it did", got)
	}
	s.says([]string{"DiskPressure=True"}, "get", "nodes", "-o", `jsonpath={range .items[0].status.conditions[*]}{.type}={.status} {end}`)
	// The store is on the full disk too: events come when there is room for them.
	s.until(time.Minute, "Attempting to reclaim", "get", "events", "--all-namespaces", "--field-selector", "reason=EvictionThresholdMet", "-o", "jsonpath={.items[*].message}")
}

// TestFullDisk fills the disk below a running node.
//
// Covers: up.disk-full
func TestFullDisk(t *testing.T) {
	c, state := startOnSmallDisk(t, "")
	s := &space{cluster: c, t: t, name: "default"}
	s.run("create", "configmap", "before")

	fill, err := os.Create(filepath.Join(state, "fill"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(fill, zeros{}, 1<<31); err == nil {
		t.Error("the disk does not get full")
	}
	// Space is free again when the file is removed and closed.
	if err := fill.Close(); err != nil {
		t.Fatal(err)
	}
	var kept []string
	refused := ""
	for i := 0; refused == "" && i < 500; i++ {
		name := fmt.Sprint("full-", i)
		if out, err := s.try("", "create", "configmap", name, "--from-literal=a="+strings.Repeat("x", 20000)); err != nil {
			refused = out
		} else {
			kept = append(kept, name)
		}
	}
	if !strings.Contains(refused, "free some space") {
		t.Errorf("writes to a full disk end with %q, want a remedy", refused)
	}
	s.says([]string{"before"}, "get", "configmaps")

	if err := os.Remove(fill.Name()); err != nil {
		t.Fatal(err)
	}
	s.eventually(30*time.Second, "a write after space was freed", func() error {
		out, err := s.try("", "create", "configmap", "after")
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
	s.says(append(kept, "before", "after"), "get", "configmaps")
}

// zeros reads as zeros without an end.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

// TestDamagedStore starts a node whose database has lost its end: it ends, and `up` says
// why at once. With the file as it was the node starts with all that it had.
//
// Covers: store.corrupt
func TestDamagedStore(t *testing.T) {
	c := prepare(t)
	c.Nodes = 1
	t.Cleanup(func() { c.remove(t) })
	c.up(t)
	s := &space{cluster: c, t: t, name: "default"}
	s.run("create", "configmap", "kept")
	c.skiff(t, "down", "--root", c.Root)
	path := filepath.Join(c.Root, "var/lib/skiff/store/state.db")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, int64(len(whole)/2)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, c.Bin, "up", "--root", c.Root).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "skiff restore") {
		t.Errorf("skiff up on half of the database: %v\n%s", err, out)
	}
	for _, suffix := range []string{"-wal", "-shm"} {
		if err := os.RemoveAll(path + suffix); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(path, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	c.up(t)
	s.says([]string{"kept"}, "get", "configmaps")
}
