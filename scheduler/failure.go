package scheduler

import (
	"context"
	"encoding/json"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/klog/v2"

	"skiff/scheduler/framework"
	"skiff/scheduler/metrics"
)

// maxNote is the API's limit for the text of an event.
const maxNote = 1024

// failed puts a pod back into the queue, and tells why in an event and the PodScheduled condition.
func (s *Scheduler) failed(ctx context.Context, pr *profile, q *framework.QueuedPodInfo, st *framework.Status, nominated *string, start time.Time) {
	reason, result := v1.PodReasonUnschedulable, metrics.Unschedulable
	if !st.IsRejected() {
		reason, result = v1.PodReasonSchedulerError, metrics.Error
	}
	msg := st.Message()
	s.metrics.ObserveAttempt(result, pr.Profile(), s.clock.Since(start))
	if ctx.Err() != nil {
		s.queue.Done(q.Pod.UID)
		return
	}
	if result == metrics.Error {
		klog.ErrorS(st.AsError(), "Scheduling failed, the pod is tried again", "pod", klog.KObj(q.Pod))
	} else {
		klog.V(2).InfoS("Pod cannot be scheduled", "pod", klog.KObj(q.Pod), "reason", msg)
	}
	now, err := s.cfg.Informers.Core().V1().Pods().Lister().Pods(q.Pod.Namespace).Get(q.Pod.Name)
	if err != nil || now.UID != q.Pod.UID || now.Spec.NodeName != "" {
		// Deleted, replaced or bound meanwhile: nothing is left to be tried.
		s.queue.Done(q.Pod.UID)
		return
	}
	info, err := framework.NewPodInfo(now)
	if err == nil {
		q.PodInfo = info
	}
	if nominated != nil {
		s.queue.Nominator().Nominate(q.PodInfo, *nominated)
	} else if name := now.Status.NominatedNodeName; name != "" {
		s.queue.Nominator().Nominate(q.PodInfo, name)
	}
	pod := q.Pod
	s.queue.AddUnschedulable(q)
	pr.recorder.Eventf(pod, nil, v1.EventTypeWarning, "FailedScheduling", "Scheduling", "%s", truncate(msg))
	s.report(ctx, pod, &v1.PodCondition{Type: v1.PodScheduled, ObservedGeneration: pod.Generation, Status: v1.ConditionFalse, Reason: reason, Message: msg}, nominated)
}

func truncate(msg string) string {
	if len(msg) < maxNote {
		return msg
	}
	const dots = " ..."
	return msg[:maxNote-len(dots)] + dots
}

// report writes the condition and the nominated node, if they differ from what the pod has.
func (s *Scheduler) report(ctx context.Context, pod *v1.Pod, cond *v1.PodCondition, nominated *string) {
	next := pod.DeepCopy()
	changed := setCondition(&next.Status, cond, metav1.NewTime(s.clock.Now()))
	if nominated != nil && next.Status.NominatedNodeName != *nominated {
		next.Status.NominatedNodeName = *nominated
		changed = true
	}
	if !changed {
		return
	}
	patch, err := statusPatch(pod, next)
	if err != nil {
		klog.ErrorS(err, "Making a status patch failed", "pod", klog.KObj(pod))
		return
	}
	if _, err := s.cfg.Client.CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status"); err != nil && !apierrors.IsNotFound(err) && ctx.Err() == nil {
		klog.ErrorS(err, "Writing the pod's condition failed", "pod", klog.KObj(pod))
	}
}

// statusPatch holds what changed in the status, and the UID as a guard.
func statusPatch(oldPod, newPod *v1.Pod) ([]byte, error) {
	before, err := json.Marshal(v1.Pod{Status: oldPod.Status})
	if err != nil {
		return nil, err
	}
	after, err := json.Marshal(v1.Pod{ObjectMeta: metav1.ObjectMeta{UID: oldPod.UID}, Status: newPod.Status})
	if err != nil {
		return nil, err
	}
	return strategicpatch.CreateTwoWayMergePatch(before, after, v1.Pod{})
}

// setCondition replaces the condition of its type; the transition time moves with the status only.
func setCondition(st *v1.PodStatus, c *v1.PodCondition, now metav1.Time) bool {
	c.LastTransitionTime = now
	for i := range st.Conditions {
		old := &st.Conditions[i]
		if old.Type != c.Type {
			continue
		}
		if old.Status == c.Status {
			c.LastTransitionTime = old.LastTransitionTime
		}
		same := old.Status == c.Status && old.Reason == c.Reason && old.Message == c.Message && old.ObservedGeneration == c.ObservedGeneration && old.LastProbeTime.Equal(&c.LastProbeTime)
		*old = *c
		return !same
	}
	st.Conditions = append(st.Conditions, *c)
	return true
}
