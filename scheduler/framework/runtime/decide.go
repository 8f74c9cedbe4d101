package runtime

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	corev1helpers "k8s.io/component-helpers/scheduling/corev1"

	"skiff/scheduler/framework"
)

// RunPreFilter runs PreFilter. The set names the plugins that narrowed the nodes.
func (f *Framework) RunPreFilter(ctx context.Context, state *framework.CycleState, pod *framework.PodInfo, nodes []*framework.NodeInfo) (*framework.PreFilterResult, *framework.Status, sets.Set[string]) {
	var result *framework.PreFilterResult
	narrowing := sets.New[string]()
	var pending *framework.Status
	st := each(f, "PreFilter", f.preFilter, func(p framework.PreFilterPlugin) *framework.Status {
		r, s := p.PreFilter(ctx, state, pod, nodes)
		if s.Code() == framework.UnschedulableAndUnresolvable || s.Code() == framework.Pending {
			return s
		}
		if s.Code() == framework.Unschedulable {
			// Later plugins may know that preemption cannot help.
			if pending == nil {
				pending = s.WithPlugin(p.Name())
			}
			return nil
		}
		if !s.IsSuccess() {
			return s
		}
		if r != nil && r.NodeNames != nil {
			narrowing.Insert(p.Name())
			if result == nil {
				result = &framework.PreFilterResult{NodeNames: r.NodeNames}
			} else {
				result = &framework.PreFilterResult{NodeNames: result.NodeNames.Intersection(r.NodeNames)}
			}
			if len(result.NodeNames) == 0 {
				msg := fmt.Sprintf("node(s) didn't satisfy plugin(s) %v simultaneously", sets.List(narrowing))
				if len(narrowing) == 1 {
					msg = fmt.Sprintf("node(s) didn't satisfy plugin %v", sets.List(narrowing)[0])
				}
				return framework.NewStatus(framework.UnschedulableAndUnresolvable, msg)
			}
		}
		return nil
	}, func(p framework.PreFilterPlugin) { state.SkipFilter(p.Name()) })
	if st == nil {
		st = pending
	}
	return result, failed("PreFilter", st), narrowing
}

// RunAddPod tells PreFilter plugins of a pod added to a node.
func (f *Framework) RunAddPod(ctx context.Context, state *framework.CycleState, pod, added *framework.PodInfo, node *framework.NodeInfo) *framework.Status {
	for _, p := range f.extensions {
		if state.SkipsFilter(p.Name()) {
			continue
		}
		if s := p.AddPod(ctx, state, pod, added, node); !s.IsSuccess() {
			return framework.AsStatus(fmt.Errorf("running AddPod on PreFilter plugin %q: %w", p.Name(), s.AsError()))
		}
	}
	return nil
}

// RunRemovePod tells PreFilter plugins of a pod taken from a node.
func (f *Framework) RunRemovePod(ctx context.Context, state *framework.CycleState, pod, removed *framework.PodInfo, node *framework.NodeInfo) *framework.Status {
	for _, p := range f.extensions {
		if state.SkipsFilter(p.Name()) {
			continue
		}
		if s := p.RemovePod(ctx, state, pod, removed, node); !s.IsSuccess() {
			return framework.AsStatus(fmt.Errorf("running RemovePod on PreFilter plugin %q: %w", p.Name(), s.AsError()))
		}
	}
	return nil
}

// RunFilters asks the Filter plugins about one node. It is called for each node, so it is not timed.
func (f *Framework) RunFilters(ctx context.Context, state *framework.CycleState, pod *framework.PodInfo, node *framework.NodeInfo) *framework.Status {
	for _, p := range f.filter {
		if state.SkipsFilter(p.Name()) {
			continue
		}
		if s := p.Filter(ctx, state, pod, node); !s.IsSuccess() {
			return failed("Filter", s.WithPlugin(p.Name()))
		}
	}
	return nil
}

