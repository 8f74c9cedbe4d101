// Package podtopologyspread spreads pods over the values of a node label.
package podtopologyspread

import (
	"context"
	"fmt"

	v1 "k8s.io/api/core/v1"
	configv1 "k8s.io/kube-scheduler/config/v1"

	"skiff/scheduler/framework"
)

// Name of the plugin.
const Name = "PodTopologySpread"

// The texts of refusals.
const (
	ErrReasonConstraintsNotMatch = "node(s) didn't match pod topology spread constraints"
	ErrReasonNodeLabelNotMatch   = ErrReasonConstraintsNotMatch + " (missing required label)"
)

// Plugin counts matching pods per topology value.
type Plugin struct {
	handle   framework.Handle
	defaults []v1.TopologySpreadConstraint
	// system: the defaults are the built-in ones, which nodes without all labels may ignore.
	system bool
}

// New makes the plugin from PodTopologySpreadArgs.
func New(args any, h framework.Handle) (framework.Plugin, error) {
	p := &Plugin{handle: h, defaults: systemDefaults(), system: true}
	if a, ok := args.(*configv1.PodTopologySpreadArgs); ok && a != nil && a.DefaultingType == configv1.ListDefaulting {
		p.defaults, p.system = a.DefaultConstraints, false
		for i, c := range p.defaults {
			if c.LabelSelector != nil {
				return nil, fmt.Errorf("defaultConstraints[%d].labelSelector: Forbidden: constraint must not define a selector, as they deduced for each pod", i)
			}
		}
	} else if ok && a != nil && len(a.DefaultConstraints) > 0 {
		return nil, fmt.Errorf("defaultingType: Invalid value: %q: when .defaultConstraints are not empty set it to List", configv1.SystemDefaulting)
	}
	// The listers are asked for here, so that the factory starts their informers.
	h.Informers().Core().V1().Services().Informer()
	h.Informers().Core().V1().ReplicationControllers().Informer()
	h.Informers().Apps().V1().ReplicaSets().Informer()
	h.Informers().Apps().V1().StatefulSets().Informer()
	return p, nil
}

func systemDefaults() []v1.TopologySpreadConstraint {
	return []v1.TopologySpreadConstraint{
		{TopologyKey: v1.LabelHostname, WhenUnsatisfiable: v1.ScheduleAnyway, MaxSkew: 3},
		{TopologyKey: v1.LabelTopologyZone, WhenUnsatisfiable: v1.ScheduleAnyway, MaxSkew: 5},
	}
}

// Name is the plugin's name.
func (*Plugin) Name() string { return Name }

// EventsToRegister: pods came, went or changed labels, or nodes did.
func (*Plugin) EventsToRegister() []framework.EventHint {
	return []framework.EventHint{
		{Event: framework.ClusterEvent{Resource: framework.AssignedPod, Action: framework.Add | framework.Delete | framework.UpdatePodLabel}, Hint: afterPod},
		{Event: framework.ClusterEvent{Resource: framework.TargetPod, Action: framework.UpdatePodLabel}},
		{Event: framework.ClusterEvent{Resource: framework.Node, Action: framework.Add | framework.Delete | framework.UpdateNodeLabel | framework.UpdateNodeTaint}},
	}
}

// afterPod: pods of other namespaces are never counted.
func afterPod(pod *v1.Pod, oldObj, newObj any) (framework.QueueingHint, error) {
	o, n := framework.Cast[*v1.Pod](oldObj, newObj)
	if n == nil {
		n = o
	}
	if n == nil || n.Namespace != pod.Namespace {
		return framework.QueueSkip, nil
	}
	constraints, err := parse(pod, pod.Spec.TopologySpreadConstraints, v1.DoNotSchedule)
	if err != nil {
		return framework.Queue, err
	}
	for _, c := range constraints {
		if c.counts(n) || (o != nil && c.counts(o)) {
			return framework.Queue, nil
		}
	}
	if len(constraints) == 0 {
		return framework.Queue, nil
	}
	return framework.QueueSkip, nil
}

