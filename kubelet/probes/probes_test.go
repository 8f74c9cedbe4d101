package probes

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	utilexec "k8s.io/utils/exec"

	"skiff/kubelet/containers"
	"skiff/kubelet/critest"
)

type exit int

func (e exit) Error() string   { return "exit" }
func (e exit) String() string  { return "exit" }
func (e exit) Exited() bool    { return true }
func (e exit) ExitStatus() int { return int(e) }

var _ utilexec.ExitError = exit(0)

// oneRunning returns a runtime with one running container.
func oneRunning(t *testing.T) (*critest.Runtime, string) {
	rt := critest.New("i")
	ctx := context.Background()
	sandbox := &runtimeapi.PodSandboxConfig{Metadata: &runtimeapi.PodSandboxMetadata{Name: "p", Uid: "u"}}
	s, err := rt.RunPodSandbox(ctx, sandbox, "")
	if err != nil {
		t.Fatal(err)
	}
	id, err := rt.CreateContainer(ctx, s, &runtimeapi.ContainerConfig{Metadata: &runtimeapi.ContainerMetadata{Name: "c"}, Image: &runtimeapi.ImageSpec{Image: "i"}}, sandbox)
	if err == nil {
		err = rt.StartContainer(ctx, id)
	}
	if err != nil {
		t.Fatal(err)
	}
	return rt, id
}

func TestThresholds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt, id := oneRunning(t)
		var fails atomic.Bool
		var runs atomic.Int32
		rt.ExecFunc = func(string, []string) ([]byte, []byte, error) {
			runs.Add(1)
			if fails.Load() {
				return nil, []byte("no"), exit(1)
			}
			return nil, nil, nil
		}
		notified := make(chan types.UID, 100)
		m, err := New(Config{Runtime: rt, Recorder: record.NewFakeRecorder(100), Notify: func(u types.UID) { notified <- u }})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); _ = m.Run(ctx) }()
		probe := func(failures int32) *v1.Probe {
			return &v1.Probe{ProbeHandler: v1.ProbeHandler{Exec: &v1.ExecAction{Command: []string{"x"}}}, PeriodSeconds: 10, SuccessThreshold: 1, FailureThreshold: failures, TimeoutSeconds: 1}
		}
		c := &v1.Container{Name: "c", ReadinessProbe: probe(1), LivenessProbe: probe(3), StartupProbe: probe(30)}
		pod := &v1.Pod{Spec: v1.PodSpec{Containers: []v1.Container{*c}}}
		pod.UID = "u"
		m.Container(pod, c, id, "10.0.0.1", time.Now(), false)
		if m.Ready(pod, c, id) {
			t.Error("ready before any probe")
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if !m.Started(pod, c, id) || !m.Ready(pod, c, id) || m.Liveness(id) != containers.VerdictSuccess {
			t.Errorf("after success: started %v, ready %v, liveness %v", m.Started(pod, c, id), m.Ready(pod, c, id), m.Liveness(id))
		}
		fails.Store(true)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if m.Ready(pod, c, id) || m.Liveness(id) == containers.VerdictFailure {
			t.Errorf("after one failure: ready %v, liveness %v", m.Ready(pod, c, id), m.Liveness(id))
		}
		time.Sleep(20 * time.Second)
		synctest.Wait()
		if m.Liveness(id) != containers.VerdictFailure {
			t.Error("liveness holds after three failures")
		}
		m.Stopped("u", "c", "")
		before := runs.Load()
		time.Sleep(time.Minute)
		synctest.Wait()
		if runs.Load() != before {
			t.Error("a stopped container is probed")
		}
		if len(notified) < 3 {
			t.Errorf("%d notifications", len(notified))
		}
		cancel()
		<-done
	})
}

func TestExecErrorsAreNoVerdict(t *testing.T) {
	rt, id := oneRunning(t)
	rt.ExecFunc = func(string, []string) ([]byte, []byte, error) { return nil, nil, errors.New("the runtime is away") }
	m, err := New(Config{Runtime: rt, Recorder: record.NewFakeRecorder(10), Notify: func(types.UID) {}})
	if err != nil {
		t.Fatal(err)
	}
	target := &target{container: &v1.Container{Name: "c"}}
	result, _, err := m.exec(t.Context(), target, []string{"x"}, id, time.Second)
	if result != unknown || err == nil {
		t.Errorf("result %v, error %v", result, err)
	}
}

func TestEvents(t *testing.T) {
	for _, tc := range []struct {
		name         string
		result       outcome
		output       string
		err          error
		reason, text string
	}{
		{"success", success, "fine", nil, "", ""},
		{"failure", failure, "no", nil, "Unhealthy", "Readiness probe failed: no"},
		{"warning", warning, "elsewhere", nil, "ProbeWarning", "Readiness probe warning: elsewhere"},
		{"no outcome", unknown, "", errors.New("the runtime is away"), "Unhealthy", "Readiness probe errored and resulted in unknown state: the runtime is away"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if reason, text := told(Readiness, tc.result, tc.output, tc.err); reason != tc.reason || text != tc.text {
				t.Errorf("%s %q, want %s %q", reason, text, tc.reason, tc.text)
			}
		})
	}
}
