package kubelet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/fake"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/mount-utils"
	"k8s.io/utils/exec"
	"k8s.io/utils/ptr"

	"skiff/kubelet/config"
	"skiff/kubelet/critest"
)

// harness is a kubelet over a runtime and an API server that hold state.
type harness struct {
	t       *testing.T
	client  *fake.Clientset
	runtime *critest.Runtime
	kubelet *Kubelet
	root    string
	cancel  context.CancelFunc
	done    chan struct{}
}

func start(t *testing.T, rt *critest.Runtime, objects ...*v1.Pod) *harness {
	t.Helper()
	return startWith(t, rt, func(*Config) {}, objects...)
}

// startWith starts a kubelet with a changed configuration.
func startWith(t *testing.T, rt *critest.Runtime, change func(*Config), objects ...*v1.Pod) *harness {
	t.Helper()
	h := &harness{t: t, client: fake.NewClientset(), runtime: rt, root: t.TempDir()}
	for _, p := range objects {
		h.create(p)
	}
	h.runWith(change)
	t.Cleanup(func() { h.stop() })
	return h
}

func (h *harness) run() {
	h.t.Helper()
	h.runWith(func(*Config) {})
}

func (h *harness) runWith(change func(*Config)) {
	h.t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		h.t.Fatal(err)
	}
	conf := config.Default()
	// How full the machine's disk is with what others have does not matter here.
	conf.EvictionHard = map[string]string{"memory.available": "1Mi"}
	cfg := Config{
		Client: h.client, NodeName: "n1", NodeIPs: []string{"10.1.0.1"}, Runtime: h.runtime, Images: h.runtime, Kubelet: conf,
		Paths:    Paths{Root: filepath.Join(h.root, "kubelet"), PodLogs: filepath.Join(h.root, "pods"), ContainerLogs: filepath.Join(h.root, "containers")},
		Listener: listener, DisableCgroups: true, Mounter: mount.NewFakeMounter(nil),
	}
	change(&cfg)
	k, err := New(cfg)
	if err != nil {
		h.t.Fatal(err)
	}
	h.kubelet = k
	k.cfg.Kubelet.HealthzPort = ptr.To[int32](0)
	ctx, cancel := context.WithCancel(context.Background())
	h.cancel, h.done = cancel, make(chan struct{})
	go func() {
		defer close(h.done)
		if err := k.Run(ctx); err != nil {
			h.t.Errorf("Run: %v", err)
		}
	}()
	select {
	case <-k.Ready():
	case <-time.After(20 * time.Second):
		h.t.Fatal("the kubelet did not become ready")
	}
}

func (h *harness) stop() {
	h.cancel()
	<-h.done
}

func (h *harness) create(p *v1.Pod) {
	h.t.Helper()
	if _, err := h.client.CoreV1().Pods(p.Namespace).Create(context.Background(), p, metav1.CreateOptions{}); err != nil {
		h.t.Fatal(err)
	}
}

// wait follows the pod until ok accepts it.
func (h *harness) wait(name, what string, ok func(*v1.Pod) bool) *v1.Pod {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	w, err := h.client.CoreV1().Pods("ns").Watch(ctx, metav1.ListOptions{})
	if err != nil {
		h.t.Fatal(err)
	}
	defer w.Stop()
	last, err := h.client.CoreV1().Pods("ns").Get(ctx, name, metav1.GetOptions{})
	switch {
	case err == nil && ok(last):
		return last
	case apierrors.IsNotFound(err) && ok(nil): // it went before the watch began
		return nil
	}
	for {
		select {
		case e := <-w.ResultChan():
			pod, is := e.Object.(*v1.Pod)
			if !is || pod.Name != name {
				continue
			}
			if e.Type == watch.Deleted {
				if ok(nil) {
					return nil
				}
				continue
			}
			last = pod
			if ok(pod) {
				return pod
			}
		case <-ctx.Done():
			h.t.Fatalf("pod %s: waited for %s; calls %v; last status %+v", name, what, h.runtime.Calls(), last.Status)
		}
	}
}

