package counts

import (
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// starts are the pods that do not run yet.
type starts struct {
	mu   sync.Mutex // guards pods
	pods map[types.UID]pulling
}

// pulling is the time that pulls of a pod's images took together, of which the last
// ended at until.
type pulling struct {
	took  time.Duration
	until time.Time
}

// Seen notes a pod that is to start.
func (c *Counts) Seen(pod *v1.Pod) {
	if !pod.Status.StartTime.IsZero() || pod.Status.Phase == v1.PodFailed || pod.Status.Phase == v1.PodSucceeded {
		return
	}
	c.starts.mu.Lock()
	defer c.starts.mu.Unlock()
	if c.starts.pods == nil {
		c.starts.pods = map[types.UID]pulling{}
	}
	c.starts.pods[pod.UID] = pulling{}
}

// Pulled notes that an image of a pod that is to start was pulled. The time of pulls
// beside each other counts once.
func (c *Counts) Pulled(uid types.UID, from, to time.Time) {
	c.starts.mu.Lock()
	defer c.starts.mu.Unlock()
	p, ok := c.starts.pods[uid]
	if !ok {
		return
	}
	if from.Before(p.until) {
		from = p.until
	}
	if to.After(from) {
		p.took, p.until = p.took+to.Sub(from), to
	}
	c.starts.pods[uid] = p
}

// Forget drops what is noted of a pod.
func (c *Counts) Forget(uid types.UID) {
	c.starts.mu.Lock()
	defer c.starts.mu.Unlock()
	delete(c.starts.pods, uid)
}

// Runs counts a pod that runs, so long after the kubelet saw it first.
func (c *Counts) Runs(after time.Duration) { c.startDuration.Observe(after.Seconds()) }

// Observed counts a pod of which the API server tells, at a time, that its containers
// run, if it was to start.
func (c *Counts) Observed(pod *v1.Pod, at time.Time) {
	if pod.Status.Phase != v1.PodRunning || !running(pod) {
		return
	}
	c.starts.mu.Lock()
	p, starts := c.starts.pods[pod.UID]
	delete(c.starts.pods, pod.UID)
	c.starts.mu.Unlock()
	if !starts {
		return
	}
	took := at.Sub(pod.CreationTimestamp.Time)
	c.startTotal.Observe(took.Seconds())
	if !stateful(pod) {
		c.startSLI.Observe(max(0, took-p.took-initialised(pod)).Seconds())
	}
}

func running(pod *v1.Pod) bool {
	for i := range pod.Status.ContainerStatuses {
		if r := pod.Status.ContainerStatuses[i].State.Running; r == nil || r.StartedAt.IsZero() {
			return false
		}
	}
	return true
}

// stateful pods have volumes that are more than files of the pod's own.
func stateful(pod *v1.Pod) bool {
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		if v.Secret == nil && v.ConfigMap == nil && v.DownwardAPI == nil && v.EmptyDir == nil && v.Projected == nil {
			return true
		}
	}
	return false
}

// initialised is how long the init containers ran that have ended.
func initialised(pod *v1.Pod) time.Duration {
	var sum time.Duration
	for i := range pod.Status.InitContainerStatuses {
		if t := pod.Status.InitContainerStatuses[i].State.Terminated; t != nil {
			sum += t.FinishedAt.Sub(t.StartedAt.Time)
		}
	}
	return sum
}
