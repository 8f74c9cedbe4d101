// Package defaultpreemption evicts pods of lower priority to make room for one
// that fits nowhere, with the least harm.
package defaultpreemption

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"

	v1 "k8s.io/api/core/v1"
	corev1helpers "k8s.io/component-helpers/scheduling/corev1"
	configv1 "k8s.io/kube-scheduler/config/v1"
	"k8s.io/utils/ptr"

	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/labels"

	"skiff/scheduler/framework"
)

// Name of the plugin.
const Name = "DefaultPreemption"

// Plugin preempts.
type Plugin struct {
	handle           framework.Handle
	percent, minimum int
}

// New makes the plugin from DefaultPreemptionArgs.
func New(args any, h framework.Handle) (framework.Plugin, error) {
	p := &Plugin{handle: h, percent: 10, minimum: 100}
	if a, ok := args.(*configv1.DefaultPreemptionArgs); ok && a != nil {
		p.percent = int(ptr.Deref(a.MinCandidateNodesPercentage, 10))
		p.minimum = int(ptr.Deref(a.MinCandidateNodesAbsolute, 100))
		if p.percent < 0 || p.percent > 100 || p.minimum < 0 || (p.percent == 0 && p.minimum == 0) {
			return nil, fmt.Errorf("minCandidateNodesPercentage %d and minCandidateNodesAbsolute %d: give a percentage from 0 to 100 and a number not below 0, not both 0", p.percent, p.minimum)
		}
	}
	h.Informers().Policy().V1().PodDisruptionBudgets().Informer()
	return p, nil
}

// Name is the plugin's name.
func (*Plugin) Name() string { return Name }

// candidate is a node with the pods to evict.
type candidate struct {
	node    string
	victims *framework.Victims
}

// PostFilter finds the node where the least harm makes room, and evicts there.
func (p *Plugin) PostFilter(ctx context.Context, state *framework.CycleState, pod *framework.PodInfo, nodes *framework.NodeStatuses) (*framework.PostFilterResult, *framework.Status) {
	snap := p.handle.Snapshot()
	if why := notEligible(pod.Pod, snap, nodes); why != "" {
		return nil, framework.NewStatus(framework.Unschedulable, "preemption: "+why)
	}
	found, statuses, err := p.candidates(ctx, state, pod, snap, nodes)
	if err != nil {
		return nil, framework.AsStatus(err)
	}
	if len(found) == 0 {
		fit := &framework.FitError{Pod: pod.Pod, NumAllNodes: len(snap.Nodes()), Diagnosis: framework.Diagnosis{Nodes: statuses}}
		none := ""
		return &framework.PostFilterResult{NominatedNode: &none}, framework.NewStatus(framework.Unschedulable, "preemption: "+fit.Error())
	}
	if found, err = p.extend(ctx, pod.Pod, snap, found); err != nil {
		return nil, framework.AsStatus(err)
	}
	if len(found) == 0 {
		return nil, framework.NewStatus(framework.Unschedulable, "preemption: no candidate node for preemption")
	}
	best := choose(found)
	if err := p.evict(ctx, pod.Pod, best); err != nil {
		return nil, framework.AsStatus(err)
	}
	return &framework.PostFilterResult{NominatedNode: &best.node}, nil
}

// notEligible says why the pod may not preempt, empty when it may.
func notEligible(pod *v1.Pod, snap framework.Snapshot, nodes *framework.NodeStatuses) string {
	if ptr.Deref(pod.Spec.PreemptionPolicy, v1.PreemptLowerPriority) == v1.PreemptNever {
		return "not eligible due to preemptionPolicy=Never."
	}
	name := pod.Status.NominatedNodeName
	if name == "" || nodes.Get(name).Code() == framework.UnschedulableAndUnresolvable {
		return ""
	}
	if n := snap.Node(name); n != nil {
		for _, v := range n.Pods {
			if corev1helpers.PodPriority(v.Pod) < corev1helpers.PodPriority(pod) && v.Pod.DeletionTimestamp != nil && preempted(v.Pod) {
				return "not eligible due to a terminating pod on the nominated node."
			}
		}
	}
	return ""
}

// preempted tells whether the scheduler evicted the pod.
func preempted(pod *v1.Pod) bool {
	return slices.ContainsFunc(pod.Status.Conditions, func(c v1.PodCondition) bool {
		return c.Type == v1.DisruptionTarget && c.Status == v1.ConditionTrue && c.Reason == v1.PodReasonPreemptionByScheduler
	})
}

