package deployment

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	apps "k8s.io/api/apps/v1"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// Reasons of the Progressing condition.
const (
	reasonAvailable   = "NewReplicaSetAvailable"
	reasonUpdated     = "ReplicaSetUpdated"
	reasonTimedOut    = "ProgressDeadlineExceeded"
	reasonPaused      = "DeploymentPaused"
	reasonResumed     = "DeploymentResumed"
	reasonCreated     = "NewReplicaSetCreated"
	reasonFound       = "FoundNewReplicaSet"
	reasonCreateError = "ReplicaSetCreateError"
)

func progressing(status v1.ConditionStatus, reason, message string) apps.DeploymentCondition {
	return apps.DeploymentCondition{Type: apps.DeploymentProgressing, Status: status, Reason: reason, Message: message}
}

func condition(s apps.DeploymentStatus, kind apps.DeploymentConditionType) *apps.DeploymentCondition {
	for i := range s.Conditions {
		if s.Conditions[i].Type == kind {
			return &s.Conditions[i]
		}
	}
	return nil
}

func dropCondition(s *apps.DeploymentStatus, kind apps.DeploymentConditionType) {
	s.Conditions = slices.DeleteFunc(slices.Clone(s.Conditions), func(c apps.DeploymentCondition) bool { return c.Type == kind })
}

// setCondition leaves a condition of the same status and reason untouched.
func setCondition(s *apps.DeploymentStatus, c apps.DeploymentCondition, now time.Time) {
	c.LastUpdateTime, c.LastTransitionTime = metav1.NewTime(now), metav1.NewTime(now)
	if old := condition(*s, c.Type); old != nil {
		if old.Status == c.Status && old.Reason == c.Reason {
			return
		}
		if old.Status == c.Status {
			c.LastTransitionTime = old.LastTransitionTime
		}
	}
	dropCondition(s, c.Type)
	s.Conditions = append(s.Conditions, c)
}

func noDeadline(d *apps.Deployment) bool {
	return d.Spec.ProgressDeadlineSeconds == nil || *d.Spec.ProgressDeadlineSeconds == math.MaxInt32
}

// NextStatus counts the sets and judges availability.
func NextStatus(d *apps.Deployment, all []*apps.ReplicaSet, newSet *apps.ReplicaSet, now time.Time) apps.DeploymentStatus {
	s := apps.DeploymentStatus{
		ObservedGeneration: d.Generation,
		CollisionCount:     d.Status.CollisionCount,
		Conditions:         slices.Clone(d.Status.Conditions),
	}
	var terminating int32
	known := true
	for _, rs := range all {
		s.Replicas += rs.Status.Replicas
		s.ReadyReplicas += rs.Status.ReadyReplicas
		s.AvailableReplicas += rs.Status.AvailableReplicas
		if rs.Status.TerminatingReplicas == nil {
			known = false
		} else {
			terminating += *rs.Status.TerminatingReplicas
		}
	}
	if known {
		s.TerminatingReplicas = &terminating
	}
	if newSet != nil {
		s.UpdatedReplicas = newSet.Status.Replicas
	}
	s.UnavailableReplicas = max(0, wished(all)-s.AvailableReplicas)
	c := apps.DeploymentCondition{
		Type: apps.DeploymentAvailable, Status: v1.ConditionFalse,
		Reason: "MinimumReplicasUnavailable", Message: "Deployment does not have minimum availability.",
	}
	if s.AvailableReplicas >= replicas(d)-MaxUnavailable(d) {
		c.Status, c.Reason, c.Message = v1.ConditionTrue, "MinimumReplicasAvailable", "Deployment has minimum availability."
	}
	setCondition(&s, c, now)
	return s
}

// Complete says whether all pods are of the new template and available.
func Complete(d *apps.Deployment, s apps.DeploymentStatus) bool {
	n := replicas(d)
	return s.UpdatedReplicas == n && s.Replicas == n && s.AvailableReplicas == n && s.ObservedGeneration >= d.Generation
}

func advanced(was, now apps.DeploymentStatus) bool {
	return now.UpdatedReplicas > was.UpdatedReplicas ||
		now.Replicas-now.UpdatedReplicas < was.Replicas-was.UpdatedReplicas ||
		now.ReadyReplicas > was.ReadyReplicas || now.AvailableReplicas > was.AvailableReplicas
}

