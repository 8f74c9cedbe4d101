// Package tainttoleration refuses nodes whose taints the pod does not tolerate,
// and prefers those with fewer PreferNoSchedule taints.
package tainttoleration

import (
	"context"

	v1 "k8s.io/api/core/v1"
	corev1helpers "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/klog/v2"

	"skiff/scheduler/framework"
)

// Name of the plugin.
const Name = "TaintToleration"

// ErrReason is the text for a taint that is not tolerated.
const ErrReason = "node(s) had untolerated taint(s)"

var stateKey = framework.NewStateKey[[]v1.Toleration]("PreScore" + Name)

// Plugin compares taints and tolerations.
type Plugin struct{}

// New makes the plugin.
func New(any, framework.Handle) (framework.Plugin, error) { return Plugin{}, nil }

// Name is the plugin's name.
func (Plugin) Name() string { return Name }

// EventsToRegister: a node whose taints the pod tolerates, or a new toleration.
func (Plugin) EventsToRegister() []framework.EventHint {
	return []framework.EventHint{
		{Event: framework.ClusterEvent{Resource: framework.Node, Action: framework.Add | framework.UpdateNodeTaint}, Hint: afterNode},
		{Event: framework.ClusterEvent{Resource: framework.TargetPod, Action: framework.UpdatePodToleration}},
	}
}

func afterNode(pod *v1.Pod, oldObj, newObj any) (framework.QueueingHint, error) {
	oldNode, node := framework.Cast[*v1.Node](oldObj, newObj)
	if node == nil || !untolerated(pod, node) {
		if oldNode == nil || untolerated(pod, oldNode) {
			return framework.Queue, nil
		}
	}
	return framework.QueueSkip, nil
}

func untolerated(pod *v1.Pod, node *v1.Node) bool {
	_, found := corev1helpers.FindMatchingUntoleratedTaint(klog.Background(), node.Spec.Taints, pod.Spec.Tolerations, func(t *v1.Taint) bool {
		return t.Effect == v1.TaintEffectNoSchedule || t.Effect == v1.TaintEffectNoExecute
	}, true)
	return found
}

// Filter refuses nodes with a NoSchedule or NoExecute taint that is not tolerated.
func (Plugin) Filter(_ context.Context, _ *framework.CycleState, pod *framework.PodInfo, node *framework.NodeInfo) *framework.Status {
	if untolerated(pod.Pod, node.Node) {
		return framework.NewStatus(framework.UnschedulableAndUnresolvable, ErrReason)
	}
	return nil
}

// PreScore keeps the tolerations that matter for PreferNoSchedule.
func (Plugin) PreScore(_ context.Context, state *framework.CycleState, pod *framework.PodInfo, nodes []*framework.NodeInfo) *framework.Status {
	tainted := false
	for _, n := range nodes {
		tainted = tainted || len(n.Node.Spec.Taints) > 0
	}
	if !tainted {
		return framework.NewStatus(framework.Skip)
	}
	var soft []v1.Toleration
	for _, t := range pod.Pod.Spec.Tolerations {
		if t.Effect == "" || t.Effect == v1.TaintEffectPreferNoSchedule {
			soft = append(soft, t)
		}
	}
	framework.Write(state, stateKey, soft)
	return nil
}

// Score counts the PreferNoSchedule taints that are not tolerated.
func (Plugin) Score(_ context.Context, state *framework.CycleState, _ *framework.PodInfo, node *framework.NodeInfo) (int64, *framework.Status) {
	soft, _ := framework.Read(state, stateKey)
	var n int64
	for i := range node.Node.Spec.Taints {
		t := &node.Node.Spec.Taints[i]
		if t.Effect == v1.TaintEffectPreferNoSchedule && !corev1helpers.TolerationsTolerateTaint(klog.Background(), soft, t, true) {
			n++
		}
	}
	return n, nil
}

// NormalizeScore prefers few.
func (Plugin) NormalizeScore(_ context.Context, _ *framework.CycleState, _ *framework.PodInfo, scores []framework.NodeScore) *framework.Status {
	framework.DefaultNormalize(framework.MaxNodeScore, true, scores)
	return nil
}
