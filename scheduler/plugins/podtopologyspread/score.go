package podtopologyspread

import (
	"context"
	"math"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"

	"skiff/scheduler/framework"
)

var scoreKey = framework.NewStateKey[*scoreState]("PreScore" + Name)

type scoreState struct {
	constraints []constraint
	// ignored nodes lack a label and score 0.
	ignored sets.Set[string]
	counts  []map[string]int64
	weights []float64
}

// PreScore counts the matching pods per topology value of the feasible nodes.
func (p *Plugin) PreScore(_ context.Context, state *framework.CycleState, pod *framework.PodInfo, nodes []*framework.NodeInfo) *framework.Status {
	constraints, err := p.constraints(pod.Pod, v1.ScheduleAnyway)
	if err != nil {
		return framework.AsStatus(err)
	}
	if len(constraints) == 0 {
		return framework.NewStatus(framework.Skip)
	}
	needAll := len(pod.Pod.Spec.TopologySpreadConstraints) > 0 || !p.system
	s := &scoreState{constraints: constraints, ignored: sets.New[string](), counts: make([]map[string]int64, len(constraints)), weights: make([]float64, len(constraints))}
	for i := range s.counts {
		s.counts[i] = map[string]int64{}
	}
	for _, n := range nodes {
		if needAll && !hasAll(n.Node, constraints) {
			s.ignored.Insert(n.Name())
			continue
		}
		for i := range constraints {
			if v, ok := n.Node.Labels[constraints[i].key]; ok {
				s.counts[i][v] = 0
			}
		}
	}
	for i := range constraints {
		size := len(s.counts[i])
		if constraints[i].key == v1.LabelHostname {
			size = len(nodes) - s.ignored.Len()
		}
		s.weights[i] = math.Log(float64(size + 2))
	}
	for _, n := range p.handle.Snapshot().Nodes() {
		if needAll && !hasAll(n.Node, constraints) {
			continue
		}
		for i := range constraints {
			c := &constraints[i]
			v, ok := n.Node.Labels[c.key]
			if !ok {
				continue
			}
			if _, ok := s.counts[i][v]; ok && c.includes(pod.Pod, n.Node) {
				s.counts[i][v] += int64(c.count(n.Pods, pod.Pod.Namespace))
			}
		}
	}
	framework.Write(state, scoreKey, s)
	return nil
}

// Score is the number of matching pods, weighted: low is good.
func (p *Plugin) Score(_ context.Context, state *framework.CycleState, _ *framework.PodInfo, node *framework.NodeInfo) (int64, *framework.Status) {
	s, ok := framework.Read(state, scoreKey)
	if !ok || s.ignored.Has(node.Name()) {
		return 0, nil
	}
	var sum float64
	for i := range s.constraints {
		if v, ok := node.Node.Labels[s.constraints[i].key]; ok {
			sum += float64(s.counts[i][v])*s.weights[i] + float64(s.constraints[i].maxSkew-1)
		}
	}
	return int64(math.Round(sum)), nil
}

// NormalizeScore turns the scores round.
func (p *Plugin) NormalizeScore(_ context.Context, state *framework.CycleState, _ *framework.PodInfo, scores []framework.NodeScore) *framework.Status {
	s, ok := framework.Read(state, scoreKey)
	if !ok {
		return nil
	}
	low, high := int64(math.MaxInt64), int64(0)
	for _, n := range scores {
		if !s.ignored.Has(n.Name) {
			low, high = min(low, n.Score), max(high, n.Score)
		}
	}
	for i := range scores {
		switch {
		case s.ignored.Has(scores[i].Name):
			scores[i].Score = 0
		case high == 0:
			scores[i].Score = framework.MaxNodeScore
		default:
			scores[i].Score = framework.MaxNodeScore * (high + low - scores[i].Score) / high
		}
	}
	return nil
}
