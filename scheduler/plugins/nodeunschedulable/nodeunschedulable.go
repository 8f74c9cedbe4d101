// Package nodeunschedulable refuses cordoned nodes.
package nodeunschedulable

import (
	"context"

	v1 "k8s.io/api/core/v1"
	corev1helpers "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/klog/v2"

	"skiff/scheduler/framework"
)

// Name of the plugin.
const Name = "NodeUnschedulable"

// ErrReason is the text for a cordoned node.
const ErrReason = "node(s) were unschedulable"

// Plugin looks at spec.unschedulable.
type Plugin struct{}

// New makes the plugin.
func New(any, framework.Handle) (framework.Plugin, error) { return Plugin{}, nil }

// Name is the plugin's name.
func (Plugin) Name() string { return Name }

// EventsToRegister: a node that the pod may use, or a new toleration.
func (Plugin) EventsToRegister() []framework.EventHint {
	return []framework.EventHint{
		{Event: framework.ClusterEvent{Resource: framework.Node, Action: framework.Add | framework.UpdateNodeTaint}, Hint: afterNode},
		{Event: framework.ClusterEvent{Resource: framework.TargetPod, Action: framework.UpdatePodToleration}},
	}
}

func afterNode(pod *v1.Pod, oldObj, newObj any) (framework.QueueingHint, error) {
	_, node := framework.Cast[*v1.Node](oldObj, newObj)
	if node != nil && (!node.Spec.Unschedulable || tolerates(pod)) {
		return framework.Queue, nil
	}
	return framework.QueueSkip, nil
}

func tolerates(pod *v1.Pod) bool {
	return corev1helpers.TolerationsTolerateTaint(klog.Background(), pod.Spec.Tolerations, &v1.Taint{Key: v1.TaintNodeUnschedulable, Effect: v1.TaintEffectNoSchedule}, true)
}

// Filter refuses a cordoned node unless the pod tolerates it.
func (Plugin) Filter(_ context.Context, _ *framework.CycleState, pod *framework.PodInfo, node *framework.NodeInfo) *framework.Status {
	if node.Node.Spec.Unschedulable && !tolerates(pod.Pod) {
		return framework.NewStatus(framework.UnschedulableAndUnresolvable, ErrReason)
	}
	return nil
}
