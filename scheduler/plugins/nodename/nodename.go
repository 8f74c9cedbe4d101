// Package nodename lets a pod that names its node onto that node only.
package nodename

import (
	"context"

	"skiff/scheduler/framework"
)

// Name of the plugin.
const Name = "NodeName"

// ErrReason is the text for a node that is not the pod's.
const ErrReason = "node(s) didn't match the requested node name"

// Plugin compares spec.nodeName.
type Plugin struct{}

// New makes the plugin.
func New(any, framework.Handle) (framework.Plugin, error) { return Plugin{}, nil }

// Name is the plugin's name.
func (Plugin) Name() string { return Name }

// EventsToRegister: only a new node can help.
func (Plugin) EventsToRegister() []framework.EventHint {
	return []framework.EventHint{{Event: framework.ClusterEvent{Resource: framework.Node, Action: framework.Add}}}
}

// Filter refuses all nodes but the named one.
func (Plugin) Filter(_ context.Context, _ *framework.CycleState, pod *framework.PodInfo, node *framework.NodeInfo) *framework.Status {
	if want := pod.Pod.Spec.NodeName; want != "" && want != node.Name() {
		return framework.NewStatus(framework.UnschedulableAndUnresolvable, ErrReason)
	}
	return nil
}
