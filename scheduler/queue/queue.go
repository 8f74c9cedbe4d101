// Package queue holds the pods that wait to be scheduled.
//
// A pod is in exactly one place: active (ready, ordered by the queue sort
// plugin), backoff (ready once its wait is over), unschedulable (waiting for an
// event that a plugin's hint says may help, or for MaxUnschedulable), gated
// (held by a PreEnqueue plugin), or in flight (popped, not Done).
package queue

import (
	"context"
	"errors"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	corev1helpers "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"skiff/scheduler/framework"
	"skiff/scheduler/metrics"
)

// Defaults of Config.
const (
	DefaultInitialBackoff   = time.Second
	DefaultMaxBackoff       = 10 * time.Second
	DefaultMaxUnschedulable = 5 * time.Minute
	flushInterval           = 30 * time.Second
)

// Names of the events that the queue itself gives rise to, in the metrics.
const (
	eventPodAdd          = "PodAdd"
	eventPodUpdate       = "PodUpdate"
	eventAttemptFailure  = "ScheduleAttemptFailure"
	eventBackoffComplete = "BackoffComplete"
	eventPopFromBackoff  = "PopFromBackoffQ"
	eventTimeout         = "UnschedulableTimeout"
	eventForceActivate   = "ForceActivate"
)

// ErrClosed says that the queue was closed.
var ErrClosed = errors.New("scheduling queue is closed")

// Config configures a Queue.
type Config struct {
	// Less orders the active pods. Required.
	Less func(a, b *framework.QueuedPodInfo) bool
	// PreEnqueue is asked before a pod becomes active; nil lets all pass.
	PreEnqueue func(pod *v1.Pod) *framework.Status
	// Hints are the registered events by scheduler name and plugin.
	Hints map[string]map[string][]framework.EventHint
	// InitialBackoff and MaxBackoff default to 1 s and 10 s.
	InitialBackoff, MaxBackoff time.Duration
	// MaxUnschedulable is how long a pod waits for an event; default 5 min.
	MaxUnschedulable time.Duration
	// Clock defaults to the real one.
	Clock clock.Clock
	// Metrics may be nil.
	Metrics *metrics.Metrics
}

// Queue is safe for concurrent use; Pop has a single caller.
type Queue struct {
	cfg Config
	nom *nominator

	mu            sync.Mutex
	closed        bool
	wake          chan struct{} // capacity 1: something changed for Pop
	active        *podHeap
	backoffs      *podHeap // refused pods
	errorBackoffs *podHeap // pods whose attempt failed by a fault: never popped early
	unschedulable map[types.UID]*framework.QueuedPodInfo
	gated         map[types.UID]*framework.QueuedPodInfo
	inFlight      *inFlight
	nextFlush     time.Time
}

// New makes an empty queue.
func New(c Config) *Queue {
	if c.InitialBackoff <= 0 {
		c.InitialBackoff = DefaultInitialBackoff
	}
	if c.MaxBackoff <= 0 {
		c.MaxBackoff = DefaultMaxBackoff
	}
	if c.MaxUnschedulable <= 0 {
		c.MaxUnschedulable = DefaultMaxUnschedulable
	}
	if c.Clock == nil {
		c.Clock = clock.RealClock{}
	}
	byEnd := func(a, b *framework.QueuedPodInfo) bool {
		// Ends within a second count as equal, so that priority decides among them.
		ea, eb := a.BackoffUntil.Truncate(time.Second), b.BackoffUntil.Truncate(time.Second)
		if !ea.Equal(eb) {
			return ea.Before(eb)
		}
		return c.Less(a, b)
	}
	return &Queue{cfg: c, nom: newNominator(), wake: make(chan struct{}, 1), active: newPodHeap(c.Less), backoffs: newPodHeap(byEnd),
		errorBackoffs: newPodHeap(func(a, b *framework.QueuedPodInfo) bool { return a.BackoffUntil.Before(b.BackoffUntil) }),
		unschedulable: map[types.UID]*framework.QueuedPodInfo{}, gated: map[types.UID]*framework.QueuedPodInfo{}, inFlight: newInFlight()}
}

// Nominator is the record of nominated pods.
func (q *Queue) Nominator() framework.Nominator { return q.nom }

// NominatedNode is the node that the pod waits for, if any.
func (q *Queue) NominatedNode(uid types.UID) string { return q.nom.nodeFor(uid) }

// Close ends Pop.
func (q *Queue) Close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.signal()
}

func (q *Queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// Pending counts the pods per place, by the names of scheduler_pending_pods.
func (q *Queue) Pending() map[string]int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return map[string]int{"active": q.active.len(), "backoff": q.backoffs.len() + q.errorBackoffs.len(),
		"unschedulable": len(q.unschedulable), "gated": len(q.gated)}
}

// InFlight counts the popped pods and the events kept for them.
func (q *Queue) InFlight() (pods, events int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.inFlight.marks), q.inFlight.events()
}

// Pop waits for the next pod. The caller calls Done with its UID in the end.
// Backoffs and the time limit of unschedulable pods are served here, so an idle
// queue needs no ticking goroutine.
func (q *Queue) Pop(ctx context.Context) (*framework.QueuedPodInfo, error) {
	for {
		p, wait, err := q.tryPop()
		if p != nil || err != nil {
			return p, err
		}
		var timer clock.Timer
		var fired <-chan time.Time
		if wait > 0 {
			timer = q.cfg.Clock.NewTimer(wait)
			fired = timer.C()
		}
		select {
		case <-ctx.Done():
			err = ctx.Err()
		case <-q.wake:
		case <-fired:
		}
		if timer != nil {
			timer.Stop()
		}
		if err != nil {
			return nil, err
		}
	}
}

