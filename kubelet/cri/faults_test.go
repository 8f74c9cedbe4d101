package cri_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"skiff/kubelet/network"
)

// brokenNetwork fails where it is told to.
type brokenNetwork struct {
	network.Plugin
	setup, teardown atomic.Bool
}

func (b *brokenNetwork) Setup(ctx context.Context, pod network.Pod) (network.Result, error) {
	if b.setup.Load() {
		return network.Result{}, errors.New("no more addresses")
	}
	return b.Plugin.Setup(ctx, pod)
}

func (b *brokenNetwork) Teardown(ctx context.Context, pod network.Pod) error {
	if b.teardown.Load() {
		return errors.New("not now")
	}
	return b.Plugin.Teardown(ctx, pod)
}

// withBrokenNetwork starts the node anew with a network that can be broken.
func withBrokenNetwork(t *testing.T) (*node, *brokenNetwork) {
	n, b := newNode(t), &brokenNetwork{}
	n.stop()
	n.wrap = func(p network.Plugin) network.Plugin {
		b.Plugin = p
		return b
	}
	n.start()
	return n, b
}

// notReady waits until the node has one sandbox, which is not ready.
func (n *node) notReady() string {
	n.t.Helper()
	var list []*runtimeapi.PodSandbox
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		var err error
		if list, err = n.ListPodSandbox(n.t.Context(), nil); err != nil {
			n.t.Fatal(err)
		}
		if len(list) == 1 && list[0].State == runtimeapi.PodSandboxState_SANDBOX_NOTREADY {
			return list[0].Id
		}
	}
	n.t.Fatalf("sandboxes %v, want one that is not ready", list)
	return ""
}

