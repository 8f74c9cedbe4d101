package kubelet

import (
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"

	"skiff/kubelet/containers"
	"skiff/kubelet/status"
)

// stage is where a pod is in its life on the node:
//
//	syncing -> terminating -> terminated
//
// A pod never goes back. It is terminated when nothing of it runs; then its
// volumes and cgroup go, and its object may.
type stage int

const (
	syncing stage = iota
	terminating
	terminated
)

// record is what is known of one pod.
type record struct {
	pod *v1.Pod
	// mirror is the API object of a static pod.
	mirror *v1.Pod
	// mirrorGone is when the last mirror was deleted.
	mirrorGone time.Time
	static     bool
	// removed says that its source does not have the pod any more.
	removed bool

	stage    stage
	admitted bool
	// adopted pods ran when the kubelet started.
	adopted bool
	// failure is why the pod as a whole is to end as failed.
	failure *status.Failure
	// grace, when set, overrides the time that containers have to end.
	grace *int64
	// finished says that the pod's containers have all done their work.
	finished bool
	// reclaimed says that volumes and cgroup are gone.
	reclaimed bool
	// pending is why the node does not give the pod the resources it asks for.
	pending *v1.PodCondition
	// resizing is the generation whose resources the containers do not have yet,
	// 0 for none.
	resizing int64
	// resizeError is what went wrong with the last change of resources.
	resizeError error
	// failures in a row, for the back-off of a step.
	failures int
	// started is when the pod was first seen.
	started time.Time
	// killed is closed when the pod has terminated; nil when nobody waits.
	killed chan struct{}
}

// apiPod is the API server's newest known object of a pod.
func (k *Kubelet) apiPod(uid types.UID) *v1.Pod {
	k.mu.Lock()
	defer k.mu.Unlock()
	r := k.records[uid]
	switch {
	case r == nil:
		return nil
	case r.static:
		return r.mirror
	case r.removed:
		return nil
	}
	return r.pod
}

// deletable reports whether everything of the pod is gone from the node.
func (k *Kubelet) deletable(uid types.UID) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	r := k.records[uid]
	return r != nil && r.stage == terminated && r.reclaimed
}

// snapshot returns a copy of the pod's record, nil when there is none.
func (k *Kubelet) snapshot(uid types.UID) *record {
	k.mu.Lock()
	defer k.mu.Unlock()
	r := k.records[uid]
	if r == nil {
		return nil
	}
	out := *r
	return &out
}

// update changes the pod's record, if it is still there.
func (k *Kubelet) update(uid types.UID, change func(*record)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if r := k.records[uid]; r != nil {
		change(r)
	}
}

// Pods returns the pods of the node as their sources have them, with the
// newest status.
func (k *Kubelet) Pods() []*v1.Pod {
	k.mu.Lock()
	var list []*v1.Pod
	for _, r := range k.records {
		if !r.removed {
			list = append(list, r.pod)
		}
	}
	k.mu.Unlock()
	out := make([]*v1.Pod, 0, len(list))
	for _, pod := range list {
		out = append(out, k.withStatus(pod))
	}
	return out
}

func (k *Kubelet) withStatus(pod *v1.Pod) *v1.Pod {
	if st, ok := k.status.Get(pod.UID); ok {
		pod = pod.DeepCopy()
		pod.Status = st
	}
	return pod
}

// ActivePods are those that run or may run.
func (k *Kubelet) ActivePods() []*v1.Pod {
	k.mu.Lock()
	defer k.mu.Unlock()
	var out []*v1.Pod
	for _, r := range k.records {
		if r.admitted && r.stage != terminated && r.failure == nil {
			out = append(out, k.given(r.pod))
		}
	}
	return out
}

// staying are those of the pods that their sources still have.
func (k *Kubelet) staying(list []*v1.Pod) []*v1.Pod {
	k.mu.Lock()
	defer k.mu.Unlock()
	var out []*v1.Pod
	for _, pod := range list {
		if r := k.records[pod.UID]; r != nil && !r.removed {
			out = append(out, pod)
		}
	}
	return out
}

