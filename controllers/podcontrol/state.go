// Package podcontrol is what the workload controllers share about pods: their
// readiness, making them from a template, deleting them, and ranking them.
package podcontrol

import (
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Condition finds a condition of the pod's status, nil when absent.
func Condition(status *v1.PodStatus, kind v1.PodConditionType) *v1.PodCondition {
	for i := range status.Conditions {
		if status.Conditions[i].Type == kind {
			return &status.Conditions[i]
		}
	}
	return nil
}

// SetCondition puts a condition into the status and says whether it changed it.
func SetCondition(status *v1.PodStatus, c v1.PodCondition, now time.Time) bool {
	c.LastTransitionTime = metav1.NewTime(now)
	old := Condition(status, c.Type)
	if old == nil {
		status.Conditions = append(status.Conditions, c)
		return true
	}
	if old.Status == c.Status {
		c.LastTransitionTime = old.LastTransitionTime
	}
	same := old.Status == c.Status && old.Reason == c.Reason && old.Message == c.Message &&
		old.LastProbeTime.Equal(&c.LastProbeTime) && old.LastTransitionTime.Equal(&c.LastTransitionTime)
	*old = c
	return !same
}

// Ready says whether the pod's Ready condition is true.
func Ready(pod *v1.Pod) bool {
	c := Condition(&pod.Status, v1.PodReady)
	return c != nil && c.Status == v1.ConditionTrue
}

// Available says whether the pod has been ready for minReady seconds.
func Available(pod *v1.Pod, minReady int32, now time.Time) bool {
	c := Condition(&pod.Status, v1.PodReady)
	if c == nil || c.Status != v1.ConditionTrue {
		return false
	}
	if minReady == 0 {
		return true
	}
	since := c.LastTransitionTime.Time
	return !since.IsZero() && !since.Add(time.Duration(minReady)*time.Second).After(now)
}

// AvailableIn is how long until a ready pod becomes available; zero when it
// already is, or is not ready.
func AvailableIn(pod *v1.Pod, minReady int32, now time.Time) time.Duration {
	c := Condition(&pod.Status, v1.PodReady)
	if minReady == 0 || c == nil || c.Status != v1.ConditionTrue || c.LastTransitionTime.IsZero() {
		return 0
	}
	return max(0, c.LastTransitionTime.Add(time.Duration(minReady)*time.Second).Sub(now))
}

// Terminal says whether the pod has ended for good.
func Terminal(pod *v1.Pod) bool {
	return pod.Status.Phase == v1.PodFailed || pod.Status.Phase == v1.PodSucceeded
}

// Active says whether the pod counts towards a controller's replicas.
func Active(pod *v1.Pod) bool { return !Terminal(pod) && pod.DeletionTimestamp == nil }

// Terminating says whether a live pod is being deleted.
func Terminating(pod *v1.Pod) bool { return !Terminal(pod) && pod.DeletionTimestamp != nil }

// OnlyActive keeps the active pods in a new slice.
func OnlyActive(pods []*v1.Pod) []*v1.Pod {
	out := make([]*v1.Pod, 0, len(pods))
	for _, p := range pods {
		if Active(p) {
			out = append(out, p)
		}
	}
	return out
}
