package containers

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"skiff/kubelet/podstate"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

type verdicts struct{ live, start map[string]Verdict }

func (v verdicts) Liveness(id string) Verdict { return v.live[id] }
func (v verdicts) Startup(id string) Verdict  { return v.start[id] }

type podMod func(*v1.Pod)

func testPod(policy v1.RestartPolicy, mods ...podMod) *v1.Pod {
	pod := &v1.Pod{}
	pod.Name, pod.Namespace, pod.UID = "p", "ns", "u"
	pod.Spec.RestartPolicy = policy
	for _, m := range mods {
		m(pod)
	}
	return pod
}

func app(names ...string) podMod {
	return func(p *v1.Pod) {
		for _, n := range names {
			p.Spec.Containers = append(p.Spec.Containers, v1.Container{Name: n, Image: "img"})
		}
	}
}

func initC(names ...string) podMod {
	return func(p *v1.Pod) {
		for _, n := range names {
			p.Spec.InitContainers = append(p.Spec.InitContainers, v1.Container{Name: n, Image: "img"})
		}
	}
}

func sidecarC(names ...string) podMod {
	return func(p *v1.Pod) {
		for _, n := range names {
			p.Spec.InitContainers = append(p.Spec.InitContainers, v1.Container{Name: n, Image: "img", RestartPolicy: ptr.To(v1.ContainerRestartPolicyAlways)})
		}
	}
}

func runtimeState(containers ...podstate.Container) *podstate.Pod {
	return &podstate.Pod{
		Sandboxes:  []podstate.Sandbox{{ID: "s", Ready: true, IPs: []string{"10.0.0.1"}}},
		Containers: containers,
	}
}

func inState(name string, state podstate.State, exit int32) podstate.Container {
	return podstate.Container{
		ID: name + "-id", Name: name, State: state, ExitCode: exit, CreatedAt: epoch, StartedAt: epoch, FinishedAt: epoch.Add(time.Second),
		Hash: Hash(&v1.Container{Name: name, Image: "img"}),
	}
}

