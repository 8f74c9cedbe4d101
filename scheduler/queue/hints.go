package queue

import (
	"time"

	"k8s.io/klog/v2"

	"skiff/scheduler/framework"
)

// strategy says where an event sends a waiting pod.
type strategy int

const (
	stay strategy = iota
	afterBackoff
	immediately
)

// decide asks the plugins that refused the pod whether a change may help it.
func (q *Queue) decide(p *framework.QueuedPodInfo, c change) strategy {
	if c.event.Resource == framework.WildCard {
		return afterBackoff
	}
	refused := len(p.UnschedulablePlugins)+len(p.PendingPlugins) > 0
	if !refused {
		// The last attempt failed by a fault: anything may help.
		return afterBackoff
	}
	hints := q.cfg.Hints[p.Pod.Spec.SchedulerName]
	for name := range p.PendingPlugins {
		if q.helps(p, name, hints[name], c) {
			return immediately
		}
	}
	for name := range p.UnschedulablePlugins {
		if q.helps(p, name, hints[name], c) {
			return afterBackoff
		}
	}
	return stay
}

func (q *Queue) helps(p *framework.QueuedPodInfo, plugin string, hints []framework.EventHint, c change) bool {
	for i := range hints {
		h := &hints[i]
		if !h.Event.Matches(c.event) {
			continue
		}
		if h.Hint == nil {
			return true
		}
		start := time.Now()
		hint, err := h.Hint(p.Pod, c.oldObj, c.newObj)
		name := "QueueSkip"
		if err != nil {
			klog.ErrorS(err, "Queueing hint failed, the pod is tried again", "plugin", plugin, "event", c.event.String(), "pod", klog.KObj(p.Pod))
			hint = framework.Queue
		}
		if hint == framework.Queue {
			name = "Queue"
		}
		q.cfg.Metrics.QueueingHint(plugin, c.event.String(), name, time.Since(start))
		if hint == framework.Queue {
			return true
		}
	}
	return false
}

// backoff is the wait of a pod after its last attempt: it doubles with each failure in a row.
func (q *Queue) backoff(p *framework.QueuedPodInfo) time.Duration {
	n := p.UnschedulableCount
	if p.ErrorCount > 0 {
		n = p.ErrorCount
	}
	if n == 0 {
		return 0
	}
	d := q.cfg.InitialBackoff
	for range n - 1 {
		if d > q.cfg.MaxBackoff-d {
			return q.cfg.MaxBackoff
		}
		d += d
	}
	return min(d, q.cfg.MaxBackoff)
}
