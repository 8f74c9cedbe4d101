// Package pvcprotection keeps PersistentVolumeClaims that pods use from being
// removed.
package pvcprotection

import (
	"context"
	"fmt"
	"slices"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/component-helpers/storage/ephemeral"

	"skiff/controllers/loop"
	"skiff/controllers/podcontrol"
)

// Finalizer holds the claim.
const Finalizer = "kubernetes.io/pvc-protection"

const byClaim = "persistentVolumeClaim"

// Config is what the controller needs.
type Config struct {
	loop.Parts
}

// Controller sets and removes the finalizer.
type Controller struct {
	*loop.Loop
	parts  loop.Parts
	claims corelisters.PersistentVolumeClaimLister
	pods   cache.SharedIndexInformer
}

// New checks the configuration and makes the controller.
func New(c Config) (*Controller, error) {
	parts, err := c.Complete("pvc-protection")
	if err != nil {
		return nil, err
	}
	core := parts.Informers.Core().V1()
	p := &Controller{parts: parts, claims: core.PersistentVolumeClaims().Lister(), pods: core.Pods().Informer()}
	err = loop.Index(p.pods, byClaim, func(obj any) ([]string, error) {
		pod, ok := obj.(*v1.Pod)
		if !ok {
			return nil, nil
		}
		return Claims(pod), nil
	})
	if err != nil {
		return nil, fmt.Errorf("pvc-protection: index pods: %w", err)
	}
	p.Loop = loop.New("pvc-protection", parts, p.sync)
	p.On(core.PersistentVolumeClaims().Informer(), loop.Changed(func(claim *v1.PersistentVolumeClaim) { p.Enqueue(claim) }))
	leaves := func(pod *v1.Pod) {
		for _, key := range Claims(pod) {
			p.Add(key)
		}
	}
	p.On(p.pods, loop.Handlers(nil, func(old, pod *v1.Pod) {
		if old.UID != pod.UID {
			leaves(old)
		}
		if podcontrol.Terminal(pod) {
			leaves(pod)
		}
	}, leaves))
	return p, nil
}

// Claims lists the keys of the claims that the pod names.
func Claims(pod *v1.Pod) []string {
	var out []string
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		switch {
		case v.PersistentVolumeClaim != nil:
			out = append(out, pod.Namespace+"/"+v.PersistentVolumeClaim.ClaimName)
		case v.Ephemeral != nil:
			out = append(out, pod.Namespace+"/"+ephemeral.VolumeClaimName(pod, v))
		}
	}
	return out
}

// uses says whether the pod can have the claim mounted, or is about to.
func uses(pod *v1.Pod, claim *v1.PersistentVolumeClaim) bool {
	if podcontrol.Terminal(pod) || pod.Spec.NodeName == "" {
		return false
	}
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		if v.PersistentVolumeClaim != nil && v.PersistentVolumeClaim.ClaimName == claim.Name {
			return true
		}
		if v.Ephemeral != nil && ephemeral.VolumeClaimName(pod, v) == claim.Name && ephemeral.VolumeIsForPod(pod, claim) == nil {
			return true
		}
	}
	return false
}

func (c *Controller) sync(ctx context.Context, key string) error {
	namespace, name := loop.Split(key)
	claim, err := c.claims.PersistentVolumeClaims(namespace).Get(name)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	has := slices.Contains(claim.Finalizers, Finalizer)
	next := claim.DeepCopy()
	switch {
	case claim.DeletionTimestamp == nil && !has:
		next.Finalizers = append(next.Finalizers, Finalizer)
	case claim.DeletionTimestamp != nil && has:
		used, err := c.used(ctx, claim)
		if err != nil || used {
			return err
		}
		next.Finalizers = slices.DeleteFunc(next.Finalizers, func(f string) bool { return f == Finalizer })
	default:
		return nil
	}
	_, err = c.parts.Client.CoreV1().PersistentVolumeClaims(namespace).Update(ctx, next, metav1.UpdateOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// used asks the cache and, as data is at stake, then the API.
func (c *Controller) used(ctx context.Context, claim *v1.PersistentVolumeClaim) (bool, error) {
	pods, err := loop.ByIndex[*v1.Pod](c.pods, byClaim, claim.Namespace+"/"+claim.Name)
	if err != nil {
		return false, err
	}
	for _, p := range pods {
		if uses(p, claim) {
			return true, nil
		}
	}
	live, err := c.parts.Client.CoreV1().Pods(claim.Namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(live.Items, func(p v1.Pod) bool { return uses(&p, claim) }), nil
}