func newPod(name string, mods ...func(*v1.Pod)) *v1.Pod {
	p := &v1.Pod{}
	p.Name, p.Namespace, p.UID, p.Generation = name, "ns", types.UID("uid-"+name), 1
	p.Spec.NodeName, p.Spec.RestartPolicy = "n1", v1.RestartPolicyAlways
	p.Spec.TerminationGracePeriodSeconds = ptr.To[int64](5)
	p.Spec.Containers = []v1.Container{{Name: "c", Image: "img:1", TerminationMessagePath: "/dev/termination-log", TerminationMessagePolicy: v1.TerminationMessageReadFile}}
	for _, m := range mods {
		m(p)
	}
	return p
}

func ready(p *v1.Pod) bool {
	return p != nil && p.Status.Phase == v1.PodRunning && conditionTrue(p, v1.PodReady)
}

func conditionTrue(p *v1.Pod, kind v1.PodConditionType) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == kind {
			return c.Status == v1.ConditionTrue
		}
	}
	return false
}

func TestPodRunsAndIsDeleted(t *testing.T) {
	h := start(t, critest.New("img:1"), newPod("a"))
	pod := h.wait("a", "ready", ready)
	for _, kind := range []v1.PodConditionType{v1.PodReadyToStartContainers, v1.PodInitialized, v1.ContainersReady, v1.PodScheduled} {
		if !conditionTrue(pod, kind) {
			t.Errorf("condition %s is not true: %+v", kind, pod.Status.Conditions)
		}
	}
	if pod.Status.PodIP == "" || pod.Status.HostIP != "10.1.0.1" || pod.Status.ObservedGeneration != 1 {
		t.Errorf("addresses or generation missing: %+v", pod.Status)
	}
	if !strings.HasPrefix(pod.Status.ContainerStatuses[0].ContainerID, "critest://") {
		t.Errorf("container ID %q", pod.Status.ContainerStatuses[0].ContainerID)
	}
	pod.DeletionTimestamp, pod.DeletionGracePeriodSeconds = ptr.To(metav1.Now()), ptr.To[int64](3)
	if _, err := h.client.CoreV1().Pods("ns").Update(context.Background(), pod, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	h.wait("a", "deleted", func(p *v1.Pod) bool { return p == nil })
	if calls := strings.Join(h.runtime.Calls(), "\n"); !strings.Contains(calls, "StopContainer c 3") {
		t.Errorf("the container did not get its grace period:\n%s", calls)
	}
}

// Covers: pod.restart
func TestCrashLoop(t *testing.T) {
	rt := critest.New("img:1")
	rt.Script = func(*runtimeapi.ContainerConfig) critest.Process { return critest.Process{Exit: ptr.To[int32](3)} }
	h := start(t, rt, newPod("a"))
	pod := h.wait("a", "CrashLoopBackOff", func(p *v1.Pod) bool {
		return p != nil && len(p.Status.ContainerStatuses) > 0 && p.Status.ContainerStatuses[0].State.Waiting != nil && p.Status.ContainerStatuses[0].State.Waiting.Reason == "CrashLoopBackOff"
	})
	st := pod.Status.ContainerStatuses[0]
	if last := st.LastTerminationState.Terminated; last == nil || last.ExitCode != 3 || last.Reason != "Error" {
		t.Errorf("last state %+v", st.LastTerminationState)
	}
	if want := "back-off 10s restarting failed container=c pod=a_ns("; !strings.HasPrefix(st.State.Waiting.Message, want) {
		t.Errorf("message %q, want prefix %q", st.State.Waiting.Message, want)
	}
	if pod.Status.Phase != v1.PodRunning {
		t.Errorf("phase %s", pod.Status.Phase)
	}
}

// A container that its probe ends again and again waits as one that crashes does.
//
// Covers: pod.restart
func TestCrashLoopOfUnhealthy(t *testing.T) {
	rt := critest.New("img:1")
	rt.ExecFunc = func(string, []string) ([]byte, []byte, error) {
		return nil, nil, exec.CodeExitError{Err: errors.New("sick"), Code: 1}
	}
	h := start(t, rt, newPod("a", func(p *v1.Pod) {
		p.Spec.Containers[0].LivenessProbe = &v1.Probe{ProbeHandler: v1.ProbeHandler{Exec: &v1.ExecAction{Command: []string{"false"}}}, TimeoutSeconds: 1, PeriodSeconds: 1, SuccessThreshold: 1, FailureThreshold: 1}
	}))
	h.wait("a", "CrashLoopBackOff", func(p *v1.Pod) bool {
		return p != nil && len(p.Status.ContainerStatuses) > 0 && p.Status.ContainerStatuses[0].State.Waiting != nil && p.Status.ContainerStatuses[0].State.Waiting.Reason == "CrashLoopBackOff"
	})
}

// Covers: node.lifecycle
func TestPreStopFails(t *testing.T) {
	rt := critest.New("img:1")
	rt.ExecFunc = func(string, []string) ([]byte, []byte, error) {
		return nil, nil, exec.CodeExitError{Err: errors.New("exit status 3"), Code: 3}
	}
	h := start(t, rt, newPod("a", func(p *v1.Pod) {
		p.Spec.Containers[0].Lifecycle = &v1.Lifecycle{PreStop: &v1.LifecycleHandler{Exec: &v1.ExecAction{Command: []string{"false"}}}}
	}))
	pod := h.wait("a", "ready", ready)
	pod.DeletionTimestamp, pod.DeletionGracePeriodSeconds = ptr.To(metav1.Now()), ptr.To[int64](5)
	if _, err := h.client.CoreV1().Pods("ns").Update(context.Background(), pod, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	h.event("Warning FailedPreStopHook PreStopHook failed")
}

// A pod whose sandbox is gone gets another, and the pod's events say so.
func TestSandboxLost(t *testing.T) {
	h := start(t, critest.New("img:1"), newPod("a"))
	h.wait("a", "ready", ready)
	list, err := h.runtime.ListPodSandbox(context.Background(), nil)
	if err != nil || len(list) != 1 {
		t.Fatalf("sandboxes %v: %v", list, err)
	}
	if err := h.runtime.StopPodSandbox(context.Background(), list[0].Id); err != nil {
		t.Fatal(err)
	}
	h.event("Normal SandboxChanged Pod sandbox changed, it will be killed and re-created.")
	h.wait("a", "running again", func(p *v1.Pod) bool { return p != nil && p.Status.ContainerStatuses[0].RestartCount == 1 })
}

// Covers: node.lifecycle
func TestPodOutcomes(t *testing.T) {
	exit := func(code int32) func(*runtimeapi.ContainerConfig) critest.Process {
		return func(*runtimeapi.ContainerConfig) critest.Process { return critest.Process{Exit: &code} }
	}
	waiting := func(reason string) func(*v1.Pod) bool {
		return func(p *v1.Pod) bool {
			return p != nil && len(p.Status.ContainerStatuses) > 0 && p.Status.ContainerStatuses[0].State.Waiting != nil && p.Status.ContainerStatuses[0].State.Waiting.Reason == reason
		}
	}
	failed := func(reason string) func(*v1.Pod) bool {
		return func(p *v1.Pod) bool { return p != nil && p.Status.Phase == v1.PodFailed && p.Status.Reason == reason }
	}
	cases := map[string]struct {
		script func(*runtimeapi.ContainerConfig) critest.Process
		pull   error
		mod    func(*v1.Pod)
		ok     func(*v1.Pod) bool
	}{
		"never policy and success": {
			script: exit(0), mod: func(p *v1.Pod) { p.Spec.RestartPolicy = v1.RestartPolicyNever },
			ok: func(p *v1.Pod) bool { return p != nil && p.Status.Phase == v1.PodSucceeded },
		},
		"never policy and failure": {
			script: exit(1), mod: func(p *v1.Pod) { p.Spec.RestartPolicy = v1.RestartPolicyNever },
			ok: func(p *v1.Pod) bool { return p != nil && p.Status.Phase == v1.PodFailed },
		},
		"init container then app": {
			script: func(c *runtimeapi.ContainerConfig) critest.Process {
				if c.Metadata.Name == "i" {
					return critest.Process{Exit: ptr.To[int32](0)}
				}
				return critest.Process{}
			},
			mod: func(p *v1.Pod) { p.Spec.InitContainers = []v1.Container{{Name: "i", Image: "img:1"}} },
			ok:  ready,
		},
		"image cannot be pulled": {
			pull: fmt.Errorf("no such image"), mod: func(p *v1.Pod) { p.Spec.Containers[0].Image = "gone:1" }, ok: waiting("ErrImagePull"),
		},
		"image of a volume cannot be pulled": {
			pull: fmt.Errorf("no such image"),
			mod: func(p *v1.Pod) {
				p.Spec.Volumes = []v1.Volume{{Name: "v", VolumeSource: v1.VolumeSource{Image: &v1.ImageVolumeSource{Reference: "gone:1", PullPolicy: v1.PullIfNotPresent}}}}
				p.Spec.Containers[0].VolumeMounts = []v1.VolumeMount{{Name: "v", MountPath: "/v"}}
			},
			ok: waiting("ImagePullBackOff"),
		},
		"invalid image name": {mod: func(p *v1.Pod) { p.Spec.Containers[0].Image = "UPPER CASE" }, ok: waiting("InvalidImageName")},
		"never pull": {
			mod: func(p *v1.Pod) {
				p.Spec.Containers[0].Image, p.Spec.Containers[0].ImagePullPolicy = "gone:1", v1.PullNever
			},
			ok: waiting("ErrImageNeverPull"),
		},
		"missing ConfigMap in env": {
			mod: func(p *v1.Pod) {
				p.Spec.Containers[0].EnvFrom = []v1.EnvFromSource{{ConfigMapRef: &v1.ConfigMapEnvSource{LocalObjectReference: v1.LocalObjectReference{Name: "no"}}}}
			},
			ok: waiting("CreateContainerConfigError"),
		},
		"too much CPU": {
			mod: func(p *v1.Pod) {
				p.Spec.Containers[0].Resources.Requests = v1.ResourceList{v1.ResourceCPU: resource.MustParse("9999")}
			},
			ok: failed("OutOfcpu"),
		},
		"wrong node selector": {
			mod: func(p *v1.Pod) { p.Spec.NodeSelector = map[string]string{"no": "such"} }, ok: failed("NodeAffinity"),
		},
		"unsafe sysctl": {
			mod: func(p *v1.Pod) {
				p.Spec.SecurityContext = &v1.PodSecurityContext{Sysctls: []v1.Sysctl{{Name: "kernel.msgmax", Value: "1"}}}
			},
			ok: failed("SysctlForbidden"),
		},
		"deadline": {
			mod: func(p *v1.Pod) { p.Spec.ActiveDeadlineSeconds = ptr.To[int64](1) }, ok: failed("DeadlineExceeded"),
		},
		"failing startup of readiness": {
			mod: func(p *v1.Pod) {
				p.Spec.Containers[0].ReadinessProbe = &v1.Probe{ProbeHandler: v1.ProbeHandler{Exec: &v1.ExecAction{Command: []string{"ok"}}}, PeriodSeconds: 1, SuccessThreshold: 1, FailureThreshold: 1}
			},
			ok: ready,
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rt := critest.New("img:1")
			rt.Script = tc.script
			if tc.pull != nil {
				rt.PullError = func(string) error { return tc.pull }
			}
			pod := newPod("a")
			tc.mod(pod)
			h := start(t, rt, pod)
			h.wait("a", name, tc.ok)
		})
	}
}

// Covers: node.restart
func TestRestartedKubeletAdoptsPods(t *testing.T) {
	h := start(t, critest.New("img:1"), newPod("a"))
	before := h.wait("a", "ready", ready)
	h.stop()
	calls := len(h.runtime.Calls())
	h.run()
	h.create(newPod("b"))
	h.wait("b", "ready", ready)
	after := h.wait("a", "still ready", ready)
	if before.Status.ContainerStatuses[0].ContainerID != after.Status.ContainerStatuses[0].ContainerID {
		t.Error("the container was replaced")
	}
	for _, c := range h.runtime.Calls()[calls:] {
		if strings.HasPrefix(c, "Stop") || strings.HasSuffix(c, " a") {
			t.Errorf("unexpected call %q", c)
		}
	}
}
