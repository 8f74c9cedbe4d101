package defaultpreemption

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	corev1helpers "k8s.io/component-helpers/scheduling/corev1"

	"skiff/scheduler/framework"
)

// evict deletes the victims, after noting why in their conditions, and takes
// the nomination from pods of lower priority that waited for the node.
func (p *Plugin) evict(ctx context.Context, pod *v1.Pod, c candidate) error {
	var mu sync.Mutex
	var errs []error
	p.handle.Parallelize(ctx, len(c.victims.Pods), func(i int) {
		if err := p.evictOne(ctx, pod, c.victims.Pods[i], c.node); err != nil {
			mu.Lock()
			errs = append(errs, err)
			mu.Unlock()
		}
	})
	if err := errors.Join(errs...); err != nil {
		return err
	}
	var lower []*framework.PodInfo
	for _, n := range p.handle.Nominator().NominatedPods(c.node) {
		if corev1helpers.PodPriority(n.Pod) < corev1helpers.PodPriority(pod) {
			lower = append(lower, n)
		}
	}
	for _, n := range lower {
		p.handle.Nominator().Nominate(n, "")
		if n.Pod.Status.NominatedNodeName == "" {
			continue
		}
		if err := p.patch(ctx, n.Pod, map[string]any{"nominatedNodeName": nil}); err != nil {
			return fmt.Errorf("clearing the nominated node of %s/%s: %w", n.Pod.Namespace, n.Pod.Name, err)
		}
	}
	return nil
}

func (p *Plugin) evictOne(ctx context.Context, pod, victim *v1.Pod, node string) error {
	if p.handle.RejectWaiting(victim, Name, "preempted") {
		return nil
	}
	if victim.DeletionTimestamp == nil {
		cond := v1.PodCondition{Type: v1.DisruptionTarget, ObservedGeneration: victim.Generation, Status: v1.ConditionTrue, Reason: v1.PodReasonPreemptionByScheduler,
			LastTransitionTime: metav1.NewTime(time.Now()), Message: pod.Spec.SchedulerName + ": preempting to accommodate a higher priority pod"}
		if err := p.patch(ctx, victim, map[string]any{"conditions": []v1.PodCondition{cond}}); err != nil {
			return fmt.Errorf("noting the preemption of %s/%s: %w", victim.Namespace, victim.Name, err)
		}
		err := p.handle.Client().CoreV1().Pods(victim.Namespace).Delete(ctx, victim.Name, metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(victim.UID))})
		if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			return fmt.Errorf("evicting %s/%s: %w", victim.Namespace, victim.Name, err)
		}
	}
	p.handle.Recorder().Eventf(victim, pod, v1.EventTypeNormal, "Preempted", "Preempting", "Preempted by pod %v on node %v", pod.UID, node)
	return nil
}

func (p *Plugin) patch(ctx context.Context, pod *v1.Pod, status map[string]any) error {
	body, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": pod.UID}, "status": status})
	if err != nil {
		return err
	}
	_, err = p.handle.Client().CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, types.StrategicMergePatchType, body, metav1.PatchOptions{}, "status")
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