// RunFiltersWithNominated asks about a node twice when pods of equal or higher
// priority wait for it: with them, since they may arrive, and without, since
// the pod must not depend on them.
func (f *Framework) RunFiltersWithNominated(ctx context.Context, state *framework.CycleState, pod *framework.PodInfo, node *framework.NodeInfo) *framework.Status {
	nominated := f.handle.Nominator().NominatedPods(node.Name())
	if len(nominated) > 0 {
		withState, withNode := state, node
		prio := corev1helpers.PodPriority(pod.Pod)
		for _, n := range nominated {
			if corev1helpers.PodPriority(n.Pod) < prio || n.Pod.UID == pod.Pod.UID {
				continue
			}
			if withNode == node {
				withState, withNode = state.Clone(), node.Clone()
			}
			withNode.AddPod(n)
			if s := f.RunAddPod(ctx, withState, pod, n, withNode); !s.IsSuccess() {
				return s
			}
		}
		if withNode != node {
			if s := f.RunFilters(ctx, withState, pod, withNode); !s.IsSuccess() {
				return s
			}
		}
	}
	return f.RunFilters(ctx, state, pod, node)
}

// RunPostFilter runs the PostFilter plugins until one makes room or decides that none can be made.
func (f *Framework) RunPostFilter(ctx context.Context, state *framework.CycleState, pod *framework.PodInfo, nodes *framework.NodeStatuses) (*framework.PostFilterResult, *framework.Status) {
	start := time.Now()
	var result *framework.PostFilterResult
	var reasons []string
	var plugin string
	code := framework.Unschedulable
	defer func() { f.metrics.ObservePoint("PostFilter", f.profile, code.String(), time.Since(start)) }()
	for _, p := range f.postFilter {
		r, s := p.PostFilter(ctx, state, pod, nodes)
		switch {
		case s.IsSuccess():
			code = framework.Success
			return r, s
		case s.Code() == framework.UnschedulableAndUnresolvable:
			code = s.Code()
			return r, s.WithPlugin(p.Name())
		case !s.IsRejected():
			code = framework.Error
			return nil, framework.AsStatus(s.AsError()).WithPlugin(p.Name())
		}
		if r != nil && r.NominatedNode != nil {
			result = r
		}
		reasons = append(reasons, s.Reasons()...)
		if plugin == "" {
			plugin = p.Name()
		}
	}
	return result, framework.NewStatus(framework.Unschedulable, reasons...).WithPlugin(plugin)
}

// NodeTotal is a node with its weighted total.
type NodeTotal struct {
	Name  string
	Total int64
}

