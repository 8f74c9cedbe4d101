package scheduler

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"

	"skiff/scheduler/framework"
)

const (
	minFeasible      = 100
	minPercent       = 5
	maxExtenderScore = 10
	nodesPerPercent  = 125
	startPercent     = 50
)

// decision is where a pod goes.
type decision struct {
	node      string
	evaluated int
	feasible  int
}

// decide finds the best node on the snapshot. A *framework.FitError tells that none fits.
func (s *Scheduler) decide(ctx context.Context, pr *profile, state *framework.CycleState, pod *framework.PodInfo) (decision, error) {
	if len(s.snapshot.Nodes()) == 0 {
		return decision{}, framework.ErrNoNodesAvailable
	}
	feasible, diag, err := s.feasible(ctx, pr, state, pod)
	if err != nil {
		return decision{}, err
	}
	if len(feasible) == 0 {
		return decision{}, &framework.FitError{Pod: pod.Pod, NumAllNodes: len(s.snapshot.Nodes()), Diagnosis: diag}
	}
	d := decision{node: feasible[0].Name(), feasible: len(feasible), evaluated: len(feasible) + diag.Nodes.Len()}
	if len(feasible) == 1 {
		return d, nil
	}
	d.node, err = s.best(ctx, pr, state, pod, feasible)
	return d, err
}

// feasible filters the nodes.
func (s *Scheduler) feasible(ctx context.Context, pr *profile, state *framework.CycleState, pod *framework.PodInfo) ([]*framework.NodeInfo, framework.Diagnosis, error) {
	diag := framework.Diagnosis{Nodes: framework.NewNodeStatuses(framework.NewStatus(framework.UnschedulableAndUnresolvable))}
	all := s.snapshot.Nodes()
	pre, st, narrowed := pr.RunPreFilter(ctx, state, pod, all)
	if !st.IsSuccess() {
		if !st.IsRejected() {
			return nil, diag, st.AsError()
		}
		diag.Nodes.SetAbsent(st)
		diag.PreFilterMsg = st.Message()
		diag.AddPlugin(st)
		return nil, diag, nil
	}
	// A pod that waits for a node gets it when it fits, without looking at others.
	if name := pod.Pod.Status.NominatedNodeName; name != "" {
		if n := s.snapshot.Node(name); n != nil && (pre == nil || pre.NodeNames == nil || pre.NodeNames.Has(name)) {
			found, err := s.filter(ctx, pr, state, pod, []*framework.NodeInfo{n}, &diag)
			if err == nil && len(found) > 0 {
				return found, diag, nil
			}
			diag.Nodes = framework.NewNodeStatuses(framework.NewStatus(framework.UnschedulableAndUnresolvable))
		}
	}
	nodes := all
	if pre != nil && pre.NodeNames != nil {
		nodes = nil
		for _, name := range sets.List(pre.NodeNames) {
			if n := s.snapshot.Node(name); n != nil {
				nodes = append(nodes, n)
			}
		}
		diag.Nodes.SetAbsent(framework.NewStatus(framework.UnschedulableAndUnresolvable, fmt.Sprintf("node(s) didn't satisfy plugin(s) %v", sets.List(narrowed))))
		for name := range narrowed {
			diag.AddPlugin(framework.NewStatus(framework.Unschedulable).WithPlugin(name))
		}
	}
	found, err := s.filter(ctx, pr, state, pod, nodes, &diag)
	return found, diag, err
}

// wanted is how many feasible nodes end the search.
func wanted(percent int32, n int) int {
	if n < minFeasible {
		return n
	}
	p := int(percent)
	if p == 0 {
		p = max(startPercent-n/nodesPerPercent, minPercent)
	}
	return max(n*p/100, minFeasible)
}

func (s *Scheduler) filter(ctx context.Context, pr *profile, state *framework.CycleState, pod *framework.PodInfo, nodes []*framework.NodeInfo, diag *framework.Diagnosis) ([]*framework.NodeInfo, error) {
	n := len(nodes)
	want := n
	if n > 1 {
		want = min(wanted(pr.percent, n), n)
		if !pr.HasScores() && len(s.extenders) == 0 {
			want = 1
		}
	}
	found := make([]*framework.NodeInfo, want)
	var length, processed atomic.Int64
	var mu sync.Mutex
	var fault error
	sub, cancel := context.WithCancel(ctx)
	defer cancel()
	start := s.next
	parallelize(sub, int(*s.conf.Parallelism), n, func(i int) {
		processed.Add(1)
		node := nodes[(start+i)%n]
		st := pr.RunFiltersWithNominated(sub, state, pod, node)
		if st.IsSuccess() {
			at := length.Add(1)
			if at > int64(want) {
				cancel()
				length.Add(-1)
				return
			}
			found[at-1] = node
			return
		}
		mu.Lock()
		defer mu.Unlock()
		if !st.IsRejected() {
			if fault == nil && sub.Err() == nil {
				fault = st.AsError()
			}
			cancel()
			return
		}
		diag.Nodes.Set(node.Name(), st)
		diag.AddPlugin(st)
	})
	if fault != nil {
		return nil, fault
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if n > 0 {
		s.next = (start + int(processed.Load())) % n
	}
	return s.extendFilter(ctx, pod.Pod, found[:min(int(length.Load()), want)], diag)
}

func (s *Scheduler) extendFilter(ctx context.Context, pod *v1.Pod, nodes []*framework.NodeInfo, diag *framework.Diagnosis) ([]*framework.NodeInfo, error) {
	for _, e := range s.extenders {
		if len(nodes) == 0 {
			break
		}
		if !e.IsFilter() || !e.IsInterested(pod) {
			continue
		}
		left, failed, hopeless, err := e.Filter(ctx, pod, nodes)
		if err != nil {
			if e.IsIgnorable() {
				continue
			}
			return nil, err
		}
		for name, why := range failed {
			diag.Nodes.Set(name, framework.NewStatus(framework.Unschedulable, why))
		}
		for name, why := range hopeless {
			diag.Nodes.Set(name, framework.NewStatus(framework.UnschedulableAndUnresolvable, why))
		}
		diag.AddPlugin(framework.NewStatus(framework.Unschedulable).WithPlugin(e.Name()))
		nodes = left
	}
	return nodes, nil
}

// best scores the feasible nodes and picks one of the best by lot.
func (s *Scheduler) best(ctx context.Context, pr *profile, state *framework.CycleState, pod *framework.PodInfo, nodes []*framework.NodeInfo) (string, error) {
	totals, err := pr.RunScores(ctx, state, pod, nodes)
	if err != nil {
		return "", err
	}
	for _, e := range s.extenders {
		if !e.IsPrioritizer() || !e.IsInterested(pod.Pod) {
			continue
		}
		scores, weight, err := e.Prioritize(ctx, pod.Pod, nodes)
		if err != nil {
			// A ranking is an advice: without it the others decide.
			continue
		}
		for i := range totals {
			totals[i].Total += scores[totals[i].Name] * weight * (framework.MaxNodeScore / maxExtenderScore)
		}
	}
	name, top, ties := "", int64(-1), 0
	for _, t := range totals {
		switch {
		case t.Total > top:
			name, top, ties = t.Name, t.Total, 1
		case t.Total == top:
			if ties++; rand.IntN(ties) == 0 {
				name = t.Name
			}
		}
	}
	return name, nil
}
