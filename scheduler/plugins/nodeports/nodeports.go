// Package nodeports refuses nodes on which a host port of the pod is taken.
package nodeports

import (
	"context"

	v1 "k8s.io/api/core/v1"

	"skiff/scheduler/framework"
)

// Name of the plugin.
const Name = "NodePorts"

// ErrReason is the text for a taken port.
const ErrReason = "node(s) didn't have free ports for the requested pod ports"

var stateKey = framework.NewStateKey[[]framework.HostPort]("PreFilter" + Name)

// Plugin compares host ports.
type Plugin struct{}

// New makes the plugin.
func New(any, framework.Handle) (framework.Plugin, error) { return Plugin{}, nil }

// Name is the plugin's name.
func (Plugin) Name() string { return Name }

// EventsToRegister: a pod that held the port is gone, or a node came.
func (Plugin) EventsToRegister() []framework.EventHint {
	return []framework.EventHint{
		{Event: framework.ClusterEvent{Resource: framework.AssignedPod, Action: framework.Delete}, Hint: afterPodDeleted},
		{Event: framework.ClusterEvent{Resource: framework.Node, Action: framework.Add}},
	}
}

func afterPodDeleted(pod *v1.Pod, oldObj, newObj any) (framework.QueueingHint, error) {
	gone, _ := framework.Cast[*v1.Pod](oldObj, newObj)
	if gone == nil || gone.Spec.NodeName == "" {
		return framework.QueueSkip, nil
	}
	held := framework.NewNodeInfo(nil)
	info, err := framework.NewPodInfo(gone)
	if err != nil {
		return framework.Queue, err
	}
	held.AddPod(info)
	for _, p := range framework.PodHostPorts(pod) {
		if held.UsedPorts.Conflicts(p) {
			return framework.Queue, nil
		}
	}
	return framework.QueueSkip, nil
}

// PreFilter lists the pod's ports; without any the plugin has nothing to say.
func (Plugin) PreFilter(_ context.Context, state *framework.CycleState, pod *framework.PodInfo, _ []*framework.NodeInfo) (*framework.PreFilterResult, *framework.Status) {
	ports := framework.PodHostPorts(pod.Pod)
	if len(ports) == 0 {
		return nil, framework.NewStatus(framework.Skip)
	}
	framework.Write(state, stateKey, ports)
	return nil, nil
}

// Filter refuses nodes where one of the ports is taken.
func (Plugin) Filter(_ context.Context, state *framework.CycleState, _ *framework.PodInfo, node *framework.NodeInfo) *framework.Status {
	ports, _ := framework.Read(state, stateKey)
	for _, p := range ports {
		if node.UsedPorts.Conflicts(p) {
			return framework.NewStatus(framework.Unschedulable, ErrReason)
		}
	}
	return nil
}
