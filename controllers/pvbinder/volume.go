package pvbinder

import (
	"context"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	volumes "k8s.io/component-helpers/storage/volume"
)

// Fate is what becomes of a volume.
type Fate int

// Fates of Judge.
const (
	// Available volumes wait for a claim.
	Available Fate = iota
	// Bound volumes have theirs.
	Bound
	// Waiting volumes belong to a claim that does not know it yet.
	Waiting
	// Released volumes have lost their claim.
	Released
	// Unbind gives a volume back that was bound to a claim that took another.
	Unbind
)

// Judge decides by the claim that the volume refers to; nil when it is gone.
func Judge(v *v1.PersistentVolume, claim *v1.PersistentVolumeClaim) Fate {
	ref := v.Spec.ClaimRef
	switch {
	case ref == nil, ref.UID == "":
		return Available
	case claim == nil || claim.UID != ref.UID:
		return Released
	case claim.Spec.VolumeName == "":
		return Waiting
	case claim.Spec.VolumeName == v.Name:
		return Bound
	case v.Annotations[volumes.AnnDynamicallyProvisioned] != "" && v.Spec.PersistentVolumeReclaimPolicy == v1.PersistentVolumeReclaimDelete:
		// It was made for this claim alone.
		return Released
	}
	return Unbind
}

func (c *Controller) syncVolume(ctx context.Context, v *v1.PersistentVolume) error {
	ref := v.Spec.ClaimRef
	var claim *v1.PersistentVolumeClaim
	if ref != nil && ref.UID != "" {
		found, err := c.claims.PersistentVolumeClaims(ref.Namespace).Get(ref.Name)
		if apierrors.IsNotFound(err) || err == nil && found.UID != ref.UID {
			// Releasing a volume can lose data: ask the API too.
			found, err = c.parts.Client.CoreV1().PersistentVolumeClaims(ref.Namespace).Get(ctx, ref.Name, metav1.GetOptions{})
		}
		if err != nil && !apierrors.IsNotFound(err) {
			return err
		}
		if err == nil && found.UID == ref.UID {
			claim = found
		}
	}
	switch Judge(v, claim) {
	case Available:
		_, err := c.volumeStatus(ctx, v, v1.VolumeAvailable)
		return err
	case Bound:
		_, err := c.volumeStatus(ctx, v, v1.VolumeBound)
		return err
	case Waiting:
		c.Add(claimPrefix + ref.Namespace + "/" + ref.Name)
	case Released:
		if v.Status.Phase == v1.VolumeFailed {
			return nil
		}
		_, err := c.volumeStatus(ctx, v, v1.VolumeReleased)
		return err
	case Unbind:
		return c.unbind(ctx, v)
	}
	return nil
}

// unbind takes back what this controller wrote: a reference that a person made
// stays, without the UID.
func (c *Controller) unbind(ctx context.Context, v *v1.PersistentVolume) error {
	next := v.DeepCopy()
	if next.Annotations[volumes.AnnBoundByController] != "" {
		next.Spec.ClaimRef = nil
		delete(next.Annotations, volumes.AnnBoundByController)
	} else {
		next.Spec.ClaimRef.UID = ""
	}
	next, err := c.parts.Client.CoreV1().PersistentVolumes().Update(ctx, next, metav1.UpdateOptions{})
	if err != nil {
		return err
	}
	_, err = c.volumeStatus(ctx, next, v1.VolumeAvailable)
	return err
}
