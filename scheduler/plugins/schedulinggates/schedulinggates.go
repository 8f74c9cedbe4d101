// Package schedulinggates holds pods back until their scheduling gates are gone.
package schedulinggates

import (
	"context"
	"fmt"

	v1 "k8s.io/api/core/v1"

	"skiff/scheduler/framework"
)

// Name of the plugin.
const Name = "SchedulingGates"

// Plugin looks at spec.schedulingGates.
type Plugin struct{}

// New makes the plugin.
func New(any, framework.Handle) (framework.Plugin, error) { return Plugin{}, nil }

// Name is the plugin's name.
func (Plugin) Name() string { return Name }

// EventsToRegister: the gates of the pod itself are removed.
func (Plugin) EventsToRegister() []framework.EventHint {
	return []framework.EventHint{{Event: framework.ClusterEvent{Resource: framework.TargetPod, Action: framework.UpdatePodSchedulingGatesEliminated}}}
}

// PreEnqueue refuses a pod with gates.
func (Plugin) PreEnqueue(_ context.Context, pod *v1.Pod) *framework.Status {
	if len(pod.Spec.SchedulingGates) == 0 {
		return nil
	}
	names := make([]string, len(pod.Spec.SchedulingGates))
	for i, g := range pod.Spec.SchedulingGates {
		names[i] = g.Name
	}
	return framework.NewStatus(framework.UnschedulableAndUnresolvable, fmt.Sprintf("waiting for scheduling gates: %v", names))
}
