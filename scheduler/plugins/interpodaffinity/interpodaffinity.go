// Package interpodaffinity places pods near or away from others, as the terms
// of either side say.
package interpodaffinity

import (
	"context"
	"maps"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	configv1 "k8s.io/kube-scheduler/config/v1"

	"skiff/scheduler/framework"
)

// Name of the plugin.
const Name = "InterPodAffinity"

// The texts of refusals.
const (
	ErrReasonExistingAntiAffinity = "node(s) didn't satisfy existing pods anti-affinity rules"
	ErrReasonAffinity             = "node(s) didn't match pod affinity rules"
	ErrReasonAntiAffinity         = "node(s) didn't match pod anti-affinity rules"
)

// Plugin matches pods with pods.
type Plugin struct {
	handle          framework.Handle
	hardWeight      int64
	ignorePreferred bool
}

// New makes the plugin from InterPodAffinityArgs.
func New(args any, h framework.Handle) (framework.Plugin, error) {
	p := &Plugin{handle: h, hardWeight: 1}
	if a, ok := args.(*configv1.InterPodAffinityArgs); ok && a != nil {
		if a.HardPodAffinityWeight != nil {
			p.hardWeight = int64(*a.HardPodAffinityWeight)
		}
		p.ignorePreferred = a.IgnorePreferredTermsOfExistingPods
	}
	h.Informers().Core().V1().Namespaces().Informer()
	return p, nil
}

// Name is the plugin's name.
func (*Plugin) Name() string { return Name }

// EventsToRegister: pods came, went or were relabelled, or nodes did.
func (p *Plugin) EventsToRegister() []framework.EventHint {
	return []framework.EventHint{
		{Event: framework.ClusterEvent{Resource: framework.AssignedPod, Action: framework.Add | framework.Delete | framework.UpdatePodLabel}, Hint: p.afterPod},
		{Event: framework.ClusterEvent{Resource: framework.TargetPod, Action: framework.UpdatePodLabel}},
		{Event: framework.ClusterEvent{Resource: framework.Node, Action: framework.Add | framework.UpdateNodeLabel}},
	}
}

// afterPod skips pods that no term of either side is about.
func (p *Plugin) afterPod(pod *v1.Pod, oldObj, newObj any) (framework.QueueingHint, error) {
	o, n := framework.Cast[*v1.Pod](oldObj, newObj)
	mine, err := framework.NewPodInfo(pod)
	if err != nil {
		return framework.Queue, err
	}
	for _, other := range []*v1.Pod{o, n} {
		if other == nil {
			continue
		}
		ns := p.namespace(other.Namespace)
		for _, terms := range [][]framework.AffinityTerm{mine.RequiredAffinityTerms, mine.RequiredAntiAffinityTerms} {
			for i := range terms {
				if terms[i].Matches(other, ns) {
					return framework.Queue, nil
				}
			}
		}
		theirs, err := framework.NewPodInfo(other)
		if err != nil {
			return framework.Queue, err
		}
		for i := range theirs.RequiredAntiAffinityTerms {
			if theirs.RequiredAntiAffinityTerms[i].Matches(pod, p.namespace(pod.Namespace)) {
				return framework.Queue, nil
			}
		}
	}
	return framework.QueueSkip, nil
}

// namespace gives the labels of a namespace, nil when it is unknown.
func (p *Plugin) namespace(name string) labels.Set {
	ns, err := p.handle.Informers().Core().V1().Namespaces().Lister().Get(name)
	if err != nil {
		return nil
	}
	return ns.Labels
}

type pair struct{ key, value string }

// counts are matching pods per topology value. Entries never stay at zero.
type counts map[pair]int

func (c counts) add(node *v1.Node, key string, delta int) {
	v, ok := node.Labels[key]
	if !ok {
		return
	}
	p := pair{key, v}
	if c[p] += delta; c[p] == 0 {
		delete(c, p)
	}
}

var filterKey = framework.NewStateKey[*filterState]("PreFilter" + Name)

type filterState struct {
	// existing: values where pods that have required anti-affinity refuse the pod.
	existing counts
	affinity counts
	anti     counts
	nsLabels labels.Set
}

// CloneState copies what dry runs change.
func (s *filterState) CloneState() any {
	return &filterState{existing: maps.Clone(s.existing), affinity: maps.Clone(s.affinity), anti: maps.Clone(s.anti), nsLabels: s.nsLabels}
}

