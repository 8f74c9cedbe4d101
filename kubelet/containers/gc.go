package containers

import (
	"context"
	"errors"

	v1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"skiff/kubelet/podstate"
)

// Prune removes dead instances beyond the newest of each container, and
// sandboxes that a newer one has replaced. Logs of what stays are kept.
func (m *Manager) Prune(ctx context.Context, pod *v1.Pod, state *podstate.Pod) error {
	var errs []error
	seen := map[string]int{}
	keep := map[string]bool{}
	for i := range state.Containers {
		c := &state.Containers[i]
		seen[c.Name]++
		if c.State == podstate.Exited && seen[c.Name] > 2 {
			errs = append(errs, m.Remove(ctx, c))
			continue
		}
		keep[c.SandboxID] = true
	}
	for i := range state.Sandboxes {
		s := &state.Sandboxes[i]
		if i > 0 && !s.Ready && !keep[s.ID] {
			if err := m.cfg.Runtime.RemovePodSandbox(ctx, s.ID); err != nil && !podstate.IsNotFound(err) {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

// UpdateResources changes the limits of a running container in place.
func (m *Manager) UpdateResources(ctx context.Context, id string, r *runtimeapi.LinuxContainerResources) error {
	return m.cfg.Runtime.UpdateContainerResources(ctx, id, &runtimeapi.ContainerResources{Linux: r})
}
