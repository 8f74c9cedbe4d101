package dynamicresources

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/retry"
	"k8s.io/dynamic-resource-allocation/resourceclaim"
	"k8s.io/klog/v2"
)

// seenWithin bounds how long the cache may be late with a claim that was made.
const seenWithin = 2 * time.Minute

// bindMade makes the claim for extended resources, and returns when the cache
// shows its devices as taken.
func (p *Plugin) bindMade(ctx context.Context, s *state, pod *v1.Pod) error {
	allocation := s.made.Status.Allocation
	next := s.made.DeepCopy()
	next.Name, next.UID, next.Status = "", "", resourceapi.ResourceClaimStatus{}
	created, err := p.handle.Client().ResourceV1().ResourceClaims(pod.Namespace).Create(ctx, next, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("create claim for extended resources %s: %w", klog.KObj(next), err)
	}
	// From here on Unreserve has something to delete.
	s.made = created
	if s.made, err = p.bindClaim(ctx, pod, created, allocation); err != nil {
		return err
	}
	err = p.until(ctx, seenWithin, func() (bool, error) {
		now, err := p.claims.ResourceClaims(created.Namespace).Get(created.Name)
		if apierrors.IsNotFound(err) {
			return false, nil
		}
		return err == nil && now.UID == created.UID && now.Status.Allocation != nil, err
	})
	if err != nil {
		return fmt.Errorf("wait for claim for extended resources %s: %w", klog.KObj(created), err)
	}
	p.forget(unmadeUID(pod))
	return nil
}

// mapped tells the node, in the pod's status, what the claim that was made gives
// to which container, or that there is none.
func (p *Plugin) mapped(ctx context.Context, s *state, pod *v1.Pod) error {
	var want *v1.PodExtendedResourceClaimStatus
	if s.made != nil {
		want = &v1.PodExtendedResourceClaimStatus{ResourceClaimName: s.made.Name, RequestMappings: s.mappings}
	}
	if resourceclaim.PodExtendedStatusEqual(pod.Status.ExtendedResourceClaimStatus, want) {
		return nil
	}
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": pod.UID}, "status": map[string]any{"extendedResourceClaimStatus": want},
	})
	if err != nil {
		return fmt.Errorf("patch of pod %s: %w", klog.KObj(pod), err)
	}
	if _, err := p.handle.Client().CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, types.MergePatchType, patch, metav1.PatchOptions{}, "status"); err != nil {
		return fmt.Errorf("update pod %s ExtendedResourceClaimStatus: %w", klog.KObj(pod), err)
	}
	return nil
}

// remove deletes a claim that no pod runs with.
func (p *Plugin) remove(ctx context.Context, claim *resourceapi.ResourceClaim) error {
	client := p.handle.Client().ResourceV1().ResourceClaims(claim.Namespace)
	err := retry.RetryOnConflict(retry.DefaultRetry, func() error {
		current, err := client.Get(ctx, claim.Name, metav1.GetOptions{})
		if err != nil || current.UID != claim.UID || !slices.Contains(current.Finalizers, resourceapi.Finalizer) {
			return err
		}
		current.Finalizers = slices.DeleteFunc(current.Finalizers, func(f string) bool { return f == resourceapi.Finalizer })
		_, err = client.Update(ctx, current, metav1.UpdateOptions{})
		return err
	})
	if err == nil {
		err = client.Delete(ctx, claim.Name, metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(claim.UID))})
	}
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("delete claim for extended resources %s: %w", klog.KObj(claim), err)
	}
	return nil
}