// count takes one pod of a node in or out.
func (p *Plugin) count(s *filterState, pod, other *framework.PodInfo, node *v1.Node, delta int) {
	for i := range other.RequiredAntiAffinityTerms {
		if t := &other.RequiredAntiAffinityTerms[i]; t.Matches(pod.Pod, s.nsLabels) {
			s.existing.add(node, t.TopologyKey, delta)
		}
	}
	if len(pod.RequiredAffinityTerms)+len(pod.RequiredAntiAffinityTerms) == 0 {
		return
	}
	ns := p.namespace(other.Pod.Namespace)
	if matchesAll(pod.RequiredAffinityTerms, other.Pod, ns) {
		for i := range pod.RequiredAffinityTerms {
			s.affinity.add(node, pod.RequiredAffinityTerms[i].TopologyKey, delta)
		}
	}
	for i := range pod.RequiredAntiAffinityTerms {
		if t := &pod.RequiredAntiAffinityTerms[i]; t.Matches(other.Pod, ns) {
			s.anti.add(node, t.TopologyKey, delta)
		}
	}
}

func matchesAll(terms []framework.AffinityTerm, pod *v1.Pod, ns labels.Set) bool {
	for i := range terms {
		if !terms[i].Matches(pod, ns) {
			return false
		}
	}
	return len(terms) > 0
}

// PreFilter counts, over all nodes when the pod has terms of its own, else
// only over those whose pods have anti-affinity.
func (p *Plugin) PreFilter(_ context.Context, state *framework.CycleState, pod *framework.PodInfo, nodes []*framework.NodeInfo) (*framework.PreFilterResult, *framework.Status) {
	s := &filterState{existing: counts{}, affinity: counts{}, anti: counts{}, nsLabels: p.namespace(pod.Pod.Namespace)}
	own := len(pod.RequiredAffinityTerms)+len(pod.RequiredAntiAffinityTerms) > 0
	for _, n := range nodes {
		pods := n.PodsWithRequiredAntiAffinity
		if own {
			pods = n.Pods
		}
		for _, other := range pods {
			p.count(s, pod, other, n.Node, 1)
		}
	}
	if !own && len(s.existing) == 0 {
		return nil, framework.NewStatus(framework.Skip)
	}
	framework.Write(state, filterKey, s)
	return nil, nil
}

// AddPod follows a dry run.
func (p *Plugin) AddPod(_ context.Context, state *framework.CycleState, pod, added *framework.PodInfo, node *framework.NodeInfo) *framework.Status {
	if s, ok := framework.Read(state, filterKey); ok {
		p.count(s, pod, added, node.Node, 1)
	}
	return nil
}

// RemovePod follows a dry run.
func (p *Plugin) RemovePod(_ context.Context, state *framework.CycleState, pod, removed *framework.PodInfo, node *framework.NodeInfo) *framework.Status {
	if s, ok := framework.Read(state, filterKey); ok {
		p.count(s, pod, removed, node.Node, -1)
	}
	return nil
}

// Filter checks the node's values against the counts.
func (p *Plugin) Filter(_ context.Context, state *framework.CycleState, pod *framework.PodInfo, node *framework.NodeInfo) *framework.Status {
	s, ok := framework.Read(state, filterKey)
	if !ok {
		return nil
	}
	if !s.affine(pod, node.Node) {
		return framework.NewStatus(framework.UnschedulableAndUnresolvable, ErrReasonAffinity)
	}
	for i := range pod.RequiredAntiAffinityTerms {
		key := pod.RequiredAntiAffinityTerms[i].TopologyKey
		if v, ok := node.Node.Labels[key]; ok && s.anti[pair{key, v}] > 0 {
			return framework.NewStatus(framework.Unschedulable, ErrReasonAntiAffinity)
		}
	}
	if len(s.existing) > 0 {
		for key, v := range node.Node.Labels {
			if s.existing[pair{key, v}] > 0 {
				return framework.NewStatus(framework.Unschedulable, ErrReasonExistingAntiAffinity)
			}
		}
	}
	return nil
}

// affine is true when each term has a matching pod in the node's topology, or
// the pod is the first of a group that it itself belongs to.
func (s *filterState) affine(pod *framework.PodInfo, node *v1.Node) bool {
	found := true
	for i := range pod.RequiredAffinityTerms {
		key := pod.RequiredAffinityTerms[i].TopologyKey
		v, ok := node.Labels[key]
		if !ok {
			return false
		}
		found = found && s.affinity[pair{key, v}] > 0
	}
	return found || (len(s.affinity) == 0 && matchesAll(pod.RequiredAffinityTerms, pod.Pod, s.nsLabels))
}
