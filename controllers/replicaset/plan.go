package replicaset

import (
	"slices"
	"time"

	apps "k8s.io/api/apps/v1"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/utils/ptr"

	"skiff/controllers/podcontrol"
)

// Burst bounds the creations or deletions of one sync.
const Burst = 500

// Plan is how many pods to make, or which to delete; never both.
type Plan struct {
	Create int
	Delete []*v1.Pod
}

// MakePlan compares the active pods with the wished number. related is asked
// for only when there is a choice of victims.
func MakePlan(rs *apps.ReplicaSet, active []*v1.Pod, related func() []*v1.Pod, now time.Time) Plan {
	diff := len(active) - int(ptr.Deref(rs.Spec.Replicas, 1))
	switch {
	case diff < 0:
		return Plan{Create: min(-diff, Burst)}
	case diff > 0:
		return Plan{Delete: Victims(active, related, min(diff, Burst), now)}
	}
	return Plan{}
}

// Victims picks the n pods whose loss hurts least.
func Victims(active []*v1.Pod, related func() []*v1.Pod, n int, now time.Time) []*v1.Pod {
	if n >= len(active) {
		return active
	}
	ranked := podcontrol.ByNode(active, related())
	slices.SortStableFunc(ranked, func(a, b podcontrol.Ranked) int { return podcontrol.CompareForDeletion(a, b, now) })
	out := make([]*v1.Pod, n)
	for i := range out {
		out[i] = ranked[i].Pod
	}
	return out
}

// NextStatus is the status that the pods and the last failure call for.
func NextStatus(rs *apps.ReplicaSet, pods []*v1.Pod, failure error, now time.Time) apps.ReplicaSetStatus {
	s := *rs.Status.DeepCopy()
	s.Replicas, s.FullyLabeledReplicas, s.ReadyReplicas, s.AvailableReplicas = 0, 0, 0, 0
	template := labels.Set(rs.Spec.Template.Labels).AsSelectorPreValidated()
	var terminating int32
	for _, p := range pods {
		if podcontrol.Terminating(p) {
			terminating++
		}
		if !podcontrol.Active(p) {
			continue
		}
		s.Replicas++
		if template.Matches(labels.Set(p.Labels)) {
			s.FullyLabeledReplicas++
		}
		if podcontrol.Ready(p) {
			s.ReadyReplicas++
			if podcontrol.Available(p, rs.Spec.MinReadySeconds, now) {
				s.AvailableReplicas++
			}
		}
	}
	s.TerminatingReplicas = &terminating
	s.ObservedGeneration = rs.Generation

	i := slices.IndexFunc(s.Conditions, func(c apps.ReplicaSetCondition) bool { return c.Type == apps.ReplicaSetReplicaFailure })
	switch {
	case failure != nil && i < 0:
		reason := "FailedCreate"
		if s.Replicas > ptr.Deref(rs.Spec.Replicas, 1) {
			reason = "FailedDelete"
		}
		s.Conditions = append(s.Conditions, apps.ReplicaSetCondition{
			Type: apps.ReplicaSetReplicaFailure, Status: v1.ConditionTrue, Reason: reason,
			Message: failure.Error(), LastTransitionTime: metav1.NewTime(now),
		})
	case failure == nil && i >= 0:
		s.Conditions = slices.Delete(s.Conditions, i, i+1)
	}
	return s
}

func nextAvailable(active []*v1.Pod, minReady int32, now time.Time) time.Duration {
	var next time.Duration
	for _, p := range active {
		if d := podcontrol.AvailableIn(p, minReady, now); d > 0 && (next == 0 || d < next) {
			next = d
		}
	}
	return next
}