// Covers: node.lifecycle
func TestCompute(t *testing.T) {
	startupProbe := func(p *v1.Pod) { p.Spec.InitContainers[0].StartupProbe = &v1.Probe{} }
	restartAll := func(p *v1.Pod) {
		p.Spec.Containers[0].RestartPolicyRules = []v1.ContainerRestartRule{{
			Action:    v1.ContainerRestartRuleActionRestartAllContainers,
			ExitCodes: &v1.ContainerRestartRuleOnExitCodes{Operator: v1.ContainerRestartRuleOnExitCodesOpIn, Values: []int32{42}},
		}}
	}
	restartOn42 := func(p *v1.Pod) {
		p.Spec.Containers[0].RestartPolicyRules = []v1.ContainerRestartRule{{
			Action:    v1.ContainerRestartRuleActionRestart,
			ExitCodes: &v1.ContainerRestartRuleOnExitCodes{Operator: v1.ContainerRestartRuleOnExitCodesOpIn, Values: []int32{42}},
		}}
	}
	notReady := func(s *podstate.Pod) *podstate.Pod { s.Sandboxes[0].Ready = false; return s }
	always, onFailure, never := v1.RestartPolicyAlways, v1.RestartPolicyOnFailure, v1.RestartPolicyNever

	cases := map[string]struct {
		pod    *v1.Pod
		state  *podstate.Pod
		probes verdicts
		resize map[string]bool
		want   Plan
	}{
		"new pod": {
			pod: testPod(always, app("a", "b")), state: &podstate.Pod{},
			want: Plan{KillPod: true, CreateSandbox: true, Start: []int{0, 1}},
		},
		"new pod with init containers starts the first only": {
			pod: testPod(always, initC("i", "j"), app("a")), state: &podstate.Pod{},
			want: Plan{KillPod: true, CreateSandbox: true, Init: []int{0}},
		},
		"all running": {
			pod: testPod(always, app("a")), state: runtimeState(inState("a", podstate.Running, 0)),
			want: Plan{SandboxID: "s", Keep: map[string]bool{"a-id": true}},
		},
		"resize that wants a restart": {
			pod: testPod(always, sidecarC("s"), app("a", "b")), resize: map[string]bool{"a-id": true, "s-id": true},
			state: runtimeState(inState("s", podstate.Running, 0), inState("a", podstate.Running, 0), inState("b", podstate.Running, 0)),
			want: Plan{SandboxID: "s", Init: []int{0}, Start: []int{0}, Keep: map[string]bool{"b-id": true}, Kill: []Kill{
				{ID: "s-id", Name: "s", Message: "Init container s resize requires restart"},
				{ID: "a-id", Name: "a", Message: "Container a resize requires restart"},
			}},
		},
		"sandbox died, policy always": {
			pod: testPod(always, app("a")), state: notReady(runtimeState(inState("a", podstate.Exited, 137))),
			want: Plan{KillPod: true, CreateSandbox: true, Attempt: 1, SandboxID: "s", Start: []int{0}},
		},
		"sandbox died, policy never": {
			pod: testPod(never, app("a")), state: notReady(runtimeState(inState("a", podstate.Exited, 137))),
			want: Plan{KillPod: true, Attempt: 1, SandboxID: "s"},
		},
		"sandbox died after success, policy on failure": {
			pod: testPod(onFailure, app("a")), state: notReady(runtimeState(inState("a", podstate.Exited, 0))),
			want: Plan{KillPod: true, Attempt: 1, SandboxID: "s"},
		},
		"sandbox never got containers, policy never": {
			pod: testPod(never, app("a")), state: notReady(runtimeState()),
			want: Plan{KillPod: true, CreateSandbox: true, Attempt: 1, SandboxID: "s", Start: []int{0}},
		},
		"sandbox lost its address": {
			pod: testPod(always, app("a")), state: func() *podstate.Pod { s := runtimeState(); s.Sandboxes[0].IPs = nil; return s }(),
			want: Plan{KillPod: true, CreateSandbox: true, Attempt: 1, SandboxID: "s", Start: []int{0}},
		},
		"crashed container restarts beside a running one": {
			pod: testPod(always, app("a", "b")), state: runtimeState(inState("a", podstate.Exited, 1), inState("b", podstate.Running, 0)),
			want: Plan{SandboxID: "s", Start: []int{0}, Keep: map[string]bool{"b-id": true}},
		},
		"completed, policy never": {
			pod: testPod(never, app("a")), state: runtimeState(inState("a", podstate.Exited, 0)),
			want: Plan{KillPod: true, SandboxID: "s"},
		},
		"failed, policy on failure": {
			pod: testPod(onFailure, app("a")), state: runtimeState(inState("a", podstate.Exited, 2)),
			want: Plan{SandboxID: "s", Start: []int{0}},
		},
		"created container is started anew": {
			pod: testPod(never, app("a")), state: runtimeState(inState("a", podstate.Created, 0)),
			want: Plan{SandboxID: "s", Start: []int{0}},
		},
		"own rule restarts under policy never": {
			pod: testPod(never, app("a"), restartOn42), state: runtimeState(inState("a", podstate.Exited, 42)),
			want: Plan{SandboxID: "s", Start: []int{0}},
		},
		"own rule does not match": {
			pod: testPod(never, app("a"), restartOn42), state: runtimeState(inState("a", podstate.Exited, 1)),
			want: Plan{KillPod: true, SandboxID: "s"},
		},
		"restart all kills the others and runs init again": {
			pod:   testPod(never, initC("i"), app("a", "b"), restartAll),
			state: runtimeState(inState("a", podstate.Exited, 42), inState("b", podstate.Running, 0), inState("i", podstate.Exited, 0)),
			want: Plan{SandboxID: "s", Init: []int{0}, Kill: []Kill{{ID: "b-id", Name: "b", Reason: KillRestartAll,
				Message: "Container b is restarted with all containers of the pod"}}},
		},
		"liveness failure restarts": {
			pod: testPod(always, app("a")), state: runtimeState(inState("a", podstate.Running, 0)),
			probes: verdicts{live: map[string]Verdict{"a-id": VerdictFailure}},
			want: Plan{SandboxID: "s", Start: []int{0}, Kill: []Kill{{ID: "a-id", Name: "a", Reason: KillLivenessProbe,
				Message: "Container a failed liveness probe, will be restarted"}}},
		},
		"liveness failure under never ends the pod's work": {
			pod: testPod(never, app("a")), state: runtimeState(inState("a", podstate.Running, 0)),
			probes: verdicts{live: map[string]Verdict{"a-id": VerdictFailure}},
			want: Plan{KillPod: true, SandboxID: "s", Kill: []Kill{{ID: "a-id", Name: "a", Reason: KillLivenessProbe,
				Message: "Container a failed liveness probe"}}},
		},
		"changed image": {
			pod: testPod(always, app("a")),
			state: runtimeState(func() podstate.Container {
				c := inState("a", podstate.Running, 0)
				c.Hash = "old"
				return c
			}()),
			want: Plan{SandboxID: "s", Start: []int{0}, Kill: []Kill{{ID: "a-id", Name: "a",
				Message: "Container a definition changed, will be restarted"}}},
		},
		"second init after the first succeeded": {
			pod: testPod(always, initC("i", "j"), app("a")), state: runtimeState(inState("i", podstate.Exited, 0)),
			want: Plan{SandboxID: "s", Init: []int{1}},
		},
		"second init runs, first one's remains are gone": {
			pod: testPod(always, initC("i", "j"), app("a")), state: runtimeState(inState("j", podstate.Running, 0)),
			want: Plan{SandboxID: "s", Keep: map[string]bool{"j-id": true}},
		},
		"init failed, policy always": {
			pod: testPod(always, initC("i"), app("a")), state: runtimeState(inState("i", podstate.Exited, 1)),
			want: Plan{SandboxID: "s", Init: []int{0}},
		},
		"init failed, policy never": {
			pod: testPod(never, initC("i"), app("a")), state: runtimeState(inState("i", podstate.Exited, 1)),
			want: Plan{KillPod: true, SandboxID: "s"},
		},
		"init done": {
			pod: testPod(always, initC("i"), app("a")), state: runtimeState(inState("i", podstate.Exited, 0)),
			want: Plan{SandboxID: "s", Start: []int{0}},
		},
		"sidecar runs, next init starts": {
			pod: testPod(always, sidecarC("s1"), initC("i"), app("a")), state: runtimeState(inState("s1", podstate.Running, 0)),
			want: Plan{SandboxID: "s", Init: []int{1}, Keep: map[string]bool{"s1-id": true}},
		},
		"sidecar waits for its startup probe": {
			pod: testPod(always, sidecarC("s1"), app("a"), startupProbe), state: runtimeState(inState("s1", podstate.Running, 0)),
			want: Plan{SandboxID: "s", Keep: map[string]bool{"s1-id": true}},
		},
		"sidecar died beside a running init": {
			pod:   testPod(always, sidecarC("s1"), initC("i"), app("a")),
			state: runtimeState(inState("i", podstate.Running, 0), inState("s1", podstate.Exited, 1)),
			want:  Plan{SandboxID: "s", Init: []int{0}, Keep: map[string]bool{"i-id": true}},
		},
		"sidecar died beside the app, policy never": {
			pod: testPod(never, sidecarC("s1"), app("a")), state: runtimeState(inState("a", podstate.Running, 0), inState("s1", podstate.Exited, 1)),
			want: Plan{SandboxID: "s", Init: []int{0}, Keep: map[string]bool{"a-id": true}},
		},
		"app done, sidecar is not restarted": {
			pod: testPod(never, sidecarC("s1"), app("a")), state: runtimeState(inState("a", podstate.Exited, 0), inState("s1", podstate.Exited, 1)),
			want: Plan{KillPod: true, SandboxID: "s"},
		},
		"ephemeral container starts": {
			pod: testPod(always, app("a"), func(p *v1.Pod) {
				p.Spec.EphemeralContainers = []v1.EphemeralContainer{{EphemeralContainerCommon: v1.EphemeralContainerCommon{Name: "dbg"}}}
			}),
			state: runtimeState(inState("a", podstate.Running, 0)),
			want:  Plan{SandboxID: "s", Ephemeral: []int{0}, Keep: map[string]bool{"a-id": true}},
		},
		"deleted pod starts nothing": {
			pod: testPod(always, app("a"), func(p *v1.Pod) { p.DeletionTimestamp = &metav1.Time{Time: epoch} }), state: runtimeState(inState("a", podstate.Exited, 1)),
			want: Plan{KillPod: true, SandboxID: "s"},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got := Compute(tc.pod, tc.state, tc.probes, tc.resize)
			opts := cmp.Options{cmpopts.IgnoreFields(Kill{}, "Spec"), cmpopts.EquateEmpty()}
			if diff := cmp.Diff(tc.want, got, opts); diff != "" {
				t.Errorf("plan (-want +got):\n%s", diff)
			}
		})
	}
}
