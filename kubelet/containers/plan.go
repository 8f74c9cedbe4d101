// Package containers makes a pod's sandbox and containers be what its spec
// asks: Compute decides from the pod, the runtime's state and the probes'
// verdicts, and a Manager carries the plan out through CRI.
package containers

import (
	"fmt"

	v1 "k8s.io/api/core/v1"

	"skiff/kubelet/podstate"
)

// Verdict is what a probe says about a running container.
type Verdict int

// The verdicts of a probe.
const (
	VerdictUnknown Verdict = iota
	VerdictSuccess
	VerdictFailure
)

// Probes answers, by container identifier, what liveness and startup probes
// found.
type Probes interface {
	Liveness(containerID string) Verdict
	Startup(containerID string) Verdict
}

// Why a container is killed.
const (
	KillStartupProbe  = "StartupProbe"
	KillLivenessProbe = "LivenessProbe"
	KillUnknown       = "Unknown"
	KillRestartAll    = "RestartAllContainers"
)

// Kill is one container to end.
type Kill struct {
	ID      string
	Name    string
	Spec    *v1.Container
	Message string
	Reason  string
}

// Plan is what has to be done for a pod now.
type Plan struct {
	// KillPod ends the sandbox and everything in it.
	KillPod bool
	// CreateSandbox asks for a new sandbox, with Attempt.
	CreateSandbox bool
	Attempt       uint32
	// SandboxID is the sandbox in use, when there is one.
	SandboxID string
	// Init, Start and Ephemeral are indexes into the pod's lists.
	Init      []int
	Start     []int
	Ephemeral []int
	Kill      []Kill
	// Keep holds the identifiers of the containers that stay as they are.
	Keep map[string]bool
}

// Compute decides what to do next for a pod. The running containers of resize, by
// identifier, have to be started again for their new resources.
func Compute(pod *v1.Pod, state *podstate.Pod, probes Probes, resize map[string]bool) Plan {
	recreate, attempt, sandboxID := sandboxChanged(pod, state)
	plan := Plan{KillPod: recreate, CreateSandbox: recreate, Attempt: attempt, SandboxID: sandboxID, Keep: map[string]bool{}}
	c := computation{pod: pod, state: state, probes: probes, resize: resize, plan: &plan}
	if recreate {
		c.newSandbox()
		return plan
	}
	c.epoch = restartEpoch(pod, state)
	c.killStale()
	c.ephemeral()
	if !c.initContainers() {
		return plan
	}
	c.appContainers()
	return plan
}

// newSandbox plans the start of a pod in a fresh sandbox.
func (c *computation) newSandbox() {
	pod, plan := c.pod, c.plan
	ranBefore := plan.Attempt != 0 && len(c.state.Containers) > 0
	var start []int
	for i := range pod.Spec.Containers {
		st := c.state.Latest(pod.Spec.Containers[i].Name)
		if st != nil && st.State == podstate.Exited && !ShouldRestart(pod, &pod.Spec.Containers[i], st) {
			continue
		}
		if st != nil && st.State != podstate.Exited && pod.Spec.RestartPolicy == v1.RestartPolicyNever && ranBefore && !restartAfter(pod, &pod.Spec.Containers[i], 137) {
			continue
		}
		start = append(start, i)
	}
	if ranBefore && pod.Spec.RestartPolicy == v1.RestartPolicyNever && !anyOwnPolicy(pod) {
		// The pod ran and lost its sandbox: it may not run again.
		plan.CreateSandbox = false
		return
	}
	if len(start) == 0 {
		plan.CreateSandbox = false
		return
	}
	if len(pod.Spec.InitContainers) > 0 {
		plan.Init = []int{0}
		return
	}
	plan.Start = start
}

// anyOwnPolicy reports whether a container has a policy or rules of its own.
func anyOwnPolicy(pod *v1.Pod) bool {
	for i := range pod.Spec.Containers {
		if c := &pod.Spec.Containers[i]; c.RestartPolicy != nil || len(c.RestartPolicyRules) > 0 {
			return true
		}
	}
	return false
}

// appContainers plans the main containers, once initialisation is done.
func (c *computation) appContainers() {
	pod, plan := c.pod, c.plan
	keep := 0
	for i := range pod.Spec.Containers {
		spec := &pod.Spec.Containers[i]
		st := c.latest(spec.Name)
		if st == nil || st.State != podstate.Running {
			if st != nil && st.State == podstate.Unknown {
				c.kill(st, spec, fmt.Sprintf("Container is in %q state, try killing it before restart", "Unknown"), KillUnknown)
			}
			if ShouldRestart(pod, spec, st) {
				plan.Start = append(plan.Start, i)
			}
			continue
		}
		message, reason, restart := "", "", restartAfterKill(pod, spec)
		switch {
		case st.Hash != "" && st.Hash != Hash(spec):
			message, restart = fmt.Sprintf("Container %s definition changed", spec.Name), true
		case c.probes.Liveness(st.ID) == VerdictFailure:
			message, reason = fmt.Sprintf("Container %s failed liveness probe", spec.Name), KillLivenessProbe
		case c.probes.Startup(st.ID) == VerdictFailure:
			message, reason = fmt.Sprintf("Container %s failed startup probe", spec.Name), KillStartupProbe
		case c.resize[st.ID]:
			message, restart = fmt.Sprintf("Container %s resize requires restart", spec.Name), true
		default:
			keep++
			plan.Keep[st.ID] = true
			continue
		}
		if restart {
			if !c.resize[st.ID] {
				message += ", will be restarted"
			}
			plan.Start = append(plan.Start, i)
		}
		c.kill(st, spec, message, reason)
	}
	if keep == 0 && len(plan.Start) == 0 {
		// Nothing of the pod is to run: sidecars end with it.
		plan.KillPod = true
		plan.Init = nil
	}
}

// ephemeral plans ephemeral containers, which start once and never again.
func (c *computation) ephemeral() {
	for i := range c.pod.Spec.EphemeralContainers {
		st := c.state.Latest(c.pod.Spec.EphemeralContainers[i].Name)
		if st == nil {
			c.plan.Ephemeral = append(c.plan.Ephemeral, i)
		} else if st.State == podstate.Running {
			c.plan.Keep[st.ID] = true
		}
	}
}

// sandboxChanged reports whether the pod needs a new sandbox, the attempt of
// that one, and the identifier of the newest existing one.
func sandboxChanged(pod *v1.Pod, state *podstate.Pod) (bool, uint32, string) {
	if state == nil || len(state.Sandboxes) == 0 {
		return true, 0, ""
	}
	ready := 0
	for i := range state.Sandboxes {
		if state.Sandboxes[i].Ready {
			ready++
		}
	}
	newest := &state.Sandboxes[0]
	switch {
	case ready > 1, !newest.Ready, newest.HostNetwork != pod.Spec.HostNetwork:
		return true, newest.Attempt + 1, newest.ID
	case !pod.Spec.HostNetwork && len(newest.IPs) == 0:
		return true, newest.Attempt + 1, newest.ID
	}
	return false, newest.Attempt, newest.ID
}
