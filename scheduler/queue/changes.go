package queue

import (
	"cmp"
	"slices"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	"skiff/scheduler/framework"
)

func newPodInfo(pod *v1.Pod) *framework.PodInfo {
	info, err := framework.NewPodInfo(pod)
	if err != nil {
		// The API server validates selectors; the rest of the pod is still used.
		klog.ErrorS(err, "Pod has an unparsable affinity term", "pod", klog.KObj(pod))
	}
	return info
}

// Add puts a new pod into the queue.
func (q *Queue) Add(pod *v1.Pod) {
	p := &framework.QueuedPodInfo{PodInfo: newPodInfo(pod), Timestamp: q.cfg.Clock.Now()}
	if node := pod.Status.NominatedNodeName; node != "" {
		q.nom.Nominate(p.PodInfo, node)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if _, ok := q.inFlight.marks[pod.UID]; ok {
		return
	}
	q.take(pod.UID)
	q.activate(p, eventPodAdd)
}

// Update replaces a pod that waits. A pod in flight sees the change as an event when it comes back.
func (q *Queue) Update(oldPod, newPod *v1.Pod) {
	info := newPodInfo(newPod)
	// A nomination made by the scheduler may not be in the API yet, so an
	// update that does not speak of it leaves it alone.
	if node := newPod.Status.NominatedNodeName; node != "" && (oldPod == nil || oldPod.Status.NominatedNodeName != node) {
		q.nom.Nominate(info, node)
	} else if node == "" && oldPod != nil && oldPod.Status.NominatedNodeName != "" {
		q.nom.drop(newPod)
	} else if node := q.nom.nodeFor(newPod.UID); node != "" {
		q.nom.Nominate(info, node)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	var event framework.ClusterEvent
	if oldPod != nil {
		event = framework.ClusterEvent{Resource: framework.TargetPod, Action: framework.PodActions(oldPod, newPod), Label: eventPodUpdate}
	}
	c := change{event: event, oldObj: oldPod, newObj: newPod}
	if _, ok := q.inFlight.marks[newPod.UID]; ok {
		if oldPod != nil {
			q.inFlight.record(c)
			q.cfg.Metrics.InFlight(q.inFlight.events())
		}
		return
	}
	for _, h := range []*podHeap{q.active, q.backoffs, q.errorBackoffs} {
		if p := h.get(newPod.UID); p != nil {
			p.PodInfo = info
			h.put(p)
			return
		}
	}
	if p := q.gated[newPod.UID]; p != nil {
		p.PodInfo = info
		if oldPod == nil || slices.ContainsFunc(p.GatingEvents, func(e framework.ClusterEvent) bool { return e.Matches(event) }) {
			delete(q.gated, newPod.UID)
			q.activate(p, eventPodUpdate)
		}
		return
	}
	if p := q.unschedulable[newPod.UID]; p != nil {
		p.PodInfo = info
		if oldPod == nil {
			return
		}
		if s := q.decide(p, c); s != stay {
			delete(q.unschedulable, newPod.UID)
			q.requeue(p, s, eventPodUpdate)
		}
		return
	}
	q.activate(&framework.QueuedPodInfo{PodInfo: info, Timestamp: q.cfg.Clock.Now()}, eventPodUpdate)
}

// Delete forgets a pod. One in flight is forgotten by its cycle's Done.
func (q *Queue) Delete(pod *v1.Pod) {
	q.nom.drop(pod)
	q.mu.Lock()
	defer q.mu.Unlock()
	q.take(pod.UID)
}

// Done ends the flight of a popped pod; nothing happens when it has ended.
func (q *Queue) Done(uid types.UID) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.inFlight.done(uid)
	q.cfg.Metrics.InFlight(q.inFlight.events())
}

// AddUnschedulable takes back a popped pod whose attempt failed and ends its
// flight. Events that came meanwhile may make it ready again at once.
// p.UnschedulablePlugins and p.PendingPlugins say who refused it; none means a fault.
func (q *Queue) AddUnschedulable(p *framework.QueuedPodInfo) {
	q.mu.Lock()
	defer q.mu.Unlock()
	changes, _ := q.inFlight.since(p.Pod.UID)
	q.inFlight.done(p.Pod.UID)
	q.cfg.Metrics.InFlight(q.inFlight.events())
	if q.find(p.Pod.UID) != nil {
		return
	}
	p.Timestamp = q.cfg.Clock.Now()
	if len(p.UnschedulablePlugins)+len(p.PendingPlugins) == 0 {
		p.ErrorCount++
		q.requeue(p, afterBackoff, eventAttemptFailure)
		return
	}
	p.UnschedulableCount++
	p.ErrorCount = 0
	s := stay
	for _, c := range changes {
		if c.event.Resource == framework.TargetPod {
			if n, ok := c.newObj.(*v1.Pod); !ok || n.UID != p.Pod.UID {
				continue
			}
		}
		if s = max(s, q.decide(p, c)); s == immediately {
			break
		}
	}
	q.requeue(p, s, eventAttemptFailure)
}

// Move tells the queue of a change in the cluster. check, if not nil, is a
// cheap test whether the change can matter to a pod at all.
func (q *Queue) Move(event framework.ClusterEvent, oldObj, newObj any, check func(*v1.Pod) bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	c := change{event: event, oldObj: oldObj, newObj: newObj}
	if q.inFlight.record(c) {
		q.cfg.Metrics.InFlight(q.inFlight.events())
	}
	for uid, p := range q.unschedulable {
		if check != nil && !check(p.Pod) {
			continue
		}
		if s := q.decide(p, c); s != stay {
			delete(q.unschedulable, uid)
			q.requeue(p, s, event.String())
		}
	}
	for uid, p := range q.gated {
		if slices.ContainsFunc(p.GatingEvents, func(e framework.ClusterEvent) bool { return e.Matches(event) }) {
			delete(q.gated, uid)
			q.activate(p, event.String())
		}
	}
}

// Activate makes waiting pods ready at once, without backoff. Pods in flight
// are retried as soon as they come back.
func (q *Queue) Activate(pods ...*v1.Pod) {
	q.mu.Lock()
	defer q.mu.Unlock()
	var found []*framework.QueuedPodInfo
	for _, pod := range pods {
		if _, ok := q.inFlight.marks[pod.UID]; ok {
			q.inFlight.record(change{event: framework.ClusterEvent{Resource: framework.WildCard, Action: framework.All, Label: eventForceActivate}})
			continue
		}
		if q.active.get(pod.UID) != nil {
			continue
		}
		if p := q.take(pod.UID); p != nil {
			found = append(found, p)
		}
	}
	slices.SortFunc(found, func(a, b *framework.QueuedPodInfo) int { return cmp.Compare(priority(b), priority(a)) })
	for _, p := range found {
		q.activate(p, eventForceActivate)
	}
}