var filterKey = framework.NewStateKey[*filterState]("PreFilter" + Name)

// filterState holds the counts per constraint and value.
type filterState struct {
	constraints []constraint
	counts      []map[string]int
}

// CloneState copies what dry runs change.
func (s *filterState) CloneState() any {
	c := &filterState{constraints: s.constraints, counts: make([]map[string]int, len(s.counts))}
	for i, m := range s.counts {
		c.counts[i] = make(map[string]int, len(m))
		for k, v := range m {
			c.counts[i][k] = v
		}
	}
	return c
}

func (s *filterState) least(i int) int {
	if len(s.counts[i]) < int(s.constraints[i].minDomains) {
		return 0
	}
	low := -1
	for _, n := range s.counts[i] {
		if low < 0 || n < low {
			low = n
		}
	}
	return max(low, 0)
}

// PreFilter counts the matching pods.
func (p *Plugin) PreFilter(_ context.Context, state *framework.CycleState, pod *framework.PodInfo, nodes []*framework.NodeInfo) (*framework.PreFilterResult, *framework.Status) {
	constraints, err := p.constraints(pod.Pod, v1.DoNotSchedule)
	if err != nil {
		return nil, framework.AsStatus(err)
	}
	if len(constraints) == 0 {
		return nil, framework.NewStatus(framework.Skip)
	}
	s := &filterState{constraints: constraints, counts: make([]map[string]int, len(constraints))}
	for i := range s.counts {
		s.counts[i] = map[string]int{}
	}
	for _, n := range nodes {
		if !hasAll(n.Node, constraints) {
			continue
		}
		for i := range constraints {
			if c := &constraints[i]; c.includes(pod.Pod, n.Node) {
				s.counts[i][n.Node.Labels[c.key]] += c.count(n.Pods, pod.Pod.Namespace)
			}
		}
	}
	framework.Write(state, filterKey, s)
	return nil, nil
}

// AddPod and RemovePod follow a dry run.
func (p *Plugin) AddPod(_ context.Context, state *framework.CycleState, pod, added *framework.PodInfo, node *framework.NodeInfo) *framework.Status {
	update(state, pod.Pod, added.Pod, node.Node, 1)
	return nil
}

// RemovePod is the reverse of AddPod.
func (p *Plugin) RemovePod(_ context.Context, state *framework.CycleState, pod, removed *framework.PodInfo, node *framework.NodeInfo) *framework.Status {
	update(state, pod.Pod, removed.Pod, node.Node, -1)
	return nil
}

func update(state *framework.CycleState, pod, other *v1.Pod, node *v1.Node, delta int) {
	s, ok := framework.Read(state, filterKey)
	if !ok || other.Namespace != pod.Namespace || !hasAll(node, s.constraints) {
		return
	}
	for i := range s.constraints {
		if c := &s.constraints[i]; c.counts(other) && c.includes(pod, node) {
			s.counts[i][node.Labels[c.key]] += delta
		}
	}
}

// Filter refuses a node on which the skew would be too large.
func (p *Plugin) Filter(_ context.Context, state *framework.CycleState, pod *framework.PodInfo, node *framework.NodeInfo) *framework.Status {
	s, ok := framework.Read(state, filterKey)
	if !ok {
		return nil
	}
	for i := range s.constraints {
		c := &s.constraints[i]
		value, ok := node.Node.Labels[c.key]
		if !ok {
			return framework.NewStatus(framework.UnschedulableAndUnresolvable, ErrReasonNodeLabelNotMatch)
		}
		self := 0
		if c.selector.Matches(labelsOf(pod.Pod)) {
			self = 1
		}
		if s.counts[i][value]+self-s.least(i) > int(c.maxSkew) {
			return framework.NewStatus(framework.Unschedulable, ErrReasonConstraintsNotMatch)
		}
	}
	return nil
}
