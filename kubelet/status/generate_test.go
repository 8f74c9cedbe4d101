package status

import (
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"skiff/kubelet/containers"
	"skiff/kubelet/podstate"
)

type allReady struct{}

func (allReady) Started(*v1.Pod, *v1.Container, string) bool { return true }
func (allReady) Ready(*v1.Pod, *v1.Container, string) bool   { return true }

func state(list ...podstate.Container) *podstate.Pod {
	return &podstate.Pod{Sandboxes: []podstate.Sandbox{{ID: "s", Ready: true, IPs: []string{"10.0.0.1"}}}, Containers: list}
}

func in(name string, s podstate.State, code int32) podstate.Container {
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	return podstate.Container{ID: name + "-id", Name: name, State: s, ExitCode: code, CreatedAt: at, StartedAt: at, FinishedAt: at}
}

func TestGenerate(t *testing.T) {
	pod := func(policy v1.RestartPolicy, inits ...v1.Container) *v1.Pod {
		return &v1.Pod{Spec: v1.PodSpec{RestartPolicy: policy, InitContainers: inits, Containers: []v1.Container{{Name: "c"}}}}
	}
	sidecar := v1.Container{Name: "s", RestartPolicy: ptr.To(v1.ContainerRestartPolicyAlways)}
	cases := map[string]struct {
		pod      *v1.Pod
		state    *podstate.Pod
		reason   string
		terminal bool
		phase    v1.PodPhase
		ready    bool
		waiting  string
		gates    []v1.PodReadinessGate
	}{
		"nothing yet":              {pod: pod(v1.RestartPolicyAlways), state: &podstate.Pod{}, phase: v1.PodPending, waiting: "ContainerCreating"},
		"init runs":                {pod: pod(v1.RestartPolicyAlways, v1.Container{Name: "i"}), state: state(in("i", podstate.Running, 0)), phase: v1.PodPending, waiting: "PodInitializing"},
		"running":                  {pod: pod(v1.RestartPolicyAlways), state: state(in("c", podstate.Running, 0)), phase: v1.PodRunning, ready: true},
		"running beside a sidecar": {pod: pod(v1.RestartPolicyAlways, sidecar), state: state(in("c", podstate.Running, 0), in("s", podstate.Running, 0)), phase: v1.PodRunning, ready: true},
		"sidecar is down":          {pod: pod(v1.RestartPolicyAlways, sidecar), state: state(in("c", podstate.Running, 0), in("s", podstate.Exited, 1)), phase: v1.PodRunning},
		"crashed, is to restart":   {pod: pod(v1.RestartPolicyAlways), state: state(in("c", podstate.Exited, 1)), phase: v1.PodRunning},
		"crash loop":               {pod: pod(v1.RestartPolicyAlways), state: state(in("c", podstate.Exited, 1)), reason: "CrashLoopBackOff", phase: v1.PodRunning, waiting: "CrashLoopBackOff"},
		"done":                     {pod: pod(v1.RestartPolicyNever), state: state(in("c", podstate.Exited, 0)), phase: v1.PodSucceeded},
		"failed":                   {pod: pod(v1.RestartPolicyNever), state: state(in("c", podstate.Exited, 2)), phase: v1.PodFailed},
		"on failure and failed":    {pod: pod(v1.RestartPolicyOnFailure), state: state(in("c", podstate.Exited, 2)), phase: v1.PodRunning},
		"init failed for good":     {pod: pod(v1.RestartPolicyNever, v1.Container{Name: "i"}), state: state(in("i", podstate.Exited, 1)), phase: v1.PodFailed, waiting: "PodInitializing"},
		"ended by deletion":        {pod: pod(v1.RestartPolicyAlways), state: state(in("c", podstate.Exited, 143)), terminal: true, phase: v1.PodFailed},
		"ended while it initialised": {pod: pod(v1.RestartPolicyAlways, v1.Container{Name: "i"}), state: state(in("i", podstate.Exited, 143)), terminal: true,
			phase: v1.PodFailed, waiting: "PodInitializing"},
		"gate that nobody answered": {pod: pod(v1.RestartPolicyAlways), state: state(in("c", podstate.Running, 0)), phase: v1.PodRunning, gates: []v1.PodReadinessGate{{ConditionType: "example.com/ok"}}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			tc.pod.Spec.ReadinessGates = tc.gates
			got := Generate(Input{
				Pod: tc.pod, State: tc.state, Probes: allReady{}, HostIPs: []string{"192.0.2.1"}, Terminal: tc.terminal, Runtime: "skiff", Now: metav1.Now(),
				Resources: func(string) []v1.ResourceStatus { return nil },
				Reason: func(c string) (containers.Reason, bool) {
					return containers.Reason{Reason: tc.reason}, tc.reason != "" && c == "c"
				},
			})
			if got.Phase != tc.phase {
				t.Errorf("phase %s, want %s", got.Phase, tc.phase)
			}
			if c := condition(got.Conditions, v1.PodReady); (c.Status == v1.ConditionTrue) != tc.ready {
				t.Errorf("condition %+v, want ready %v", c, tc.ready)
			}
			waiting := ""
			if w := got.ContainerStatuses[0].State.Waiting; w != nil {
				waiting = w.Reason
			}
			if waiting != tc.waiting {
				t.Errorf("waits for %q, want %q", waiting, tc.waiting)
			}
		})
	}
}

// A pod that the node refused shows the reason and no waiting container.
func TestRefusedPodHasNoContainers(t *testing.T) {
	pod := &v1.Pod{Spec: v1.PodSpec{Containers: []v1.Container{{Name: "c"}}}}
	in := Input{
		Pod: pod, State: &podstate.Pod{}, Probes: allReady{}, Now: metav1.Now(), Failure: &Failure{Reason: "SysctlForbidden"},
		Reason:    func(string) (containers.Reason, bool) { return containers.Reason{}, false },
		Resources: func(string) []v1.ResourceStatus { return nil },
	}
	first := Generate(in)
	in.Failure, in.Old = nil, first
	for _, s := range []v1.PodStatus{first, Generate(in)} {
		if s.Phase != v1.PodFailed || s.Reason != "SysctlForbidden" || len(s.ContainerStatuses) != 0 {
			t.Errorf("status %+v, want failed without containers", s)
		}
	}
}

// A pod that ends while its container waits leaves no container that waits.
func TestGenerateNeverStarted(t *testing.T) {
	pod := &v1.Pod{Spec: v1.PodSpec{RestartPolicy: v1.RestartPolicyAlways, Containers: []v1.Container{{Name: "c"}}}}
	old := v1.PodStatus{ContainerStatuses: []v1.ContainerStatus{{Name: "c", State: v1.ContainerState{Waiting: &v1.ContainerStateWaiting{Reason: "ImagePullBackOff"}}}}}
	got := Generate(Input{
		Pod: pod, State: &podstate.Pod{}, Old: old, Probes: allReady{}, Terminal: true, Runtime: "skiff", Now: metav1.Now(),
		Resources: func(string) []v1.ResourceStatus { return nil },
		Reason: func(string) (containers.Reason, bool) {
			return containers.Reason{Reason: "ImagePullBackOff"}, true
		},
	})
	end := got.ContainerStatuses[0].State.Terminated
	if got.Phase != v1.PodFailed || end == nil || end.Reason != "ContainerStatusUnknown" || end.ExitCode != 137 {
		t.Errorf("phase %s, container %+v", got.Phase, got.ContainerStatuses[0].State)
	}
}