// tryPop takes a pod, or tells how long to wait at most; 0 is until woken.
func (q *Queue) tryPop() (*framework.QueuedPodInfo, time.Duration, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return nil, 0, ErrClosed
	}
	now := q.cfg.Clock.Now()
	q.flush(now)
	var p *framework.QueuedPodInfo
	if q.active.len() > 0 {
		p = q.active.pop()
	} else {
		// With nothing else to do, a backoff only delays.
		for p == nil && q.backoffs.len() > 0 {
			if next := q.backoffs.pop(); q.admit(next, eventPopFromBackoff, false) {
				p = next
			}
		}
	}
	if p != nil {
		p.Attempts++
		if p.InitialAttempt.IsZero() {
			p.InitialAttempt = now
		}
		p.BackoffUntil = time.Time{}
		p.UnschedulablePlugins, p.PendingPlugins = nil, nil
		q.inFlight.begin(p.Pod.UID)
		return p, 0, nil
	}
	var next time.Time
	if h := q.errorBackoffs.peek(); h != nil {
		next = h.BackoffUntil
	}
	if !q.nextFlush.IsZero() && (next.IsZero() || q.nextFlush.Before(next)) {
		next = q.nextFlush
	}
	if next.IsZero() {
		return nil, 0, nil
	}
	return nil, max(next.Sub(now), time.Millisecond), nil
}

// flush moves pods whose time has come. Caller holds mu.
func (q *Queue) flush(now time.Time) {
	for _, h := range []*podHeap{q.backoffs, q.errorBackoffs} {
		for p := h.peek(); p != nil && !p.BackoffUntil.After(now); p = h.peek() {
			q.activate(h.pop(), eventBackoffComplete)
		}
	}
	if q.nextFlush.IsZero() || q.nextFlush.After(now) {
		return
	}
	q.nextFlush = time.Time{}
	for uid, p := range q.unschedulable {
		if now.Sub(p.Timestamp) > q.cfg.MaxUnschedulable {
			delete(q.unschedulable, uid)
			p.FlushedFromUnschedulable = true
			q.requeue(p, afterBackoff, eventTimeout)
		}
	}
	if len(q.unschedulable) > 0 {
		q.nextFlush = now.Add(flushInterval)
	}
}

// admit asks PreEnqueue. A refused pod goes to the gated ones. Caller holds mu.
func (q *Queue) admit(p *framework.QueuedPodInfo, event string, fresh bool) bool {
	p.GatingPlugin, p.GatingEvents = "", nil
	if q.cfg.PreEnqueue == nil {
		return true
	}
	s := q.cfg.PreEnqueue(p.Pod)
	if s.IsSuccess() {
		return true
	}
	p.GatingPlugin = s.Plugin()
	for _, h := range q.cfg.Hints[p.Pod.Spec.SchedulerName][s.Plugin()] {
		p.GatingEvents = append(p.GatingEvents, h.Event)
	}
	if !s.IsRejected() {
		klog.ErrorS(s.AsError(), "PreEnqueue failed", "pod", klog.KObj(p.Pod), "plugin", s.Plugin())
	}
	if fresh || q.gated[p.Pod.UID] == nil {
		q.cfg.Metrics.Incoming("gated", event)
	}
	q.gated[p.Pod.UID] = p
	return false
}

// activate makes a pod ready unless it is gated. Caller holds mu.
func (q *Queue) activate(p *framework.QueuedPodInfo, event string) {
	if !q.admit(p, event, false) {
		return
	}
	q.active.put(p)
	q.cfg.Metrics.Incoming("active", event)
	q.signal()
}

// requeue puts a waiting pod where the strategy says. Caller holds mu.
func (q *Queue) requeue(p *framework.QueuedPodInfo, s strategy, event string) {
	now := q.cfg.Clock.Now()
	switch {
	case s == stay:
		q.unschedulable[p.Pod.UID] = p
		if q.nextFlush.IsZero() {
			q.nextFlush = now.Add(flushInterval)
		}
		q.cfg.Metrics.Incoming("unschedulable", event)
		q.signal()
		return
	case s == immediately:
		q.activate(p, event)
		return
	}
	p.BackoffUntil = p.Timestamp.Add(q.backoff(p))
	if !p.BackoffUntil.After(now) {
		q.activate(p, event)
		return
	}
	if !q.admit(p, event, false) {
		return
	}
	if p.ErrorCount > 0 {
		q.errorBackoffs.put(p)
	} else {
		q.backoffs.put(p)
	}
	q.cfg.Metrics.Incoming("backoff", event)
	q.signal()
}

// find tells where a pod waits. Caller holds mu.
func (q *Queue) find(uid types.UID) *framework.QueuedPodInfo {
	for _, h := range []*podHeap{q.active, q.backoffs, q.errorBackoffs} {
		if p := h.get(uid); p != nil {
			return p
		}
	}
	if p := q.unschedulable[uid]; p != nil {
		return p
	}
	return q.gated[uid]
}

// take removes the pod from wherever it waits. Caller holds mu.
func (q *Queue) take(uid types.UID) *framework.QueuedPodInfo {
	for _, h := range []*podHeap{q.active, q.backoffs, q.errorBackoffs} {
		if p := h.remove(uid); p != nil {
			return p
		}
	}
	for _, m := range []map[types.UID]*framework.QueuedPodInfo{q.unschedulable, q.gated} {
		if p := m[uid]; p != nil {
			delete(m, uid)
			return p
		}
	}
	return nil
}

// priority is used to order activations of many pods.
func priority(p *framework.QueuedPodInfo) int32 { return corev1helpers.PodPriority(p.Pod) }
