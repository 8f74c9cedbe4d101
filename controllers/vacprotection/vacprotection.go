// Package vacprotection keeps VolumeAttributesClasses that volumes or claims
// use from being removed.
package vacprotection

import (
	"context"
	"slices"

	v1 "k8s.io/api/core/v1"
	storage "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	corelisters "k8s.io/client-go/listers/core/v1"
	storagelisters "k8s.io/client-go/listers/storage/v1"

	"skiff/controllers/loop"
)

// Finalizer holds the class.
const Finalizer = "kubernetes.io/vac-protection"

// Config is what the controller needs.
type Config struct {
	loop.Parts
}

// Controller sets and removes the finalizer.
type Controller struct {
	*loop.Loop
	parts   loop.Parts
	classes storagelisters.VolumeAttributesClassLister
	claims  corelisters.PersistentVolumeClaimLister
	volumes corelisters.PersistentVolumeLister
}

// New checks the configuration and makes the controller.
func New(c Config) (*Controller, error) {
	parts, err := c.Complete("volumeattributesclass-protection")
	if err != nil {
		return nil, err
	}
	core := parts.Informers.Core().V1()
	classes := parts.Informers.Storage().V1().VolumeAttributesClasses()
	p := &Controller{parts: parts, classes: classes.Lister(), claims: core.PersistentVolumeClaims().Lister(), volumes: core.PersistentVolumes().Lister()}
	p.Loop = loop.New("volumeattributesclass-protection", parts, p.sync)
	p.On(classes.Informer(), loop.Changed(func(o *storage.VolumeAttributesClass) { p.Add(o.Name) }))
	p.On(core.PersistentVolumeClaims().Informer(), loop.Handlers(nil, func(old, o *v1.PersistentVolumeClaim) { p.again(used(old)) }, func(o *v1.PersistentVolumeClaim) { p.again(used(o)) }))
	p.On(core.PersistentVolumes().Informer(), loop.Handlers(nil, func(old, o *v1.PersistentVolume) {
		p.again([]*string{old.Spec.VolumeAttributesClassName})
	}, func(o *v1.PersistentVolume) { p.again([]*string{o.Spec.VolumeAttributesClassName}) }))
	return p, nil
}

func (c *Controller) again(names []*string) {
	for _, n := range names {
		if n != nil && *n != "" {
			c.Add(*n)
		}
	}
}

// used lists the classes that a claim has, asks for, or is changing to.
func used(claim *v1.PersistentVolumeClaim) []*string {
	out := []*string{claim.Spec.VolumeAttributesClassName, claim.Status.CurrentVolumeAttributesClassName}
	if m := claim.Status.ModifyVolumeStatus; m != nil {
		out = append(out, &m.TargetVolumeAttributesClassName)
	}
	return out
}

func (c *Controller) sync(ctx context.Context, name string) error {
	class, err := c.classes.Get(name)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	has := slices.Contains(class.Finalizers, Finalizer)
	next := class.DeepCopy()
	switch {
	case class.DeletionTimestamp == nil && !has:
		next.Finalizers = append(next.Finalizers, Finalizer)
	case class.DeletionTimestamp != nil && has:
		busy, err := c.busy(name)
		if err != nil || busy {
			return err
		}
		next.Finalizers = slices.DeleteFunc(next.Finalizers, func(f string) bool { return f == Finalizer })
	default:
		return nil
	}
	_, err = c.parts.Client.StorageV1().VolumeAttributesClasses().Update(ctx, next, metav1.UpdateOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

func (c *Controller) busy(name string) (bool, error) {
	is := func(n *string) bool { return n != nil && *n == name }
	volumes, err := c.volumes.List(labels.Everything())
	if err != nil {
		return false, err
	}
	if slices.ContainsFunc(volumes, func(v *v1.PersistentVolume) bool { return is(v.Spec.VolumeAttributesClassName) }) {
		return true, nil
	}
	claims, err := c.claims.List(labels.Everything())
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(claims, func(p *v1.PersistentVolumeClaim) bool { return slices.ContainsFunc(used(p), is) }), nil
}