// candidates tries the nodes from a random one on, until there are enough
// candidates without a violated budget.
func (p *Plugin) candidates(ctx context.Context, state *framework.CycleState, pod *framework.PodInfo, snap framework.Snapshot, nodes *framework.NodeStatuses) ([]candidate, *framework.NodeStatuses, error) {
	statuses := framework.NewNodeStatuses(framework.NewStatus(framework.UnschedulableAndUnresolvable, "Preemption is not helpful for scheduling"))
	var may []*framework.NodeInfo
	for _, n := range snap.Nodes() {
		if nodes.Get(n.Name()).Code() == framework.Unschedulable {
			may = append(may, n)
		}
	}
	if len(may) == 0 {
		return nil, statuses, nil
	}
	budgets, err := p.handle.Informers().Policy().V1().PodDisruptionBudgets().Lister().List(labels.Everything())
	if err != nil {
		return nil, nil, fmt.Errorf("listing disruption budgets: %w", err)
	}
	want := min(max(len(may)*p.percent/100, p.minimum), len(may))
	offset := rand.IntN(len(may))
	sub, cancel := context.WithCancel(ctx)
	defer cancel()
	var mu sync.Mutex
	var clean, dirty []candidate
	var fault error
	p.handle.Parallelize(sub, len(may), func(i int) {
		n := may[(offset+i)%len(may)]
		victims, st := p.dryRun(sub, state.Clone(), pod, n.Clone(), budgets)
		mu.Lock()
		defer mu.Unlock()
		switch {
		case st.IsSuccess() && len(victims.Pods) == 0:
			if fault == nil {
				fault = fmt.Errorf("expected at least one victim pod on node %q", n.Name())
			}
		case st.IsSuccess():
			if victims.NumPDBViolations == 0 {
				clean = append(clean, candidate{n.Name(), victims})
			} else {
				dirty = append(dirty, candidate{n.Name(), victims})
			}
			if len(clean) > 0 && len(clean)+len(dirty) >= want {
				cancel()
			}
		default:
			if st.Code() == framework.Error && sub.Err() == nil {
				fault = st.AsError()
				st = framework.NewStatus(framework.Unschedulable, st.Message())
			}
			statuses.Set(n.Name(), st)
		}
	})
	if out := append(clean, dirty...); len(out) > 0 {
		return out, statuses, nil
	}
	return nil, statuses, fault
}

// dryRun removes all pods of lower priority from the copy of a node, and if the
// pod fits then, puts back as many as it can, the most important first.
func (p *Plugin) dryRun(ctx context.Context, state *framework.CycleState, pod *framework.PodInfo, node *framework.NodeInfo, budgets []*policyv1.PodDisruptionBudget) (*framework.Victims, *framework.Status) {
	f := p.handle.Filterer()
	prio := corev1helpers.PodPriority(pod.Pod)
	var lower []*framework.PodInfo
	for _, o := range node.Pods {
		if corev1helpers.PodPriority(o.Pod) < prio {
			lower = append(lower, o)
		}
	}
	if len(lower) == 0 {
		return nil, framework.NewStatus(framework.UnschedulableAndUnresolvable, "No preemption victims found for incoming pod")
	}
	remove := func(o *framework.PodInfo) *framework.Status {
		if err := node.RemovePod(o.Pod); err != nil {
			return framework.AsStatus(err)
		}
		return f.RunRemovePod(ctx, state, pod, o, node)
	}
	for _, o := range lower {
		if st := remove(o); !st.IsSuccess() {
			return nil, st
		}
	}
	if st := f.RunFiltersWithNominated(ctx, state, pod, node); !st.IsSuccess() {
		return nil, st
	}
	slices.SortFunc(lower, func(a, b *framework.PodInfo) int { return moreImportant(a.Pod, b.Pod) })
	violating, rest := splitByBudget(lower, budgets)
	out := &framework.Victims{}
	reprieve := func(o *framework.PodInfo) (bool, *framework.Status) {
		node.AddPod(o)
		if st := f.RunAddPod(ctx, state, pod, o, node); !st.IsSuccess() {
			return false, st
		}
		if f.RunFiltersWithNominated(ctx, state, pod, node).IsSuccess() {
			return true, nil
		}
		if st := remove(o); !st.IsSuccess() {
			return false, st
		}
		out.Pods = append(out.Pods, o.Pod)
		return false, nil
	}
	for _, o := range violating {
		kept, st := reprieve(o)
		if !st.IsSuccess() {
			return nil, st
		}
		if !kept {
			out.NumPDBViolations++
		}
	}
	for _, o := range rest {
		if _, st := reprieve(o); !st.IsSuccess() {
			return nil, st
		}
	}
	slices.SortFunc(out.Pods, moreImportant)
	return out, nil
}

// extend lets extenders strike candidates.
func (p *Plugin) extend(ctx context.Context, pod *v1.Pod, snap framework.Snapshot, found []candidate) ([]candidate, error) {
	victims := map[string]*framework.Victims{}
	for _, c := range found {
		victims[c.node] = c.victims
	}
	asked := false
	for _, e := range p.handle.Extenders() {
		if !e.SupportsPreemption() || !e.IsInterested(pod) {
			continue
		}
		asked = true
		left, err := e.ProcessPreemption(ctx, pod, victims, snap)
		if err != nil {
			if e.IsIgnorable() {
				continue
			}
			return nil, err
		}
		victims = left
	}
	if !asked {
		return found, nil
	}
	var out []candidate
	for n, v := range victims {
		out = append(out, candidate{n, v})
	}
	return out, nil
}
