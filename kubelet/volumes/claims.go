package volumes

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"skiff/kubelet/volumes/volume"
)

// claimed finds what is behind the volume's claim, if it has one.
func (m *Manager) claimed(ctx context.Context, r *volume.Request) *Error {
	claim := claimName(r.Pod, r.Volume)
	if claim == "" {
		return nil
	}
	if err := m.bound(ctx, r, claim); err != nil {
		name := r.Volume.Name
		return &Error{Volume: name, Message: fmt.Sprintf("Unable to attach or mount volumes: unmounted volumes=[%s], unattached volumes=[], failed to process volumes=[%s]: error processing PVC %s/%s: %v", name, name, r.Pod.Namespace, claim, err)}
	}
	return nil
}

// claimName is the claim behind a volume, also of a generic ephemeral one.
func claimName(pod *v1.Pod, v *v1.Volume) string {
	switch {
	case v.PersistentVolumeClaim != nil:
		return v.PersistentVolumeClaim.ClaimName
	case v.Ephemeral != nil:
		return pod.Name + "-" + v.Name
	}
	return ""
}

// claim reads a claim. Two things may come a moment late, and are waited for
// briefly: that a claim that has its volume is said to be bound, and that the
// API server knows of the pod which lets the node read the claim.
func (m *Manager) claim(ctx context.Context, namespace, name string) (*v1.PersistentVolumeClaim, error) {
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for try := 0; ; try++ {
		pvc, err := m.cfg.Client.CoreV1().PersistentVolumeClaims(namespace).Get(ctx, name, metav1.GetOptions{})
		late := err == nil && pvc.Spec.VolumeName != "" && pvc.Status.Phase == v1.ClaimPending || apierrors.IsForbidden(err)
		if !late || try == 20 {
			if err != nil {
				return nil, fmt.Errorf("failed to fetch PVC from API server: %w", err)
			}
			return pvc, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-ticker.C:
		}
	}
}

// bound finds the persistent volume of a claim.
func (m *Manager) bound(ctx context.Context, r *volume.Request, claim string) error {
	pvc, err := m.claim(ctx, r.Pod.Namespace, claim)
	if err != nil {
		return err
	}
	if r.Volume.Ephemeral != nil && !metav1.IsControlledBy(pvc, r.Pod) {
		return fmt.Errorf("PVC %s/%s was not created for pod %s/%s (pod is not owner)", pvc.Namespace, pvc.Name, r.Pod.Namespace, r.Pod.Name)
	}
	if pvc.DeletionTimestamp != nil {
		return errors.New("PVC is being deleted")
	}
	if pvc.Status.Phase != v1.ClaimBound || pvc.Spec.VolumeName == "" {
		return errors.New("PVC is not bound")
	}
	pv, err := m.cfg.Client.CoreV1().PersistentVolumes().Get(ctx, pvc.Spec.VolumeName, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("failed to fetch PV %q from API server: %w", pvc.Spec.VolumeName, err)
	}
	if pv.Spec.ClaimRef == nil || pv.Spec.ClaimRef.UID != pvc.UID {
		return fmt.Errorf("failed to fetch PV %q from API server. dangling PVC reference", pvc.Spec.VolumeName)
	}
	r.PV, r.PVC = pv, pvc
	if gid, err := strconv.ParseInt(pv.Annotations["pv.beta.kubernetes.io/gid"], 10, 64); err == nil {
		m.mu.Lock()
		if !slices.Contains(m.groups[r.Pod.UID], gid) {
			m.groups[r.Pod.UID] = append(m.groups[r.Pod.UID], gid)
		}
		m.mu.Unlock()
	}
	return nil
}
