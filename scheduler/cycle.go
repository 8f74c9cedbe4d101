package scheduler

import (
	"context"
	"errors"
	"fmt"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/klog/v2"

	"skiff/scheduler/framework"
	"skiff/scheduler/metrics"
)

// scheduleOne decides for one pod, and starts its binding in the background.
func (s *Scheduler) scheduleOne(ctx context.Context, q *framework.QueuedPodInfo) {
	pod := q.Pod
	pr := s.profiles[pod.Spec.SchedulerName]
	if pr == nil || s.superseded(pod) {
		s.queue.Done(pod.UID)
		return
	}
	start := s.clock.Now()
	state := framework.NewCycleState()
	s.cache.UpdateSnapshot(s.snapshot)
	s.metrics.CacheSize(s.cache.Sizes())
	d, err := s.decide(ctx, pr, state, q.PodInfo)
	s.metrics.ObserveAlgorithm(s.clock.Since(start))
	if err != nil {
		s.undecided(ctx, pr, state, q, err, start)
		return
	}
	assumed := pod.DeepCopy()
	assumed.Spec.NodeName = d.node
	info, err := framework.NewPodInfo(assumed)
	if err != nil {
		klog.V(2).InfoS("Pod has an unparsable affinity term", "pod", klog.KObj(pod), "err", err)
	}
	if err := s.cache.AssumePod(info); err != nil {
		s.failed(ctx, pr, q, framework.AsStatus(err), nil, start)
		return
	}
	// The pod takes its place now, so it no longer waits for one.
	s.queue.Nominator().Nominate(q.PodInfo, "")
	if st := pr.RunReserve(ctx, state, assumed, d.node); !st.IsSuccess() {
		s.takeBack(ctx, pr, state, q, assumed, st, start)
		return
	}
	permit := pr.RunPermit(ctx, state, assumed, d.node)
	if !permit.IsSuccess() && !permit.IsWait() {
		s.takeBack(ctx, pr, state, q, assumed, permit, start)
		return
	}
	s.metrics.Goroutines("binding", 1)
	if !s.spawn(func(ctx context.Context) {
		defer s.metrics.Goroutines("binding", -1)
		s.bind(ctx, pr, state, q, assumed, start)
	}) {
		s.takeBack(ctx, pr, state, q, assumed, framework.NewStatus(framework.Error, "the scheduler is stopping"), start)
	}
}

// superseded is true for a pod that needs no decision any more.
func (s *Scheduler) superseded(pod *v1.Pod) bool {
	if s.cache.Pod(pod.UID) != nil {
		return true
	}
	now, err := s.cfg.Informers.Core().V1().Pods().Lister().Pods(pod.Namespace).Get(pod.Name)
	if err != nil {
		return apierrors.IsNotFound(err)
	}
	if now.UID != pod.UID || now.Spec.NodeName != "" {
		return true
	}
	if now.DeletionTimestamp != nil {
		klog.V(3).InfoS("Pod is being deleted and is not scheduled", "pod", klog.KObj(pod))
		return true
	}
	return false
}

// bind runs the binding cycle of an assumed pod.
func (s *Scheduler) bind(ctx context.Context, pr *profile, state *framework.CycleState, q *framework.QueuedPodInfo, pod *v1.Pod, start time.Time) {
	node := pod.Spec.NodeName
	st := pr.WaitOnPermit(ctx, pod)
	if st.IsSuccess() {
		// What happens from here on does not depend on the pod's place in the queue.
		st = pr.RunPreBind(ctx, state, pod, node)
	}
	if st.IsSuccess() {
		st = s.write(ctx, pr, state, pod, node)
	}
	if !st.IsSuccess() {
		s.takeBack(ctx, pr, state, q, pod, st, start)
		return
	}
	s.cache.FinishBinding(pod.UID)
	s.queue.Done(pod.UID)
	pr.recorder.Eventf(pod, nil, v1.EventTypeNormal, "Scheduled", "Binding", "Successfully assigned %v/%v to %v", pod.Namespace, pod.Name, node)
	now := s.clock.Now()
	s.metrics.ObserveAttempt(metrics.Scheduled, pr.Profile(), now.Sub(start))
	if !q.InitialAttempt.IsZero() {
		s.metrics.ObserveBound(q.Attempts, now.Sub(q.InitialAttempt))
	}
	pr.RunPostBind(ctx, state, pod, node)
}

