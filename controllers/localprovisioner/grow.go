package localprovisioner

import (
	"context"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	volumes "k8s.io/component-helpers/storage/volume"
)

// Growth is the size that a claim asks for beyond what it has; false when it
// asks for none, or the volume is not its own.
func Growth(claim *v1.PersistentVolumeClaim, v *v1.PersistentVolume) (resource.Quantity, bool) {
	want := claim.Spec.Resources.Requests[v1.ResourceStorage]
	has := claim.Status.Capacity[v1.ResourceStorage]
	own := v.Spec.ClaimRef != nil && v.Spec.ClaimRef.UID == claim.UID && claim.DeletionTimestamp == nil
	return want, own && claim.Status.Phase == v1.ClaimBound && want.Cmp(has) > 0
}

// grow gives a claim the size that it asks for. A directory is as large as its
// file system, so nothing but the two objects changes.
func (c *Controller) grow(ctx context.Context, claim *v1.PersistentVolumeClaim) error {
	v, err := c.volumes.Get(claim.Spec.VolumeName)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	size, grows := Growth(claim, v)
	if !grows || v.Annotations[volumes.AnnDynamicallyProvisioned] != c.config.Name {
		return nil
	}
	if have := v.Spec.Capacity[v1.ResourceStorage]; have.Cmp(size) < 0 {
		next := v.DeepCopy()
		next.Spec.Capacity[v1.ResourceStorage] = size
		if _, err := c.parts.Client.CoreV1().PersistentVolumes().Update(ctx, next, metav1.UpdateOptions{}); err != nil {
			return err
		}
	}
	next := claim.DeepCopy()
	next.Status.Capacity[v1.ResourceStorage] = size
	next.Status.Conditions = nil
	if _, err := c.parts.Client.CoreV1().PersistentVolumeClaims(claim.Namespace).UpdateStatus(ctx, next, metav1.UpdateOptions{}); err != nil {
		return err
	}
	c.parts.Events.Event(claim, v1.EventTypeNormal, "VolumeResizeSuccessful", "Resize volume succeeded")
	return nil
}
