// Package nodeaffinity matches nodeSelector and node affinity, also that which
// the configuration adds to every pod, and scores preferred terms.
package nodeaffinity

import (
	"context"
	"fmt"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	configv1 "k8s.io/kube-scheduler/config/v1"

	"skiff/scheduler/framework"
)

// Name of the plugin.
const Name = "NodeAffinity"

// The texts of refusals.
const (
	ErrReasonPod      = "node(s) didn't match Pod's node affinity/selector"
	errReasonEnforced = "node(s) didn't match scheduler-enforced node affinity"
	errReasonConflict = "pod affinity terms conflict"
)

var (
	filterKey = framework.NewStateKey[*nodeaffinity.RequiredNodeAffinity]("PreFilter" + Name)
	scoreKey  = framework.NewStateKey[*nodeaffinity.PreferredSchedulingTerms]("PreScore" + Name)
)

// Plugin matches nodes.
type Plugin struct {
	addedRequired  *nodeaffinity.NodeSelector
	addedPreferred *nodeaffinity.PreferredSchedulingTerms
}

// New makes the plugin from NodeAffinityArgs.
func New(args any, _ framework.Handle) (framework.Plugin, error) {
	p := &Plugin{}
	a, ok := args.(*configv1.NodeAffinityArgs)
	if !ok || a == nil || a.AddedAffinity == nil {
		return p, nil
	}
	var err error
	if r := a.AddedAffinity.RequiredDuringSchedulingIgnoredDuringExecution; r != nil {
		if p.addedRequired, err = nodeaffinity.NewNodeSelector(r); err != nil {
			return nil, fmt.Errorf("parsing addedAffinity.requiredDuringSchedulingIgnoredDuringExecution: %w", err)
		}
	}
	if t := a.AddedAffinity.PreferredDuringSchedulingIgnoredDuringExecution; len(t) > 0 {
		if p.addedPreferred, err = nodeaffinity.NewPreferredSchedulingTerms(t); err != nil {
			return nil, fmt.Errorf("parsing addedAffinity.preferredDuringSchedulingIgnoredDuringExecution: %w", err)
		}
	}
	return p, nil
}

// Name is the plugin's name.
func (*Plugin) Name() string { return Name }

// EventsToRegister: a node that matches came or was relabelled.
func (p *Plugin) EventsToRegister() []framework.EventHint {
	return []framework.EventHint{{Event: framework.ClusterEvent{Resource: framework.Node, Action: framework.Add | framework.UpdateNodeLabel}, Hint: p.afterNode}}
}

func (p *Plugin) afterNode(pod *v1.Pod, oldObj, newObj any) (framework.QueueingHint, error) {
	oldNode, node := framework.Cast[*v1.Node](oldObj, newObj)
	if node == nil || (p.addedRequired != nil && !p.addedRequired.Match(node)) {
		return framework.QueueSkip, nil
	}
	req := nodeaffinity.GetRequiredNodeAffinity(pod)
	match, err := req.Match(node)
	if err != nil {
		return framework.Queue, err
	}
	if !match {
		return framework.QueueSkip, nil
	}
	if oldNode != nil {
		if was, err := req.Match(oldNode); err == nil && was && (p.addedRequired == nil || p.addedRequired.Match(oldNode)) {
			return framework.QueueSkip, nil
		}
	}
	return framework.Queue, nil
}

// PreFilter parses the pod's terms, and narrows the nodes when all of them name nodes.
func (p *Plugin) PreFilter(_ context.Context, state *framework.CycleState, pod *framework.PodInfo, _ []*framework.NodeInfo) (*framework.PreFilterResult, *framework.Status) {
	a := pod.Pod.Spec.Affinity
	none := a == nil || a.NodeAffinity == nil || a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution == nil
	if p.addedRequired == nil && none && pod.Pod.Spec.NodeSelector == nil {
		return nil, framework.NewStatus(framework.Skip)
	}
	req := nodeaffinity.GetRequiredNodeAffinity(pod.Pod)
	framework.Write(state, filterKey, &req)
	if none {
		return nil, nil
	}
	terms := a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms
	if len(terms) == 0 {
		return nil, nil
	}
	var names sets.Set[string]
	for _, t := range terms {
		var of sets.Set[string]
		for _, f := range t.MatchFields {
			if f.Key == metav1.ObjectNameField && f.Operator == v1.NodeSelectorOpIn {
				if of == nil {
					of = sets.New(f.Values...)
				} else {
					of = of.Intersection(sets.New(f.Values...))
				}
			}
		}
		if of == nil {
			// One term that names no node may match any.
			return nil, nil
		}
		names = of.Union(names)
	}
	if len(names) == 0 {
		return nil, framework.NewStatus(framework.UnschedulableAndUnresolvable, errReasonConflict)
	}
	return &framework.PreFilterResult{NodeNames: names}, nil
}

// Filter matches one node.
func (p *Plugin) Filter(_ context.Context, state *framework.CycleState, pod *framework.PodInfo, node *framework.NodeInfo) *framework.Status {
	if p.addedRequired != nil && !p.addedRequired.Match(node.Node) {
		return framework.NewStatus(framework.UnschedulableAndUnresolvable, errReasonEnforced)
	}
	req, ok := framework.Read(state, filterKey)
	if !ok {
		r := nodeaffinity.GetRequiredNodeAffinity(pod.Pod)
		req = &r
	}
	if match, _ := req.Match(node.Node); !match {
		return framework.NewStatus(framework.UnschedulableAndUnresolvable, ErrReasonPod)
	}
	return nil
}

// PreScore parses the preferred terms.
func (p *Plugin) PreScore(_ context.Context, state *framework.CycleState, pod *framework.PodInfo, _ []*framework.NodeInfo) *framework.Status {
	var preferred *nodeaffinity.PreferredSchedulingTerms
	if a := pod.Pod.Spec.Affinity; a != nil && a.NodeAffinity != nil && len(a.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution) > 0 {
		var err error
		if preferred, err = nodeaffinity.NewPreferredSchedulingTerms(a.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution); err != nil {
			return framework.AsStatus(err)
		}
	}
	if preferred == nil && p.addedPreferred == nil {
		return framework.NewStatus(framework.Skip)
	}
	framework.Write(state, scoreKey, preferred)
	return nil
}

// Score adds the weights of the terms that match.
func (p *Plugin) Score(_ context.Context, state *framework.CycleState, _ *framework.PodInfo, node *framework.NodeInfo) (int64, *framework.Status) {
	var n int64
	if p.addedPreferred != nil {
		n += p.addedPreferred.Score(node.Node)
	}
	if preferred, _ := framework.Read(state, scoreKey); preferred != nil {
		n += preferred.Score(node.Node)
	}
	return n, nil
}

// NormalizeScore scales to the best node.
func (*Plugin) NormalizeScore(_ context.Context, _ *framework.CycleState, _ *framework.PodInfo, scores []framework.NodeScore) *framework.Status {
	framework.DefaultNormalize(framework.MaxNodeScore, false, scores)
	return nil
}
