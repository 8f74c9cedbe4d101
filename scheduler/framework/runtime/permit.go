package runtime

import (
	"context"
	"fmt"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"

	"skiff/scheduler/framework"
)

// maxPermitWait bounds what a Permit plugin can ask for.
const maxPermitWait = 15 * time.Minute

// waitingPod waits for each of its plugins to allow it, or any to reject it.
type waitingPod struct {
	pending  map[string]struct{}
	deadline time.Time
	// by is the plugin whose time ends first.
	by     string
	result chan *framework.Status // capacity 1; the first answer wins
}

type waitingPods struct {
	mu   sync.Mutex
	pods map[string]*waitingPod // by UID
}

func (w *waitingPods) finish(uid string, st *framework.Status) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	p, ok := w.pods[uid]
	if !ok {
		return false
	}
	select {
	case p.result <- st:
		return true
	default:
		return false
	}
}

func (w *waitingPods) reject(uid string, st *framework.Status) bool { return w.finish(uid, st) }

// RunPermit asks the Permit plugins. Wait means that the caller has to call WaitOnPermit.
func (f *Framework) RunPermit(ctx context.Context, state *framework.CycleState, pod *v1.Pod, node string) *framework.Status {
	wp := &waitingPod{pending: map[string]struct{}{}, result: make(chan *framework.Status, 1)}
	now := time.Now()
	st := each(f, "Permit", f.permit, func(p framework.PermitPlugin) *framework.Status {
		s, wait := p.Permit(ctx, state, pod, node)
		if !s.IsWait() {
			return s
		}
		end := now.Add(min(wait, maxPermitWait))
		if wp.by == "" || end.Before(wp.deadline) {
			wp.deadline, wp.by = end, p.Name()
		}
		wp.pending[p.Name()] = struct{}{}
		return nil
	}, nil)
	if st != nil {
		return failed("Permit", st)
	}
	if len(wp.pending) == 0 {
		return nil
	}
	f.waiting.mu.Lock()
	f.waiting.pods[string(pod.UID)] = wp
	f.waiting.mu.Unlock()
	return framework.NewStatus(framework.Wait, fmt.Sprintf("one or more plugins asked to wait and no plugin rejected pod %q", pod.Name))
}

// WaitOnPermit blocks until the pod is allowed, rejected, out of time, or ctx ends.
func (f *Framework) WaitOnPermit(ctx context.Context, pod *v1.Pod) *framework.Status {
	uid := string(pod.UID)
	f.waiting.mu.Lock()
	wp := f.waiting.pods[uid]
	f.waiting.mu.Unlock()
	if wp == nil {
		return nil
	}
	defer func() {
		f.waiting.mu.Lock()
		delete(f.waiting.pods, uid)
		f.waiting.mu.Unlock()
	}()
	start := time.Now()
	timer := time.NewTimer(time.Until(wp.deadline))
	defer timer.Stop()
	var st *framework.Status
	select {
	case st = <-wp.result:
	case <-timer.C:
		st = framework.NewStatus(framework.Unschedulable, fmt.Sprintf("rejected due to timeout after waiting at plugin %s", wp.by)).WithPlugin(wp.by)
	case <-ctx.Done():
		st = framework.AsStatus(ctx.Err())
	}
	f.metrics.ObservePermitWait(st.Code().String(), time.Since(start))
	return st
}

// AllowWaiting lets a plugin release a pod; when all have, the pod goes on.
func (f *Framework) AllowWaiting(pod *v1.Pod, plugin string) {
	f.waiting.mu.Lock()
	wp, ok := f.waiting.pods[string(pod.UID)]
	if ok {
		delete(wp.pending, plugin)
		ok = len(wp.pending) == 0
	}
	f.waiting.mu.Unlock()
	if ok {
		f.waiting.finish(string(pod.UID), nil)
	}
}

// RejectWaiting ends the wait of a pod, for example since it was deleted.
func (f *Framework) RejectWaiting(pod *v1.Pod, msg string) bool {
	return f.waiting.reject(string(pod.UID), framework.NewStatus(framework.Unschedulable, msg))
}
