package containers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"

	"skiff/kubelet/podstate"
)

// minimumGrace is given to every container, so that none is killed at once.
const minimumGrace = 2

// gracePeriod is how long a container has to end.
func gracePeriod(pod *v1.Pod, c *v1.Container, reason string, override *int64) int64 {
	grace := int64(minimumGrace)
	switch {
	case override != nil:
		return max(*override, 0)
	case pod.DeletionGracePeriodSeconds != nil:
		grace = *pod.DeletionGracePeriodSeconds
	case pod.Spec.TerminationGracePeriodSeconds != nil:
		grace = *pod.Spec.TerminationGracePeriodSeconds
		switch reason {
		case KillStartupProbe:
			if c.StartupProbe != nil && c.StartupProbe.TerminationGracePeriodSeconds != nil {
				grace = *c.StartupProbe.TerminationGracePeriodSeconds
			}
		case KillLivenessProbe:
			if c.LivenessProbe != nil && c.LivenessProbe.TerminationGracePeriodSeconds != nil {
				grace = *c.LivenessProbe.TerminationGracePeriodSeconds
			}
		}
	}
	return grace
}

// kill runs the preStop hook and stops one container.
func (m *Manager) kill(ctx context.Context, pod *v1.Pod, state *podstate.Pod, c *v1.Container, id, message, reason string, override *int64) error {
	grace := gracePeriod(pod, c, reason, override)
	if message == "" {
		message = fmt.Sprintf("Stopping container %s", c.Name)
	}
	ref := ContainerRef(pod, c.Name)
	m.cfg.Recorder.Event(ref, v1.EventTypeNormal, "Killing", message)
	if m.cfg.OnKilled != nil {
		m.cfg.OnKilled(pod.UID, c.Name, id)
	}
	if c.Lifecycle != nil && c.Lifecycle.PreStop != nil && grace > 0 && runs(state, id) {
		start := time.Now()
		hookCtx, cancel := context.WithTimeout(ctx, time.Duration(grace)*time.Second)
		ip := ""
		if s := state.ReadySandbox(); s != nil && len(s.IPs) > 0 {
			ip = s.IPs[0]
		}
		err := m.cfg.Hooks.Run(hookCtx, pod, c, id, ip, c.Lifecycle.PreStop)
		late := hookCtx.Err() != nil
		cancel()
		if err != nil && !late {
			m.cfg.Recorder.Event(ref, v1.EventTypeWarning, "FailedPreStopHook", "PreStopHook failed")
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		grace -= int64(time.Since(start).Seconds())
	}
	if override == nil || *override > 0 {
		grace = max(grace, minimumGrace)
	}
	err := m.cfg.Runtime.StopContainer(ctx, id, max(grace, 0))
	if err != nil && !podstate.IsNotFound(err) {
		return fmt.Errorf("failed to %q for %q of pod %s: %w", "KillContainer", c.Name, Full(pod), err)
	}
	return nil
}

func runs(state *podstate.Pod, id string) bool {
	st := state.ByID(id)
	return st == nil || st.State == podstate.Running
}

// KillPod ends all of the pod's containers, the sidecars last and in reverse
// order, then its sandboxes.
func (m *Manager) KillPod(ctx context.Context, pod *v1.Pod, state *podstate.Pod, override *int64) error {
	start := time.Now()
	var main []*podstate.Container
	sidecars := map[string][]*podstate.Container{}
	for i := range state.Containers {
		st := &state.Containers[i]
		if st.State != podstate.Running && st.State != podstate.Unknown {
			continue
		}
		if spec := specOf(pod, st.Name); IsInit(pod, st.Name) && IsSidecar(spec) {
			sidecars[st.Name] = append(sidecars[st.Name], st)
		} else {
			main = append(main, st)
		}
	}
	err := m.killAll(ctx, pod, state, main, override)
	for i := len(pod.Spec.InitContainers) - 1; i >= 0 && ctx.Err() == nil; i-- {
		list := sidecars[pod.Spec.InitContainers[i].Name]
		if len(list) == 0 {
			continue
		}
		// What the others used of the grace period is gone for the sidecars.
		left := gracePeriod(pod, &pod.Spec.InitContainers[i], "", override) - int64(time.Since(start).Seconds())
		left = max(left, minimumGrace)
		if override != nil {
			left = min(left, max(*override, 0))
		}
		err = errors.Join(err, m.killAll(ctx, pod, state, list, &left))
	}
	if err != nil {
		return err
	}
	for i := range state.Sandboxes {
		s := &state.Sandboxes[i]
		if stopErr := m.cfg.Runtime.StopPodSandbox(ctx, s.ID); stopErr != nil && !podstate.IsNotFound(stopErr) {
			err = errors.Join(err, fmt.Errorf("failed to %q for %q with KillPodSandboxError: %w", "KillPodSandbox", pod.UID, stopErr))
		}
	}
	return err
}

func (m *Manager) killAll(ctx context.Context, pod *v1.Pod, state *podstate.Pod, list []*podstate.Container, override *int64) error {
	var wg sync.WaitGroup
	errs := make([]error, len(list))
	for i, st := range list {
		wg.Go(func() { errs[i] = m.kill(ctx, pod, state, specOf(pod, st.Name), st.ID, "", "", override) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// specOf returns the spec of the named container; one that the pod no longer
// has is known by its name only.
func specOf(pod *v1.Pod, name string) *v1.Container {
	for _, list := range [][]v1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	for i := range pod.Spec.EphemeralContainers {
		if pod.Spec.EphemeralContainers[i].Name == name {
			c := v1.Container(pod.Spec.EphemeralContainers[i].EphemeralContainerCommon)
			return &c
		}
	}
	return &v1.Container{Name: name}
}

// Remove removes a container that has ended, with its log.
func (m *Manager) Remove(ctx context.Context, c *podstate.Container) error {
	if err := m.cfg.Runtime.RemoveContainer(ctx, c.ID); err != nil && !podstate.IsNotFound(err) {
		return fmt.Errorf("remove container %s: %w", c.ID, err)
	}
	if c.LogPath != "" {
		_ = os.Remove(c.LogPath)
	}
	return nil
}

// Destroy removes everything of a pod from the runtime, and its logs.
func (m *Manager) Destroy(ctx context.Context, pod *v1.Pod, state *podstate.Pod) error {
	var errs []error
	for i := range state.Containers {
		c := &state.Containers[i]
		if err := m.Remove(ctx, c); err != nil {
			errs = append(errs, err)
		}
		if m.cfg.ContainerLogs != "" {
			_ = os.Remove(LogLink(m.cfg.ContainerLogs, pod.Name, pod.Namespace, c.Name, c.ID))
		}
	}
	for i := range state.Sandboxes {
		if err := m.cfg.Runtime.RemovePodSandbox(ctx, state.Sandboxes[i].ID); err != nil && !podstate.IsNotFound(err) {
			errs = append(errs, fmt.Errorf("remove sandbox %s: %w", state.Sandboxes[i].ID, err))
		}
	}
	if len(errs) == 0 {
		errs = append(errs, os.RemoveAll(m.logDir(pod)))
	}
	return errors.Join(errs...)
}
