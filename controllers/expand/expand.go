// Package expand hands growing claims to the resizer of their storage class.
package expand

import (
	"context"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	corelisters "k8s.io/client-go/listers/core/v1"

	"skiff/controllers/loop"
)

// Config is what the controller needs.
type Config struct {
	loop.Parts
}

// Controller tells who will grow a volume.
type Controller struct {
	*loop.Loop
	parts   loop.Parts
	claims  corelisters.PersistentVolumeClaimLister
	volumes corelisters.PersistentVolumeLister
}

// New checks the configuration and makes the controller.
func New(c Config) (*Controller, error) {
	parts, err := c.Complete("volume_expand")
	if err != nil {
		return nil, err
	}
	core := parts.Informers.Core().V1()
	e := &Controller{parts: parts, claims: core.PersistentVolumeClaims().Lister(), volumes: core.PersistentVolumes().Lister()}
	e.Loop = loop.New("volume_expand", parts, e.sync)
	e.On(core.PersistentVolumeClaims().Informer(), loop.Handlers(nil, func(old, claim *v1.PersistentVolumeClaim) {
		before, now := old.Spec.Resources.Requests[v1.ResourceStorage], claim.Spec.Resources.Requests[v1.ResourceStorage]
		if claim.Status.Phase == v1.ClaimBound && now.Cmp(before) > 0 {
			e.Enqueue(claim)
		}
	}, nil))
	e.Reads(core.PersistentVolumes().Informer())
	return e, nil
}

func (c *Controller) sync(_ context.Context, key string) error {
	namespace, name := loop.Split(key)
	claim, err := c.claims.PersistentVolumeClaims(namespace).Get(name)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	volume, err := c.volumes.Get(claim.Spec.VolumeName)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	want, have := claim.Spec.Resources.Requests[v1.ResourceStorage], volume.Spec.Capacity[v1.ResourceStorage]
	if want.Cmp(have) > 0 {
		c.parts.Events.Event(claim, v1.EventTypeNormal, "ExternalExpanding", "waiting for an external controller to expand this PVC")
	}
	return nil
}