func timedOut(d *apps.Deployment, s apps.DeploymentStatus, now time.Time) bool {
	c := condition(s, apps.DeploymentProgressing)
	if c == nil || c.Reason == reasonAvailable {
		return false
	}
	if c.Reason == reasonTimedOut {
		return true
	}
	return c.LastUpdateTime.Add(time.Duration(*d.Spec.ProgressDeadlineSeconds) * time.Second).Before(now)
}

// Judge sets the Progressing and ReplicaFailure conditions of the next status.
func Judge(d *apps.Deployment, next *apps.DeploymentStatus, all []*apps.ReplicaSet, newSet *apps.ReplicaSet, now time.Time) {
	subject := fmt.Sprintf("Deployment %q", d.Name)
	if newSet != nil {
		subject = fmt.Sprintf("ReplicaSet %q", newSet.Name)
	}
	was := condition(d.Status, apps.DeploymentProgressing)
	if noDeadline(d) {
		dropCondition(next, apps.DeploymentProgressing)
	} else if done := next.Replicas == next.UpdatedReplicas && was != nil && was.Reason == reasonAvailable; !done {
		switch {
		case Complete(d, *next):
			setCondition(next, progressing(v1.ConditionTrue, reasonAvailable, subject+" has successfully progressed."), now)
		case advanced(d.Status, *next):
			// Each step moves the update time, from which the deadline counts.
			c := progressing(v1.ConditionTrue, reasonUpdated, subject+" is progressing.")
			c.LastUpdateTime, c.LastTransitionTime = metav1.NewTime(now), metav1.NewTime(now)
			if was != nil && was.Status == v1.ConditionTrue {
				c.LastTransitionTime = was.LastTransitionTime
			}
			dropCondition(next, apps.DeploymentProgressing)
			next.Conditions = append(next.Conditions, c)
		case timedOut(d, *next, now):
			setCondition(next, progressing(v1.ConditionFalse, reasonTimedOut, subject+" has timed out progressing."), now)
		}
	}
	if failure := replicaFailure(all, newSet); failure != nil {
		setCondition(next, *failure, now)
	} else {
		dropCondition(next, apps.DeploymentReplicaFailure)
	}
}

func replicaFailure(all []*apps.ReplicaSet, newSet *apps.ReplicaSet) *apps.DeploymentCondition {
	find := func(rs *apps.ReplicaSet) *apps.DeploymentCondition {
		for _, c := range rs.Status.Conditions {
			if c.Type == apps.ReplicaSetReplicaFailure && c.Status == v1.ConditionTrue {
				return &apps.DeploymentCondition{Type: apps.DeploymentReplicaFailure, Status: c.Status, Reason: c.Reason, Message: c.Message}
			}
		}
		return nil
	}
	if newSet != nil {
		if c := find(newSet); c != nil {
			return c
		}
	}
	for _, rs := range all {
		if c := find(rs); c != nil {
			return c
		}
	}
	return nil
}

// progress writes the status of a rollout and wakes it at its deadline.
func (r *rollout) progress(ctx context.Context, newSet *apps.ReplicaSet, old []*apps.ReplicaSet) error {
	now := r.parts.Clock.Now()
	all := join(old, newSet)
	next := NextStatus(r.d, all, newSet, now)
	Judge(r.d, &next, all, newSet, now)
	if err := r.writeStatus(ctx, next); err != nil {
		return err
	}
	if noDeadline(r.d) || Complete(r.d, next) {
		return nil
	}
	c := condition(next, apps.DeploymentProgressing)
	if c == nil || c.Reason == reasonTimedOut || c.Reason == reasonAvailable {
		return nil
	}
	deadline := c.LastUpdateTime.Add(time.Duration(ptr.Deref(r.d.Spec.ProgressDeadlineSeconds, 600)) * time.Second)
	// One second later, so that the deadline has surely passed.
	r.EnqueueAfter(r.d, max(0, deadline.Sub(now))+time.Second)
	return nil
}

func (r *rollout) writeStatus(ctx context.Context, next apps.DeploymentStatus) error {
	if equality.Semantic.DeepEqual(r.d.Status, next) {
		return nil
	}
	r.d.Status = next
	return r.updateStatus(ctx)
}
