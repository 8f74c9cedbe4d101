package cri_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	utilexec "k8s.io/utils/exec"

	"skiff/kubelet/bounded"
)

const goarch = runtime.GOARCH

const (
	running = runtimeapi.ContainerState_CONTAINER_RUNNING
	exited  = runtimeapi.ContainerState_CONTAINER_EXITED
	created = runtimeapi.ContainerState_CONTAINER_CREATED
)

// Covers: node.cri
func TestPodLife(t *testing.T) {
	n := newNode(t)
	n.pull()
	sb, scfg := n.pod("web")
	st, err := n.PodSandboxStatus(t.Context(), sb, false)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(st.Status.Network.Ip, "10.213.7.") || st.Status.State != runtimeapi.PodSandboxState_SANDBOX_READY {
		t.Fatalf("sandbox status: %v", st.Status)
	}
	id := n.run(sb, scfg, "main", []string{"sleep"}, func(c *runtimeapi.ContainerConfig) {
		c.Envs = []*runtimeapi.KeyValue{{Key: "GIVEN", Value: []byte("too")}}
		c.Linux.Resources = &runtimeapi.LinuxContainerResources{CpuShares: 512, MemoryLimitInBytes: 64 << 20, OomScoreAdj: 500}
	})
	log := n.logged(id, "ready")
	if !regexp.MustCompile(`^\d{4}-\d\d-\d\dT[0-9:.]{18}(Z|[+-]\d\d:\d\d) stdout F ready\n$`).MatchString(log) {
		t.Errorf("log line: %q", log)
	}
	for _, tc := range []struct {
		name string
		cmd  []string
		want string
	}{
		{"environment of the image", []string{"/probe", "env", "FROM_IMAGE"}, "yes\n"},
		{"environment of the pod", []string{"/probe", "env", "GIVEN"}, "too\n"},
		{"hostname", []string{"/probe", "cat", "/etc/hostname"}, "web\n"},
		{"second layer", []string{"/probe", "cat", "/tmp/marker"}, "second layer\n"},
		{"mode of a folder that only a lower layer describes", []string{"/probe", "stat", "/tmp"}, "dtrwxrwxrwx\n"},
		{"oom score", []string{"/probe", "cat", "/proc/1/oom_score_adj"}, "500\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			out, _, err := n.ExecSync(t.Context(), id, tc.cmd, 10*time.Second)
			if err != nil || string(out) != tc.want {
				t.Errorf("got %q, %v, want %q", out, err, tc.want)
			}
		})
	}
	out, _, err := n.ExecSync(bounded.WithOutput(t.Context(), 3), id, []string{"/probe", "cat", "/etc/hostname"}, 0)
	if err != nil || string(out) != "web" {
		t.Errorf("of a long output %q is kept, want what was asked for: %v", out, err)
	}
	_, _, err = n.ExecSync(t.Context(), id, []string{"/probe", "exit", "7"}, 0)
	if exit := (utilexec.ExitError)(nil); !errors.As(err, &exit) || exit.ExitStatus() != 7 {
		t.Errorf("exit 7 gives %v", err)
	}
	_, _, err = n.ExecSync(t.Context(), id, []string{"/probe", "stubborn"}, 200*time.Millisecond)
	if status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("slow exec gives %v", err)
	}
	stats, err := n.ContainerStats(t.Context(), id)
	if err != nil || stats.Memory.GetWorkingSetBytes().GetValue() == 0 || stats.Cpu.GetUsageCoreNanoSeconds().GetValue() == 0 {
		t.Errorf("stats: %v, %v", stats, err)
	}
	if err := n.UpdateContainerResources(t.Context(), id, &runtimeapi.ContainerResources{Linux: &runtimeapi.LinuxContainerResources{MemoryLimitInBytes: 96 << 20}}); err != nil {
		t.Errorf("update: %v", err)
	}
	if got := n.status(id).Resources.Linux; got.MemoryLimitInBytes != 96<<20 || got.CpuShares != 512 {
		t.Errorf("resources after update: %v", got)
	}
	path := n.status(id).LogPath
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	if err := n.ReopenContainerLog(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if err := n.StopContainer(t.Context(), id, 10); err != nil {
		t.Fatal(err)
	}
	if got := n.status(id); got.State != exited || got.ExitCode != 0 || got.Reason != "Completed" {
		t.Errorf("after stop: %v", got)
	}
	n.logged(id, "got terminated")
	if err := n.RemoveContainer(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if _, err := n.ContainerStatus(t.Context(), id, false); status.Code(err) != codes.NotFound {
		t.Errorf("status of a removed container: %v", err)
	}
	if err := n.StopPodSandbox(t.Context(), sb); err != nil {
		t.Fatal(err)
	}
	if err := n.RemovePodSandbox(t.Context(), sb); err != nil {
		t.Fatal(err)
	}
}

func TestExits(t *testing.T) {
	n := newNode(t)
	n.pull()
	sb, scfg := n.pod("exits")
	for _, tc := range []struct {
		name   string
		args   []string
		edit   func(*runtimeapi.ContainerConfig)
		code   int32
		reason string
	}{
		{name: "well", args: []string{"exit", "0"}, code: 0, reason: "Completed"},
		{name: "badly", args: []string{"exit", "3"}, code: 3, reason: "Error"},
		{name: "oom", args: []string{"eat"}, code: 137, reason: "OOMKilled", edit: func(c *runtimeapi.ContainerConfig) {
			c.Linux.Resources = &runtimeapi.LinuxContainerResources{MemoryLimitInBytes: 24 << 20, MemorySwapLimitInBytes: 24 << 20}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			edit := tc.edit
			if edit == nil {
				edit = func(*runtimeapi.ContainerConfig) {}
			}
			id := n.run(sb, scfg, tc.name, tc.args, edit)
			st := n.await(id, exited)
			if st.ExitCode != tc.code || st.Reason != tc.reason {
				t.Errorf("got %d %s, want %d %s", st.ExitCode, st.Reason, tc.code, tc.reason)
			}
		})
	}
	t.Run("no such command", func(t *testing.T) {
		id, err := n.create(sb, scfg, "missing", nil, func(c *runtimeapi.ContainerConfig) { c.Command = []string{"/nothing"} })
		if err != nil {
			t.Fatal(err)
		}
		if err := n.StartContainer(t.Context(), id); err == nil || !strings.Contains(err.Error(), "no such file or directory") {
			t.Errorf("start gives %v", err)
		}
		if st := n.status(id); st.State != exited || st.ExitCode != 128 || st.Reason != "StartError" {
			t.Errorf("status: %v", st)
		}
	})
	t.Run("killed after its patience", func(t *testing.T) {
		id := n.run(sb, scfg, "stubborn", []string{"stubborn"})
		n.logged(id, "ready")
		if err := n.StopContainer(t.Context(), id, 1); err != nil {
			t.Fatal(err)
		}
		if st := n.status(id); st.ExitCode != 137 {
			t.Errorf("status: %v", st)
		}
	})
}

// Covers: node.restart
func TestRestartKeepsContainers(t *testing.T) {
	n := newNode(t)
	n.pull()
	sb, scfg := n.pod("steady")
	before := n.run(sb, scfg, "steady", []string{"sleep"})
	short := n.run(sb, scfg, "short", []string{"sleep"})
	unstarted, err := n.create(sb, scfg, "later", []string{"exit", "0"})
	if err != nil {
		t.Fatal(err)
	}
	n.logged(short, "ready")
	started := n.status(before).StartedAt
	ip, err := n.PodSandboxStatus(t.Context(), sb, false)
	if err != nil {
		t.Fatal(err)
	}
	n.stop()
	// While no runtime is there, one container ends.
	killProbe(t, n, short)
	n.start()
	if st := n.status(before); st.State != running || st.StartedAt != started {
		t.Errorf("running container after the restart: %v, want one started at %d", st, started)
	}
	if st := n.await(short, exited); st.ExitCode != 137 {
		t.Errorf("container that ended meanwhile: %v", st)
	}
	if st := n.status(unstarted); st.State != created {
		t.Errorf("container that was not started: %v", st)
	}
	again, err := n.PodSandboxStatus(t.Context(), sb, false)
	if err != nil || again.Status.Network.Ip != ip.Status.Network.Ip || again.Status.State != runtimeapi.PodSandboxState_SANDBOX_READY {
		t.Errorf("sandbox after the restart: %v, %v", again, err)
	}
	if err := n.StartContainer(t.Context(), unstarted); err != nil {
		t.Fatal(err)
	}
	n.await(unstarted, exited)
	other, _ := n.pod("other")
	st, err := n.PodSandboxStatus(t.Context(), other, false)
	if err != nil || st.Status.Network.Ip == ip.Status.Network.Ip {
		t.Errorf("address was given twice: %v, %v", st, err)
	}
}

func TestShimKilled(t *testing.T) {
	n := newNode(t)
	n.pull()
	sb, scfg := n.pod("doomed")
	id := n.run(sb, scfg, "main", []string{"sleep"})
	events := make(chan *runtimeapi.ContainerEventResponse, 100)
	connected := make(chan struct{})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	go n.GetContainerEvents(ctx, events, func(runtimeapi.RuntimeService_GetContainerEventsClient) { close(connected) })
	<-connected
	killShim(t, filepath.Join(n.cfg.RunDir, sb))
	// Who hears of the container's end starts it again, where its sandbox is ready.
	select {
	case ev := <-events:
		if ev.ContainerId != id || ev.PodSandboxStatus.State != runtimeapi.PodSandboxState_SANDBOX_NOTREADY {
			t.Errorf("the first event is of %s, with a sandbox that is %v", ev.ContainerId, ev.PodSandboxStatus.State)
		}
	case <-ctx.Done():
		t.Fatal("no event")
	}
	if st := n.await(id, exited); st.ExitCode != 255 || st.Reason != "Unknown" {
		t.Errorf("status: %v", st)
	}
	if err := n.RemovePodSandbox(t.Context(), sb); err != nil {
		t.Fatal(err)
	}
}

// Covers: node.crash
func TestCrashLeftovers(t *testing.T) {
	n := newNode(t)
	n.pull()
	sb, scfg := n.pod("left")
	id := n.run(sb, scfg, "main", []string{"sleep"})
	torn, _ := n.pod("torn")
	n.stop()
	// The runtime died while it removed the container, and while it made a sandbox:
	// one before its record, and one whose record is no more than begun.
	if err := os.Mkdir(filepath.Join(n.cfg.StateDir, "sandboxes", "begun"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(n.cfg.StateDir, "sandboxes", torn, "record.json"), 5); err != nil {
		t.Fatal(err)
	}
	edit(t, filepath.Join(n.cfg.StateDir, "containers", id, "record.json"), `"removing":true,"id":`, `"id":`)
	edit(t, filepath.Join(n.cfg.StateDir, "sandboxes", sb, "record.json"), `"phase":"creating"`, `"phase":"ready"`)
	n.start()
	if list, err := n.ListContainers(t.Context(), nil); err != nil || len(list) != 0 {
		t.Errorf("containers: %v, %v", list, err)
	}
	if list, err := n.ListPodSandbox(t.Context(), nil); err != nil || len(list) != 0 {
		t.Errorf("sandboxes: %v, %v", list, err)
	}
	if left, err := os.ReadDir(filepath.Join(n.cfg.StateDir, "sandboxes")); err != nil || len(left) != 0 {
		t.Errorf("folders of sandboxes: %v, %v", left, err)
	}
}

func edit(t *testing.T, path, now, was string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	next := strings.Replace(string(data), was, now, 1)
	if next == string(data) {
		t.Fatalf("%s has no %s: %s", path, was, data)
	}
	if err := os.WriteFile(path, []byte(next), 0o600); err != nil {
		t.Fatal(err)
	}
}

// A caller that gives up finds the container started, or not begun, and never
// one that runs and is taken for ended.
func TestStartIsNotHalfDone(t *testing.T) {
	n := newNode(t)
	n.pull()
	sb, scfg := n.pod("hasty")
	for i := range 10 {
		id, err := n.create(sb, scfg, "c"+strconv.Itoa(i), []string{"sleep"})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*time.Millisecond)
		err = n.StartContainer(ctx, id)
		cancel()
		want := running
		if err != nil {
			want = created
		}
		if st := n.status(id); st.State != want {
			t.Errorf("after a start with the error %v the container is %v", err, st)
		}
	}
}

func TestManyPodsAtOnce(t *testing.T) {
	n := newNode(t)
	n.pull()
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			ctx := t.Context()
			cfg := &runtimeapi.PodSandboxConfig{
				Metadata: &runtimeapi.PodSandboxMetadata{Name: "p", Namespace: "default", Uid: strconv.Itoa(i)},
				Linux:    &runtimeapi.LinuxPodSandboxConfig{CgroupParent: n.cfg.CgroupRoot + "/pod" + strconv.Itoa(i)},
			}
			sb, err := n.RunPodSandbox(ctx, cfg, "")
			if err != nil {
				t.Error(err)
				return
			}
			id, err := n.create(sb, cfg, "main", []string{"stubborn"})
			if err == nil {
				err = n.StartContainer(ctx, id)
			}
			if err != nil {
				t.Error(err)
			}
			if _, err := n.ListPodSandbox(ctx, nil); err != nil {
				t.Error(err)
			}
			if err := n.StopPodSandbox(ctx, sb); err != nil {
				t.Error(err)
			}
			if err := n.RemovePodSandbox(ctx, sb); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
}
