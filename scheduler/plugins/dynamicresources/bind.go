package dynamicresources

import (
	"context"
	"fmt"
	"slices"

	v1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/retry"
	"k8s.io/dynamic-resource-allocation/resourceclaim"
	"k8s.io/klog/v2"

	"skiff/scheduler/framework"
)

// PostFilter gives back an allocation that keeps the pod off every node, if
// nobody uses it: the next attempt may choose other devices.
func (p *Plugin) PostFilter(ctx context.Context, cycle *framework.CycleState, pod *framework.PodInfo, _ *framework.NodeStatuses) (*framework.PostFilterResult, *framework.Status) {
	s, ok := framework.Read(cycle, stateKey)
	if !ok {
		return nil, framework.NewStatus(framework.Unschedulable, "no new claims to deallocate")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, claim := range s.elsewhere {
		reserved := claim.Status.ReservedFor
		if len(reserved) > 1 || len(reserved) == 1 && !resourceclaim.IsReservedForPod(pod.Pod, claim, false) {
			continue
		}
		next := claim.DeepCopy()
		next.Status.ReservedFor, next.Status.Allocation = nil, nil
		if _, err := p.handle.Client().ResourceV1().ResourceClaims(next.Namespace).UpdateStatus(ctx, next, metav1.UpdateOptions{}); err != nil {
			return nil, framework.AsStatus(err)
		}
		return nil, framework.NewStatus(framework.Unschedulable, "deallocation of ResourceClaim completed")
	}
	return nil, framework.NewStatus(framework.Unschedulable, "still not schedulable")
}

// Reserve keeps the devices that Filter chose for the node from other pods.
func (p *Plugin) Reserve(_ context.Context, cycle *framework.CycleState, _ *v1.Pod, node string) *framework.Status {
	s, ok := framework.Read(cycle, stateKey)
	if !ok || len(s.open) == 0 {
		return nil
	}
	results := s.results[node]
	if len(results) != len(s.open) {
		return framework.AsStatus(fmt.Errorf("claim allocation not found for node %s", node))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, claim := range s.open {
		if p.pending[claim.UID] != nil {
			return framework.NewStatus(framework.Unschedulable, fmt.Sprintf("resource claim %s is in the process of being allocated", claim.Name))
		}
		next := claim.DeepCopy()
		next.Status.Allocation = &results[i]
		p.pending[claim.UID] = next
		// Which of the pending ones are this pod's.
		s.open[i] = next
	}
	return nil
}

// Unreserve lets go of them, also where the API server has the reservation.
func (p *Plugin) Unreserve(ctx context.Context, cycle *framework.CycleState, pod *v1.Pod, _ string) {
	s, ok := framework.Read(cycle, stateKey)
	if !ok {
		return
	}
	p.mu.Lock()
	for _, claim := range s.open {
		if p.pending[claim.UID] == claim {
			delete(p.pending, claim.UID)
		}
	}
	p.mu.Unlock()
	for _, claim := range s.claims {
		patch := fmt.Sprintf(`{"metadata":{"uid":%q},"status":{"reservedFor":[{"$patch":"delete","uid":%q}]}}`, claim.UID, pod.UID)
		client := p.handle.Client().ResourceV1().ResourceClaims(claim.Namespace)
		current, err := client.Get(ctx, claim.Name, metav1.GetOptions{})
		if err == nil && resourceclaim.IsReservedForPod(pod, current, false) {
			_, err = client.Patch(ctx, claim.Name, types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{}, "status")
		}
		if err != nil && !apierrors.IsNotFound(err) {
			klog.FromContext(ctx).Error(err, "Taking a pod off its claim failed", "pod", klog.KObj(pod), "claim", klog.KObj(claim))
		}
	}
}

// PreBindPreFlight skips pods without claims.
func (*Plugin) PreBindPreFlight(_ context.Context, cycle *framework.CycleState, _ *v1.Pod, _ string) *framework.Status {
	if _, ok := framework.Read(cycle, stateKey); !ok {
		return framework.NewStatus(framework.Skip)
	}
	return nil
}

// PreBind writes allocations and reservations.
func (p *Plugin) PreBind(ctx context.Context, cycle *framework.CycleState, pod *v1.Pod, _ string) *framework.Status {
	s, ok := framework.Read(cycle, stateKey)
	if !ok {
		return nil
	}
	for _, claim := range s.claims {
		var allocation *resourceapi.AllocationResult
		for _, chosen := range s.open {
			if chosen.UID == claim.UID {
				allocation = chosen.Status.Allocation
			}
		}
		if allocation == nil && resourceclaim.IsReservedForPod(pod, claim, false) {
			continue
		}
		if err := p.bindClaim(ctx, pod, claim, allocation); err != nil {
			return framework.AsStatus(err)
		}
	}
	return nil
}

// bindClaim reserves a claim for the pod, and writes the allocation, if it has
// none yet.
func (p *Plugin) bindClaim(ctx context.Context, pod *v1.Pod, claim *resourceapi.ResourceClaim, allocation *resourceapi.AllocationResult) error {
	client := p.handle.Client().ResourceV1().ResourceClaims(claim.Namespace)
	next, fresh := claim.DeepCopy(), true
	return retry.RetryOnConflict(retry.DefaultRetry, func() error {
		if !fresh {
			current, err := client.Get(ctx, claim.Name, metav1.GetOptions{})
			if err != nil {
				return fmt.Errorf("get updated claim %s after conflict: %w", klog.KObj(claim), err)
			}
			next = current
		}
		fresh = false
		switch {
		case next.UID != claim.UID:
			return fmt.Errorf("claim %s got replaced in the meantime", klog.KObj(claim))
		case next.DeletionTimestamp != nil:
			return fmt.Errorf("claim %s got deleted in the meantime", klog.KObj(claim))
		case allocation != nil && next.Status.Allocation != nil:
			return fmt.Errorf("claim %s got allocated elsewhere in the meantime", klog.KObj(claim))
		case allocation == nil && next.Status.Allocation == nil:
			return fmt.Errorf("claim %s got deallocated elsewhere in the meantime", klog.KObj(claim))
		}
		if allocation != nil {
			// The finalizer first: an allocated claim must not vanish.
			if !slices.Contains(next.Finalizers, resourceapi.Finalizer) {
				next.Finalizers = append(next.Finalizers, resourceapi.Finalizer)
				updated, err := client.Update(ctx, next, metav1.UpdateOptions{})
				if err != nil {
					return fmt.Errorf("add finalizer to claim %s: %w", klog.KObj(claim), err)
				}
				next = updated
			}
			next.Status.Allocation = allocation.DeepCopy()
			now := metav1.Now()
			next.Status.Allocation.AllocationTimestamp = &now
		}
		next.Status.ReservedFor = append(next.Status.ReservedFor, resourceapi.ResourceClaimConsumerReference{Resource: "pods", Name: pod.Name, UID: pod.UID})
		if _, err := client.UpdateStatus(ctx, next, metav1.UpdateOptions{}); err != nil {
			return fmt.Errorf("add reservation to claim %s: %w", klog.KObj(claim), err)
		}
		return nil
	})
}