// RunScores runs PreScore, Score and normalization, and sums up by weight, in the order of nodes.
func (f *Framework) RunScores(ctx context.Context, state *framework.CycleState, pod *framework.PodInfo, nodes []*framework.NodeInfo) ([]NodeTotal, error) {
	st := each(f, "PreScore", f.preScore, func(p framework.PreScorePlugin) *framework.Status {
		return p.PreScore(ctx, state, pod, nodes)
	}, func(p framework.PreScorePlugin) { state.SkipScore(p.Name()) })
	if !st.IsSuccess() {
		return nil, fmt.Errorf("running PreScore plugin %q: %w", st.Plugin(), st.AsError())
	}
	totals := make([]NodeTotal, len(nodes))
	for i, n := range nodes {
		totals[i].Name = n.Name()
	}
	active := slices.DeleteFunc(slices.Clone(f.score), func(p framework.ScorePlugin) bool { return state.SkipsScore(p.Name()) })
	if len(active) == 0 {
		return totals, nil
	}
	start := time.Now()
	all := make([]framework.NodeScore, len(active)*len(nodes))
	byPlugin := func(k int) []framework.NodeScore { return all[k*len(nodes) : (k+1)*len(nodes)] }
	var firstErr atomic.Pointer[framework.Status]
	f.handle.Parallelize(ctx, len(nodes), func(i int) {
		for k, p := range active {
			s, st := p.Score(ctx, state, pod, nodes[i])
			if !st.IsSuccess() {
				firstErr.CompareAndSwap(nil, framework.AsStatus(fmt.Errorf("running Score plugin %q: %w", p.Name(), st.AsError())))
				return
			}
			byPlugin(k)[i] = framework.NodeScore{Name: nodes[i].Name(), Score: s}
		}
	})
	if st := firstErr.Load(); st != nil {
		return nil, st.AsError()
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	for k, p := range active {
		scores := byPlugin(k)
		if n, ok := p.(framework.ScoreNormalizer); ok {
			if s := n.NormalizeScore(ctx, state, pod, scores); !s.IsSuccess() {
				return nil, fmt.Errorf("running NormalizeScore of plugin %q: %w", p.Name(), s.AsError())
			}
		}
		w := f.weights[p.Name()]
		for i := range scores {
			s := scores[i].Score
			if s > framework.MaxNodeScore || s < framework.MinNodeScore {
				return nil, fmt.Errorf("plugin %q returns an invalid score %v, it should in the range of [%v, %v] after normalizing", p.Name(), s, framework.MinNodeScore, framework.MaxNodeScore)
			}
			totals[i].Total += s * w
		}
	}
	f.metrics.ObservePoint("Score", f.profile, framework.Success.String(), time.Since(start))
	return totals, nil
}

// RunReserve runs Reserve in order; on failure the caller runs RunUnreserve.
func (f *Framework) RunReserve(ctx context.Context, state *framework.CycleState, pod *v1.Pod, node string) *framework.Status {
	return failed("Reserve", each(f, "Reserve", f.reserve, func(p framework.ReservePlugin) *framework.Status { return p.Reserve(ctx, state, pod, node) }, nil))
}

// RunUnreserve undoes Reserve in the opposite order.
func (f *Framework) RunUnreserve(ctx context.Context, state *framework.CycleState, pod *v1.Pod, node string) {
	for _, p := range slices.Backward(f.reserve) {
		p.Unreserve(ctx, state, pod, node)
	}
}

// RunPreBind prepares the binding.
func (f *Framework) RunPreBind(ctx context.Context, state *framework.CycleState, pod *v1.Pod, node string) *framework.Status {
	return failed("PreBind", each(f, "PreBind", f.preBind, func(p framework.PreBindPlugin) *framework.Status {
		if pre, ok := p.(framework.PreBindPreFlight); ok {
			if s := pre.PreBindPreFlight(ctx, state, pod, node); !s.IsSuccess() {
				return s
			}
		}
		return p.PreBind(ctx, state, pod, node)
	}, func(framework.PreBindPlugin) {}))
}

// WillPreBind is true when a PreBind plugin has work to do for the pod.
func (f *Framework) WillPreBind(ctx context.Context, state *framework.CycleState, pod *v1.Pod, node string) bool {
	return slices.ContainsFunc(f.preBind, func(p framework.PreBindPlugin) bool {
		pre, ok := p.(framework.PreBindPreFlight)
		return !ok || pre.PreBindPreFlight(ctx, state, pod, node).IsSuccess()
	})
}

// RunBind binds with the first plugin that does not skip.
func (f *Framework) RunBind(ctx context.Context, state *framework.CycleState, pod *v1.Pod, node string) *framework.Status {
	bound := false
	st := each(f, "Bind", f.bind, func(p framework.BindPlugin) *framework.Status {
		if bound {
			return nil
		}
		s := p.Bind(ctx, state, pod, node)
		bound = s.IsSuccess()
		return s
	}, func(framework.BindPlugin) {})
	if st == nil && !bound {
		return framework.NewStatus(framework.Error, "all Bind plugins skipped the pod: "+strings.Join(names(f.bind), ", "))
	}
	return failed("Bind", st)
}

// RunPostBind tells of the binding.
func (f *Framework) RunPostBind(ctx context.Context, state *framework.CycleState, pod *v1.Pod, node string) {
	for _, p := range f.postBind {
		p.PostBind(ctx, state, pod, node)
	}
}
