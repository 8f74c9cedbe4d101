// Package pvprotection keeps PersistentVolumes that are bound from being
// removed.
package pvprotection

import (
	"context"
	"slices"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corelisters "k8s.io/client-go/listers/core/v1"

	"skiff/controllers/loop"
)

// Finalizer holds the volume.
const Finalizer = "kubernetes.io/pv-protection"

// Config is what the controller needs.
type Config struct {
	loop.Parts
}

// Controller sets and removes the finalizer.
type Controller struct {
	*loop.Loop
	parts   loop.Parts
	volumes corelisters.PersistentVolumeLister
}

// New checks the configuration and makes the controller.
func New(c Config) (*Controller, error) {
	parts, err := c.Complete("pv-protection")
	if err != nil {
		return nil, err
	}
	volumes := parts.Informers.Core().V1().PersistentVolumes()
	p := &Controller{parts: parts, volumes: volumes.Lister()}
	p.Loop = loop.New("pv-protection", parts, p.sync)
	p.On(volumes.Informer(), loop.Changed(func(v *v1.PersistentVolume) { p.Add(v.Name) }))
	return p, nil
}

func (c *Controller) sync(ctx context.Context, name string) error {
	v, err := c.volumes.Get(name)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	has := slices.Contains(v.Finalizers, Finalizer)
	next := v.DeepCopy()
	switch {
	case v.DeletionTimestamp == nil && !has:
		next.Finalizers = append(next.Finalizers, Finalizer)
	case v.DeletionTimestamp != nil && has && v.Status.Phase != v1.VolumeBound:
		next.Finalizers = slices.DeleteFunc(next.Finalizers, func(f string) bool { return f == Finalizer })
	default:
		return nil
	}
	_, err = c.parts.Client.CoreV1().PersistentVolumes().Update(ctx, next, metav1.UpdateOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
