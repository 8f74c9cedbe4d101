package interpodaffinity

import (
	"context"
	"math"

	v1 "k8s.io/api/core/v1"

	"skiff/scheduler/framework"
)

var scoreKey = framework.NewStateKey[map[pair]int64]("PreScore" + Name)

// PreScore sums up the weights of preferred terms per topology value, and those
// of existing pods' required affinity.
func (p *Plugin) PreScore(_ context.Context, state *framework.CycleState, pod *framework.PodInfo, nodes []*framework.NodeInfo) *framework.Status {
	own := len(pod.PreferredAffinityTerms)+len(pod.PreferredAntiAffinityTerms) > 0
	if !own && p.ignorePreferred {
		return framework.NewStatus(framework.Skip)
	}
	all := p.handle.Snapshot().NodesWithAffinityPods()
	if own {
		all = p.handle.Snapshot().Nodes()
	}
	sums := map[pair]int64{}
	add := func(node *v1.Node, key string, w int64) {
		if v, ok := node.Labels[key]; ok {
			sums[pair{key, v}] += w
		}
	}
	mine := p.namespace(pod.Pod.Namespace)
	for _, n := range all {
		others := n.PodsWithAffinity
		if own {
			others = n.Pods
		}
		for _, other := range others {
			if own {
				ns := p.namespace(other.Pod.Namespace)
				for i := range pod.PreferredAffinityTerms {
					if t := &pod.PreferredAffinityTerms[i]; t.Matches(other.Pod, ns) {
						add(n.Node, t.TopologyKey, int64(t.Weight))
					}
				}
				for i := range pod.PreferredAntiAffinityTerms {
					if t := &pod.PreferredAntiAffinityTerms[i]; t.Matches(other.Pod, ns) {
						add(n.Node, t.TopologyKey, -int64(t.Weight))
					}
				}
			}
			for i := range other.RequiredAffinityTerms {
				if t := &other.RequiredAffinityTerms[i]; p.hardWeight > 0 && t.Matches(pod.Pod, mine) {
					add(n.Node, t.TopologyKey, p.hardWeight)
				}
			}
			if p.ignorePreferred {
				continue
			}
			for i := range other.PreferredAffinityTerms {
				if t := &other.PreferredAffinityTerms[i]; t.Matches(pod.Pod, mine) {
					add(n.Node, t.TopologyKey, int64(t.Weight))
				}
			}
			for i := range other.PreferredAntiAffinityTerms {
				if t := &other.PreferredAntiAffinityTerms[i]; t.Matches(pod.Pod, mine) {
					add(n.Node, t.TopologyKey, -int64(t.Weight))
				}
			}
		}
	}
	if len(sums) == 0 {
		return framework.NewStatus(framework.Skip)
	}
	framework.Write(state, scoreKey, sums)
	return nil
}

// Score sums up the node's topology values.
func (p *Plugin) Score(_ context.Context, state *framework.CycleState, _ *framework.PodInfo, node *framework.NodeInfo) (int64, *framework.Status) {
	sums, _ := framework.Read(state, scoreKey)
	var n int64
	for p, w := range sums {
		if v, ok := node.Node.Labels[p.key]; ok && v == p.value {
			n += w
		}
	}
	return n, nil
}

// NormalizeScore stretches the scores over the whole range.
func (p *Plugin) NormalizeScore(_ context.Context, _ *framework.CycleState, _ *framework.PodInfo, scores []framework.NodeScore) *framework.Status {
	low, high := int64(math.MaxInt64), int64(math.MinInt64)
	for _, s := range scores {
		low, high = min(low, s.Score), max(high, s.Score)
	}
	for i := range scores {
		if high == low {
			scores[i].Score = 0
			continue
		}
		scores[i].Score = int64(float64(framework.MaxNodeScore) * float64(scores[i].Score-low) / float64(high-low))
	}
	return nil
}
