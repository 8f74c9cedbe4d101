// Package ephemeralvolume makes the claims of pods' generic ephemeral volumes.
package ephemeralvolume

import (
	"context"
	"fmt"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/component-helpers/storage/ephemeral"

	"skiff/controllers/loop"
	"skiff/controllers/podcontrol"
)

// Config is what the controller needs.
type Config struct {
	loop.Parts
}

// Controller makes claims.
type Controller struct {
	*loop.Loop
	parts  loop.Parts
	pods   corelisters.PodLister
	claims corelisters.PersistentVolumeClaimLister
}

// New checks the configuration and makes the controller.
func New(c Config) (*Controller, error) {
	parts, err := c.Complete("ephemeral-volume")
	if err != nil {
		return nil, err
	}
	core := parts.Informers.Core().V1()
	e := &Controller{parts: parts, pods: core.Pods().Lister(), claims: core.PersistentVolumeClaims().Lister()}
	e.Loop = loop.New("ephemeral-volume", parts, e.sync)
	e.On(core.Pods().Informer(), loop.Handlers(func(p *v1.Pod) {
		for _, v := range p.Spec.Volumes {
			if v.Ephemeral != nil {
				e.Enqueue(p)
				return
			}
		}
	}, nil, nil))
	// A claim that was deleted while its pod still waits for it is made anew.
	e.On(core.PersistentVolumeClaims().Informer(), loop.Handlers(nil, nil, func(claim *v1.PersistentVolumeClaim) {
		if ref := metav1.GetControllerOfNoCopy(claim); ref != nil && ref.Kind == "Pod" {
			e.Add(claim.Namespace + "/" + ref.Name)
		}
	}))
	return e, nil
}

func (c *Controller) sync(ctx context.Context, key string) error {
	namespace, name := loop.Split(key)
	pod, err := c.pods.Pods(namespace).Get(name)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if pod.DeletionTimestamp != nil || podcontrol.Terminal(pod) {
		return nil
	}
	for i := range pod.Spec.Volumes {
		if v := &pod.Spec.Volumes[i]; v.Ephemeral != nil {
			if err := c.ensure(ctx, pod, v); err != nil {
				c.parts.Events.Eventf(pod, v1.EventTypeWarning, "FailedBinding", "ephemeral volume %s: %v", v.Name, err)
				return fmt.Errorf("pod %s, ephemeral volume %s: %w", key, v.Name, err)
			}
		}
	}
	return nil
}

func (c *Controller) ensure(ctx context.Context, pod *v1.Pod, v *v1.Volume) error {
	name := ephemeral.VolumeClaimName(pod, v)
	claim, err := c.claims.PersistentVolumeClaims(pod.Namespace).Get(name)
	if err == nil {
		return ephemeral.VolumeIsForPod(pod, claim)
	}
	if !apierrors.IsNotFound(err) {
		return err
	}
	t := v.Ephemeral.VolumeClaimTemplate
	_, err = c.parts.Client.CoreV1().PersistentVolumeClaims(pod.Namespace).Create(ctx, &v1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Annotations: t.Annotations, Labels: t.Labels,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(pod, v1.SchemeGroupVersion.WithKind("Pod"))},
		},
		Spec: *t.Spec.DeepCopy(),
	}, metav1.CreateOptions{})
	if apierrors.HasStatusCause(err, v1.NamespaceTerminatingCause) {
		return nil
	}
	return err
}
