package dynamicresources

import (
	"context"
	"fmt"
	"slices"

	v1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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
	if s.leftover != nil {
		if err := p.remove(ctx, s.leftover); err != nil {
			return nil, framework.AsStatus(err)
		}
		return nil, framework.NewStatus(framework.Unschedulable, "deletion of ResourceClaim completed")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, claim := range s.elsewhere {
		reserved := claim.Status.ReservedFor
		if len(reserved) > 1 || len(reserved) == 1 && !resourceclaim.IsReservedForPod(pod.Pod, claim, false) {
			continue
		}
		next := claim.DeepCopy()
		next.Status.ReservedFor, next.Status.Allocation, next.Status.Devices = nil, nil, nil
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
	if !ok {
		return nil
	}
	chosen, ok := s.choices[node]
	if !ok {
		if len(s.open) > 0 {
			return framework.AsStatus(fmt.Errorf("claim allocation not found for node %s", node))
		}
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, claim := range s.open {
		if p.pending[claim.UID] != nil {
			return framework.NewStatus(framework.Unschedulable, fmt.Sprintf("resource claim %s is in the process of being allocated", claim.Name))
		}
		next := claim.DeepCopy()
		next.Status.Allocation = &chosen.results[i]
		p.pending[claim.UID] = next
		// Which of the pending ones are this pod's.
		s.open[i] = next
	}
	if chosen.made != nil {
		s.made, s.mappings = chosen.made.DeepCopy(), chosen.mappings
		s.made.Status.Allocation = &chosen.results[len(s.open)]
		p.pending[s.made.UID] = s.made
	}
	return nil
}

// Unreserve lets go of them, also where the API server has the reservation.
func (p *Plugin) Unreserve(ctx context.Context, cycle *framework.CycleState, pod *v1.Pod, _ string) {
	s, ok := framework.Read(cycle, stateKey)
	if !ok {
		return
	}
	if s.made != nil {
		if s.made.Name != unmade {
			if err := p.remove(ctx, s.made); err != nil {
				klog.FromContext(ctx).Error(err, "Deleting the claim for a pod's extended resources failed", "pod", klog.KObj(pod), "claim", klog.KObj(s.made))
			}
		}
		p.forget(unmadeUID(pod))
	}
	for _, claim := range s.claims {
		if err := p.release(ctx, pod, claim, s.failed[claim.UID]); err != nil {
			klog.FromContext(ctx).Error(err, "Taking a pod off its claim failed", "pod", klog.KObj(pod), "claim", klog.KObj(claim))
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, claim := range s.open {
		if p.pending[claim.UID] == claim {
			delete(p.pending, claim.UID)
		}
	}
}

// release takes the pod off a claim. The last one gives the devices back, if they
// cannot be bound.
func (p *Plugin) release(ctx context.Context, pod *v1.Pod, claim *resourceapi.ResourceClaim, back bool) error {
	client := p.handle.Client().ResourceV1().ResourceClaims(claim.Namespace)
	err := retry.RetryOnConflict(retry.DefaultRetry, func() error {
		current, err := client.Get(ctx, claim.Name, metav1.GetOptions{})
		if err != nil || current.UID != claim.UID || !resourceclaim.IsReservedForPod(pod, current, false) {
			return err
		}
		st := &current.Status
		st.ReservedFor = slices.DeleteFunc(st.ReservedFor, func(r resourceapi.ResourceClaimConsumerReference) bool { return r.UID == pod.UID })
		if back && len(st.ReservedFor) == 0 {
			st.Allocation, st.Devices = nil, nil
		}
		_, err = client.UpdateStatus(ctx, current, metav1.UpdateOptions{})
		return err
	})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// PreBindPreFlight skips pods without claims.
func (*Plugin) PreBindPreFlight(_ context.Context, cycle *framework.CycleState, pod *v1.Pod, _ string) *framework.Status {
	s, ok := framework.Read(cycle, stateKey)
	if !ok || len(s.claims) == 0 && s.made == nil && pod.Status.ExtendedResourceClaimStatus == nil {
		return framework.NewStatus(framework.Skip)
	}
	return nil
}

// PreBind writes allocations and reservations, and waits for devices that are
// prepared before the pod is bound.
func (p *Plugin) PreBind(ctx context.Context, cycle *framework.CycleState, pod *v1.Pod, node string) *framework.Status {
	s, ok := framework.Read(cycle, stateKey)
	if !ok {
		return nil
	}
	var bound []*resourceapi.ResourceClaim
	for _, claim := range s.claims {
		var allocation *resourceapi.AllocationResult
		for _, chosen := range s.open {
			if chosen.UID == claim.UID {
				allocation = chosen.Status.Allocation
			}
		}
		if allocation != nil || !resourceclaim.IsReservedForPod(pod, claim, false) {
			var err error
			if claim, err = p.bindClaim(ctx, pod, claim, allocation); err != nil {
				return framework.AsStatus(err)
			}
		}
		bound = append(bound, claim)
	}
	if s.made != nil {
		if err := p.bindMade(ctx, s, pod); err != nil {
			return framework.AsStatus(err)
		}
		bound = append(bound, s.made)
	}
	if err := p.mapped(ctx, s, pod); err != nil {
		return framework.AsStatus(err)
	}
	unready, err := p.await(ctx, pod, node, bound)
	if err != nil {
		for _, claim := range unready {
			s.failed[claim.UID] = true
		}
		return framework.AsStatus(err)
	}
	return nil
}

// bindClaim reserves a claim for the pod, and writes the allocation, if it has
// none yet. It returns the claim as it is then.
func (p *Plugin) bindClaim(ctx context.Context, pod *v1.Pod, claim *resourceapi.ResourceClaim, allocation *resourceapi.AllocationResult) (*resourceapi.ResourceClaim, error) {
	client := p.handle.Client().ResourceV1().ResourceClaims(claim.Namespace)
	next, fresh := claim.DeepCopy(), true
	err := retry.RetryOnConflict(retry.DefaultRetry, func() error {
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
		updated, err := client.UpdateStatus(ctx, next, metav1.UpdateOptions{})
		if err != nil {
			return fmt.Errorf("add reservation to claim %s: %w", klog.KObj(claim), err)
		}
		next = updated
		return nil
	})
	return next, err
}