// write binds by an extender that asks for it, else by the profile's plugins.
func (s *Scheduler) write(ctx context.Context, pr *profile, state *framework.CycleState, pod *v1.Pod, node string) *framework.Status {
	for _, e := range s.extenders {
		if e.IsBinder() && e.IsInterested(pod) {
			err := e.Bind(ctx, pod, node)
			if err == nil || !e.IsIgnorable() {
				return framework.AsStatus(err)
			}
		}
	}
	return pr.RunBind(ctx, state, pod, node)
}

// takeBack undoes what was assumed and reserved for a pod.
func (s *Scheduler) takeBack(ctx context.Context, pr *profile, state *framework.CycleState, q *framework.QueuedPodInfo, assumed *v1.Pod, st *framework.Status, start time.Time) {
	pr.RunUnreserve(ctx, state, assumed, assumed.Spec.NodeName)
	if err := s.cache.ForgetPod(assumed.UID); err != nil {
		klog.ErrorS(err, "Taking back a placement failed", "pod", klog.KObj(assumed))
	}
	// Room that was held has become free for the pods that were refused for it.
	s.queue.Move(framework.ClusterEvent{Resource: framework.AssignedPod, Action: framework.Delete}, assumed, nil, func(p *v1.Pod) bool { return p.UID != assumed.UID })
	if st.IsRejected() {
		fit := &framework.FitError{Pod: q.Pod, NumAllNodes: 1, Diagnosis: framework.Diagnosis{Nodes: framework.NewNodeStatuses(nil)}}
		fit.Diagnosis.Nodes.Set(assumed.Spec.NodeName, st)
		fit.Diagnosis.AddPlugin(st)
		q.UnschedulablePlugins, q.PendingPlugins = fit.Diagnosis.UnschedulablePlugins, fit.Diagnosis.PendingPlugins
		st = framework.NewStatus(framework.Unschedulable, fit.Error())
	}
	s.failed(ctx, pr, q, st, nil, start)
}

// undecided handles a pod without a node: preemption may make room for it.
func (s *Scheduler) undecided(ctx context.Context, pr *profile, state *framework.CycleState, q *framework.QueuedPodInfo, err error, start time.Time) {
	var fit *framework.FitError
	switch {
	case errors.Is(err, framework.ErrNoNodesAvailable):
		// Any node may help, so all plugins that look at nodes count as refusing.
		q.UnschedulablePlugins = sets.New("NodeName", "NodeAffinity", "NodeUnschedulable", "TaintToleration", "NodeResourcesFit")
		s.failed(ctx, pr, q, framework.NewStatus(framework.Unschedulable, err.Error()), nil, start)
	case errors.As(err, &fit):
		var nominated *string
		if pr.HasPostFilters() {
			result, st := pr.RunPostFilter(ctx, state, q.PodInfo, fit.Diagnosis.Nodes)
			if st.Code() == framework.Error {
				klog.ErrorS(st.AsError(), "Preemption failed", "pod", klog.KObj(q.Pod))
			}
			fit.Diagnosis.PostFilterMsg = st.Message()
			if result != nil {
				nominated = result.NominatedNode
			}
		}
		q.UnschedulablePlugins, q.PendingPlugins = fit.Diagnosis.UnschedulablePlugins, fit.Diagnosis.PendingPlugins
		s.failed(ctx, pr, q, framework.NewStatus(framework.Unschedulable, fit.Error()), nominated, start)
	default:
		s.failed(ctx, pr, q, framework.AsStatus(fmt.Errorf("%w", err)), nil, start)
	}
}