// PodByName returns a pod and its newest status.
func (k *Kubelet) PodByName(namespace, name string) *v1.Pod {
	k.mu.Lock()
	var found *v1.Pod
	for _, r := range k.records {
		if r.pod.Namespace == namespace && r.pod.Name == name && (found == nil || !r.removed) {
			found = r.pod
		}
	}
	k.mu.Unlock()
	if found == nil {
		return nil
	}
	return k.withStatus(found)
}

// setPod takes a version of a pod from a source.
func (k *Kubelet) setPod(pod *v1.Pod, static bool) {
	k.mu.Lock()
	r := k.records[pod.UID]
	isNew := r == nil
	interrupt, same := false, false
	if isNew {
		r = &record{static: static, started: time.Now()}
		if phase := pod.Status.Phase; phase == v1.PodFailed || phase == v1.PodSucceeded {
			// It ended before; nothing of it may run again.
			r.stage, r.finished, r.admitted = terminating, true, true
		}
		k.records[pod.UID] = r
	} else {
		old := r.pod
		same = !r.removed && sameWish(old, pod)
		interrupt = shortened(old, pod)
	}
	r.pod, r.removed = pod, false
	k.mu.Unlock()
	if isNew {
		if _, ok := k.status.Get(pod.UID); !ok && !static {
			k.objects.Register(pod)
		}
	}
	switch {
	case interrupt:
		k.workers.Interrupt(pod.UID)
	case !same:
		k.workers.Notify(pod.UID)
	}
	k.status.Poke(pod.UID)
}

// shortened reports whether a pod's later version leaves it less time to end.
func shortened(old, pod *v1.Pod) bool {
	before, now := old.DeletionGracePeriodSeconds, pod.DeletionGracePeriodSeconds
	return pod.DeletionTimestamp != nil && (old.DeletionTimestamp == nil || before != nil && now != nil && *now < *before)
}

// sameWish reports whether two versions of a pod ask for the same, so that
// the kubelet's own status updates cause no work.
func sameWish(a, b *v1.Pod) bool {
	return (a.DeletionTimestamp == nil) == (b.DeletionTimestamp == nil) && a.Generation == b.Generation && len(b.Spec.ReadinessGates) == 0 &&
		equality.Semantic.DeepEqual(a.Labels, b.Labels) && equality.Semantic.DeepEqual(a.Annotations, b.Annotations) &&
		equality.Semantic.DeepEqual(&a.Spec, &b.Spec)
}

// removePod says that a pod's source does not have it any more.
func (k *Kubelet) removePod(uid types.UID, last *v1.Pod) {
	k.mu.Lock()
	r := k.records[uid]
	running := false
	if r != nil {
		r.removed = true
		running = r.stage == syncing
		if last != nil {
			// A step that ends the pod already, and no later than it must, is let be.
			running = running || r.stage == terminating && shortened(r.pod, last)
			r.pod = last
		}
	}
	k.mu.Unlock()
	if running {
		k.workers.Interrupt(uid)
	} else {
		k.workers.Notify(uid)
	}
}

// KillPod ends a pod as failed and waits until it has terminated or the
// done channel closes; for eviction and shutdown.
func (k *Kubelet) KillPod(uid types.UID, failure *status.Failure, grace *int64) <-chan struct{} {
	k.mu.Lock()
	r := k.records[uid]
	done := make(chan struct{})
	if r == nil || r.stage == terminated {
		k.mu.Unlock()
		close(done)
		return done
	}
	if r.failure == nil {
		r.failure = failure
	}
	if grace != nil && (r.grace == nil || *grace < *r.grace) {
		r.grace = grace
	}
	if r.killed == nil {
		r.killed = done
	} else {
		done = r.killed
	}
	k.mu.Unlock()
	k.workers.Interrupt(uid)
	return done
}

// fullName names a pod whatever its identifier is.
func fullName(pod *v1.Pod) string { return pod.Namespace + "/" + pod.Name }

var _ containers.Node = (*Kubelet)(nil)