// A sandbox whose network could neither be set up nor given back is not lost:
// it is listed, also by the next process, until its client has it stopped.
func TestSandboxThatCannotBeGivenBack(t *testing.T) {
	n, b := withBrokenNetwork(t)
	b.setup.Store(true)
	config := &runtimeapi.PodSandboxConfig{Metadata: &runtimeapi.PodSandboxMetadata{Name: "p", Namespace: "default", Uid: "u"}, Linux: &runtimeapi.LinuxPodSandboxConfig{}}
	_, err := n.RunPodSandbox(t.Context(), config, "")
	if err == nil || !strings.HasPrefix(err.Error(), "failed to setup network for sandbox") || !strings.HasSuffix(err.Error(), ": no more addresses") {
		t.Errorf("error %v, want the network's words", err)
	}
	if list, err := n.ListPodSandbox(t.Context(), nil); err != nil || len(list) > 0 {
		t.Fatalf("%d sandboxes (%v), want none: its network was given back", len(list), err)
	}

	b.teardown.Store(true)
	if _, err := n.RunPodSandbox(t.Context(), config, ""); err == nil {
		t.Fatal("the sandbox runs")
	}
	id := n.notReady()
	n.stop()
	n.start()
	if again := n.notReady(); again != id {
		t.Errorf("the next process has sandbox %s, want %s", again, id)
	}
	if err := n.StopPodSandbox(t.Context(), id); err == nil || !strings.Contains(err.Error(), "failed to destroy network for sandbox") {
		t.Errorf("stopping it: error %v, want that of the network", err)
	}
	b.setup.Store(false)
	b.teardown.Store(false)
	if err := n.RemovePodSandbox(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	// Its name is free again.
	n.pod("p")
}

// A pod that has lost its shim is over, also when its network cannot be given
// back at once.
func TestShimKilledAndNetworkBroken(t *testing.T) {
	n, b := withBrokenNetwork(t)
	n.pull()
	sb, scfg := n.pod("p")
	id := n.run(sb, scfg, "c", []string{"sleep"})
	b.teardown.Store(true)
	killShim(t, filepath.Join(n.cfg.RunDir, sb))
	n.await(id, runtimeapi.ContainerState_CONTAINER_EXITED)
	n.notReady()
	if _, err := n.create(sb, scfg, "d", []string{"sleep"}); err == nil || !strings.Contains(err.Error(), "is not running") {
		t.Errorf("a container in it: error %v, want that it is not running", err)
	}
	n.stop()
	n.start()
	if again := n.notReady(); again != sb {
		t.Errorf("the next process has sandbox %s, want %s", again, sb)
	}
	b.teardown.Store(false)
	if err := n.StopPodSandbox(t.Context(), sb); err != nil {
		t.Error(err)
	}
}

// The files that a sandbox's containers share are on the disk, not in memory,
// and a container that fills one is charged with it.
func TestSharedFilesAreCounted(t *testing.T) {
	n := newNode(t)
	n.pull()
	sb, scfg := n.pod("p")
	id := n.run(sb, scfg, "c", []string{"sleep"})
	used := func() uint64 {
		st, err := n.ContainerStats(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		return st.WritableLayer.UsedBytes.GetValue()
	}
	before := used()
	const size = 100 << 10
	for _, file := range []string{"/etc/resolv.conf", "/etc/hostname"} {
		if _, _, err := n.ExecSync(t.Context(), id, []string{"/probe", "write", file, strings.Repeat("x", size)}, time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	if grown := used() - before; grown < 2*size {
		t.Errorf("the container is charged with %d more bytes, want at least %d", grown, 2*size)
	}
	err := filepath.WalkDir(n.cfg.RunDir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		if info, err := e.Info(); err == nil && info.Size() >= size {
			t.Errorf("%s in the folder in memory has %d bytes", path, info.Size())
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// A link in a log's place leads the container's output nowhere.
func TestLogIsNoLink(t *testing.T) {
	n := newNode(t)
	n.pull()
	sb, scfg := n.pod("p")
	id := n.run(sb, scfg, "c", []string{"sleep"})
	path := n.status(id).LogPath
	target := filepath.Join(n.cfg.StateDir, "target")
	for name, make := range map[string]func() error{
		"link": func() error { return os.Symlink(target, path) },
		"pipe": func() error { return unix.Mkfifo(path, 0o600) },
	} {
		if err := errors.Join(os.Remove(path), make()); err != nil {
			t.Fatal(err)
		}
		if err := n.ReopenContainerLog(t.Context(), id); err == nil {
			t.Errorf("%s: the log was opened", name)
		}
	}
	if _, err := os.Lstat(target); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the link was followed (%v)", err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := n.ReopenContainerLog(t.Context(), id); err != nil {
		t.Error(err)
	}
}

// On a disk without a block or an inode left, a pod ends and is removed: only
// that makes room again.
func TestPodEndsOnFullDisk(t *testing.T) {
	n := newNode(t)
	n.stop()
	if err := unix.Mount("none", n.cfg.StateDir, "tmpfs", 0, "size=64m,nr_inodes=4k,mode=711"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		n.cleanUp()
		if err := unix.Unmount(n.cfg.StateDir, 0); err != nil {
			t.Error(err)
		}
	})
	n.start()
	n.pull()
	sb, scfg := n.pod("p")
	stops := n.run(sb, scfg, "stops", []string{"sleep"})
	killed := n.run(sb, scfg, "killed", []string{"sleep"})
	fill, err := os.Create(filepath.Join(n.cfg.StateDir, "fill"))
	if err != nil {
		t.Fatal(err)
	}
	defer fill.Close()
	for _, size := range []int{1 << 20, 4 << 10, 1} {
		for err = error(nil); err == nil; {
			_, err = fill.Write(make([]byte, size))
		}
	}
	for i := 0; ; i++ {
		if err = os.Symlink("x", filepath.Join(n.cfg.StateDir, "link-"+strconv.Itoa(i))); err != nil {
			break
		}
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("filling the disk: %v", err)
	}
	if err := n.StopContainer(t.Context(), stops, 5); err != nil {
		t.Error(err)
	}
	n.await(stops, runtimeapi.ContainerState_CONTAINER_EXITED)
	if err := n.RemoveContainer(t.Context(), stops); err != nil {
		t.Error(err)
	}
	killProbe(t, n, killed)
	if st := n.await(killed, runtimeapi.ContainerState_CONTAINER_EXITED); st.ExitCode != 137 {
		t.Errorf("the container ended with %d, want 137", st.ExitCode)
	}
	if err := errors.Join(n.StopPodSandbox(t.Context(), sb), n.RemovePodSandbox(t.Context(), sb)); err != nil {
		t.Error(err)
	}
}
