package containers

import (
	"fmt"
	"time"

	v1 "k8s.io/api/core/v1"

	"skiff/kubelet/podstate"
)

// computation carries the inputs of one Compute.
type computation struct {
	pod    *v1.Pod
	state  *podstate.Pod
	probes Probes
	resize map[string]bool
	plan   *Plan
	epoch  time.Time
}

// latest is the newest instance that counts, see restartEpoch.
func (c *computation) latest(name string) *podstate.Container {
	st := c.state.Latest(name)
	if st != nil && !c.epoch.IsZero() && st.CreatedAt.Before(c.epoch) {
		return nil
	}
	return st
}

func (c *computation) kill(st *podstate.Container, spec *v1.Container, message, reason string) {
	c.plan.Kill = append(c.plan.Kill, Kill{ID: st.ID, Name: spec.Name, Spec: spec, Message: message, Reason: reason})
}

// killStale ends what still runs from before a RestartAllContainers.
func (c *computation) killStale() {
	if c.epoch.IsZero() {
		return
	}
	for _, list := range [][]v1.Container{c.pod.Spec.InitContainers, c.pod.Spec.Containers} {
		for i := range list {
			st := c.state.Latest(list[i].Name)
			if st != nil && st.State != podstate.Exited && st.CreatedAt.Before(c.epoch) {
				c.kill(st, &list[i], fmt.Sprintf("Container %s is restarted with all containers of the pod", list[i].Name), KillRestartAll)
			}
		}
	}
}

// initContainers plans the init containers and sidecars in their order, and
// reports whether initialisation is complete, so that the main containers may
// run. Sidecars are looked after for the pod's whole life.
func (c *computation) initContainers() bool {
	specs := c.pod.Spec.InitContainers
	if len(specs) == 0 {
		return true
	}
	initialized := c.anyAppContainer()
	for i := range specs {
		spec := &specs[i]
		// An instance of a later one proves that this one was passed, even
		// when its own remains are gone.
		passed := initialized || c.anyInitAfter(i)
		var goOn bool
		if IsSidecar(spec) {
			goOn = c.sidecar(i, passed)
		} else {
			goOn = passed || c.regularInit(i)
		}
		if !goOn {
			return false
		}
	}
	return true
}

// regularInit plans one run-to-completion container that no later one has
// passed; true means that it succeeded.
func (c *computation) regularInit(i int) bool {
	spec := &c.pod.Spec.InitContainers[i]
	st := c.latest(spec.Name)
	switch {
	case st == nil:
		c.plan.Init = append(c.plan.Init, i)
		return false
	case st.State == podstate.Running:
		c.plan.Keep[st.ID] = true
		return false
	case st.State == podstate.Exited && st.ExitCode == 0:
		return true
	case st.State == podstate.Exited:
		if initRestarts(c.pod, spec, st.ExitCode) {
			c.plan.Init = append(c.plan.Init, i)
		} else {
			c.plan.KillPod = true
			c.plan.Init = nil
		}
		return false
	}
	c.kill(st, spec, fmt.Sprintf("Init container is in %q state, try killing it before restart", stateName(st.State)), KillUnknown)
	c.plan.Init = append(c.plan.Init, i)
	return false
}

// sidecar plans one restartable init container; true means that what comes
// after it may go on.
func (c *computation) sidecar(i int, passed bool) bool {
	spec := &c.pod.Spec.InitContainers[i]
	st := c.latest(spec.Name)
	if st == nil || st.State == podstate.Exited {
		c.plan.Init = append(c.plan.Init, i)
		return passed
	}
	if st.State != podstate.Running {
		c.kill(st, spec, fmt.Sprintf("Init container is in %q state, try killing it before restart", stateName(st.State)), KillUnknown)
		c.plan.Init = append(c.plan.Init, i)
		return passed
	}
	started := true
	if spec.StartupProbe != nil {
		switch c.probes.Startup(st.ID) {
		case VerdictFailure:
			c.kill(st, spec, fmt.Sprintf("Init container %s failed startup probe", spec.Name), KillStartupProbe)
			c.plan.Init = append(c.plan.Init, i)
			return passed
		case VerdictUnknown:
			started = false
		}
	}
	if started && c.probes.Liveness(st.ID) == VerdictFailure {
		c.kill(st, spec, fmt.Sprintf("Init container %s failed liveness probe", spec.Name), KillLivenessProbe)
		c.plan.Init = append(c.plan.Init, i)
		return passed
	}
	if c.resize[st.ID] {
		c.kill(st, spec, fmt.Sprintf("Init container %s resize requires restart", spec.Name), "")
		c.plan.Init = append(c.plan.Init, i)
		return passed
	}
	c.plan.Keep[st.ID] = true
	return started || passed
}

// initRestarts says whether a failed init container is tried again. Its
// policy is the pod's, where Always means until it succeeds.
func initRestarts(pod *v1.Pod, spec *v1.Container, exitCode int32) bool {
	if matchingRule(spec, exitCode) != nil {
		return true
	}
	if spec.RestartPolicy != nil {
		return *spec.RestartPolicy != v1.ContainerRestartPolicyNever
	}
	return pod.Spec.RestartPolicy != v1.RestartPolicyNever
}

func (c *computation) anyAppContainer() bool {
	for i := range c.pod.Spec.Containers {
		if c.latest(c.pod.Spec.Containers[i].Name) != nil {
			return true
		}
	}
	return false
}

func (c *computation) anyInitAfter(i int) bool {
	for j := i + 1; j < len(c.pod.Spec.InitContainers); j++ {
		if c.latest(c.pod.Spec.InitContainers[j].Name) != nil {
			return true
		}
	}
	return false
}

func stateName(s podstate.State) string {
	switch s {
	case podstate.Created:
		return "created"
	case podstate.Running:
		return "running"
	case podstate.Exited:
		return "exited"
	}
	return "unknown"
}
