// Package pvbinder binds PersistentVolumeClaims to PersistentVolumes, asks
// provisioners for missing volumes and releases those whose claim is gone.
package pvbinder

import (
	"context"
	"fmt"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	corelisters "k8s.io/client-go/listers/core/v1"
	storagelisters "k8s.io/client-go/listers/storage/v1"
	"k8s.io/client-go/tools/cache"
	volumes "k8s.io/component-helpers/storage/volume"

	"skiff/controllers/loop"
)

const (
	claimPrefix  = "claim:"
	volumePrefix = "volume:"
)

// Config is what the controller needs.
type Config struct {
	loop.Parts
}

// Controller binds claims and volumes. It has one worker: each decision looks
// at many objects, and the next must see its outcome.
type Controller struct {
	*loop.Loop
	parts   loop.Parts
	claims  corelisters.PersistentVolumeClaimLister
	volumes corelisters.PersistentVolumeLister
	classes storagelisters.StorageClassLister
	pods    cache.SharedIndexInformer
}

// New checks the configuration and makes the controller.
func New(c Config) (*Controller, error) {
	c.Workers = 1
	parts, err := c.Complete("persistentvolume-binder")
	if err != nil {
		return nil, err
	}
	core := parts.Informers.Core().V1()
	classes := parts.Informers.Storage().V1().StorageClasses()
	b := &Controller{
		parts: parts, claims: core.PersistentVolumeClaims().Lister(), volumes: core.PersistentVolumes().Lister(),
		classes: classes.Lister(), pods: core.Pods().Informer(),
	}
	b.Loop = loop.New("persistentvolume-binder", parts, b.sync)
	b.On(core.PersistentVolumeClaims().Informer(), loop.Each(func(c *v1.PersistentVolumeClaim) {
		b.Add(claimPrefix + c.Namespace + "/" + c.Name)
		if c.Spec.VolumeName != "" {
			b.Add(volumePrefix + c.Spec.VolumeName)
		}
	}))
	b.On(core.PersistentVolumes().Informer(), loop.Each(func(v *v1.PersistentVolume) {
		b.Add(volumePrefix + v.Name)
		if ref := v.Spec.ClaimRef; ref != nil {
			b.Add(claimPrefix + ref.Namespace + "/" + ref.Name)
		} else {
			b.waiting()
		}
	}))
	b.On(classes.Informer(), loop.Handlers(func(any) { b.waiting() }, nil, nil))
	b.Reads(b.pods)
	return b, nil
}

// waiting looks again at all claims without a volume.
func (c *Controller) waiting() {
	all, err := c.claims.List(labels.Everything())
	if err != nil {
		return
	}
	for _, claim := range all {
		if claim.Spec.VolumeName == "" {
			c.Add(claimPrefix + claim.Namespace + "/" + claim.Name)
		}
	}
}

func (c *Controller) sync(ctx context.Context, key string) error {
	if name, ok := strings.CutPrefix(key, volumePrefix); ok {
		v, err := c.volumes.Get(name)
		if apierrors.IsNotFound(err) {
			return nil
		}
		if err != nil {
			return err
		}
		return c.syncVolume(ctx, v)
	}
	namespace, name := loop.Split(strings.TrimPrefix(key, claimPrefix))
	claim, err := c.claims.PersistentVolumeClaims(namespace).Get(name)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if claim.Annotations[volumes.AnnBindCompleted] != "" {
		return c.syncBound(ctx, claim)
	}
	return c.syncUnbound(ctx, claim)
}

func (c *Controller) syncUnbound(ctx context.Context, claim *v1.PersistentVolumeClaim) error {
	if claim.Spec.VolumeName != "" {
		return c.syncAsked(ctx, claim)
	}
	delay, err := volumes.IsDelayBindingMode(claim, c.classes)
	if err != nil {
		return err
	}
	delay = delay && claim.Annotations[volumes.AnnSelectedNode] == ""
	all, err := c.volumes.List(labels.Everything())
	if err != nil {
		return err
	}
	var candidates []*v1.PersistentVolume
	for _, v := range all {
		if volumes.CheckAccessModes(claim, v) {
			candidates = append(candidates, v)
		}
	}
	match, err := volumes.FindMatchingVolume(claim, candidates, nil, nil, delay, true)
	if err != nil {
		return fmt.Errorf("error finding PV for claim %s/%s: %w", claim.Namespace, claim.Name, err)
	}
	if match != nil {
		return c.bind(ctx, match, claim)
	}
	class := volumes.GetPersistentVolumeClaimClass(claim)
	switch {
	case delay:
		c.tellDelay(claim)
	case class != "":
		if claim, err = c.provision(ctx, claim, class); err != nil {
			return err
		}
	default:
		c.parts.Events.Event(claim, v1.EventTypeNormal, "FailedBinding", "no persistent volumes available for this claim and no storage class is set")
	}
	_, err = c.claimStatus(ctx, claim, v1.ClaimPending, nil)
	return err
}

// tellDelay says what the claim waits for.
func (c *Controller) tellDelay(claim *v1.PersistentVolumeClaim) {
	for _, obj := range c.pods.GetIndexer().List() {
		pod, ok := obj.(*v1.Pod)
		if !ok || pod.Namespace != claim.Namespace || pod.Spec.NodeName != "" || pod.DeletionTimestamp != nil {
			continue
		}
		for i := range pod.Spec.Volumes {
			v := &pod.Spec.Volumes[i]
			if v.PersistentVolumeClaim != nil && v.PersistentVolumeClaim.ClaimName == claim.Name || v.Ephemeral != nil && pod.Name+"-"+v.Name == claim.Name {
				c.parts.Events.Eventf(claim, v1.EventTypeNormal, "WaitForPodScheduled", "waiting for pod %s to be scheduled", pod.Name)
				return
			}
		}
	}
	c.parts.Events.Event(claim, v1.EventTypeNormal, "WaitForFirstConsumer", "waiting for first consumer to be created before binding")
}

// provision asks the class's provisioner for a volume.
func (c *Controller) provision(ctx context.Context, claim *v1.PersistentVolumeClaim, class string) (*v1.PersistentVolumeClaim, error) {
	sc, err := c.classes.Get(class)
	if apierrors.IsNotFound(err) {
		c.parts.Events.Eventf(claim, v1.EventTypeWarning, "ProvisioningFailed", "storageclass.storage.k8s.io %q not found", class)
		return claim, nil
	}
	if err != nil {
		return nil, err
	}
	if sc.Provisioner == "kubernetes.io/no-provisioner" {
		c.parts.Events.Eventf(claim, v1.EventTypeWarning, "ProvisioningFailed", "storageclass %q has no provisioner and no persistent volume fits", class)
		return claim, nil
	}
	if claim.Annotations[volumes.AnnStorageProvisioner] != sc.Provisioner || claim.Annotations[volumes.AnnBetaStorageProvisioner] != sc.Provisioner {
		next := claim.DeepCopy()
		metav1.SetMetaDataAnnotation(&next.ObjectMeta, volumes.AnnStorageProvisioner, sc.Provisioner)
		metav1.SetMetaDataAnnotation(&next.ObjectMeta, volumes.AnnBetaStorageProvisioner, sc.Provisioner)
		if claim, err = c.parts.Client.CoreV1().PersistentVolumeClaims(claim.Namespace).Update(ctx, next, metav1.UpdateOptions{}); err != nil {
			return nil, err
		}
	}
	c.parts.Events.Eventf(claim, v1.EventTypeNormal, "ExternalProvisioning",
		"Waiting for a volume to be created either by the external provisioner '%s' or manually by the system administrator. If volume creation is delayed, please verify that the provisioner is running and correctly registered.", sc.Provisioner)
	return claim, nil
}

// syncAsked serves a claim that names its volume.
func (c *Controller) syncAsked(ctx context.Context, claim *v1.PersistentVolumeClaim) error {
	v, err := c.volumes.Get(claim.Spec.VolumeName)
	if apierrors.IsNotFound(err) {
		_, err = c.claimStatus(ctx, claim, v1.ClaimPending, nil)
		return err
	}
	if err != nil {
		return err
	}
	switch {
	case v.Spec.ClaimRef == nil:
		if reason := Unfit(v, claim); reason != "" {
			c.parts.Events.Eventf(claim, v1.EventTypeWarning, "VolumeMismatch", "Cannot bind to requested volume %q: %s", v.Name, reason)
			_, err = c.claimStatus(ctx, claim, v1.ClaimPending, nil)
			return err
		}
		return c.bind(ctx, v, claim)
	case volumes.IsVolumeBoundToClaim(v, claim):
		return c.bind(ctx, v, claim)
	}
	c.parts.Events.Eventf(claim, v1.EventTypeWarning, "FailedBinding", "volume %q already bound to a different claim.", v.Name)
	_, err = c.claimStatus(ctx, claim, v1.ClaimPending, nil)
	return err
}

// Unfit says why the volume cannot serve the claim; empty when it can.
func Unfit(v *v1.PersistentVolume, claim *v1.PersistentVolumeClaim) string {
	want, have := claim.Spec.Resources.Requests[v1.ResourceStorage], v.Spec.Capacity[v1.ResourceStorage]
	switch {
	case have.Cmp(want) < 0:
		return "requested PV is too small"
	case volumes.GetPersistentVolumeClass(v) != volumes.GetPersistentVolumeClaimClass(claim):
		return "storageClassName does not match"
	case volumes.CheckVolumeModeMismatches(&claim.Spec, &v.Spec):
		return "incompatible volumeMode"
	case !volumes.CheckAccessModes(claim, v):
		return "incompatible accessMode"
	}
	return ""
}

// syncBound watches over a claim that has its volume.
func (c *Controller) syncBound(ctx context.Context, claim *v1.PersistentVolumeClaim) error {
	lost := func(reason, message string) error {
		if claim.Status.Phase != v1.ClaimLost {
			c.parts.Events.Event(claim, v1.EventTypeWarning, reason, message)
		}
		_, err := c.claimStatus(ctx, claim, v1.ClaimLost, nil)
		return err
	}
	if claim.Spec.VolumeName == "" {
		return lost("ClaimLost", "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!")
	}
	v, err := c.volumes.Get(claim.Spec.VolumeName)
	if apierrors.IsNotFound(err) {
		// A volume that was just made may not be in the cache.
		if v, err = c.parts.Client.CoreV1().PersistentVolumes().Get(ctx, claim.Spec.VolumeName, metav1.GetOptions{}); apierrors.IsNotFound(err) {
			return lost("ClaimLost", "Bound claim has lost its PersistentVolume. Data on the volume is lost!")
		}
	}
	if err != nil {
		return err
	}
	if v.Spec.ClaimRef == nil || v.Spec.ClaimRef.UID == claim.UID || v.Spec.ClaimRef.UID == "" && volumes.IsVolumeBoundToClaim(v, claim) {
		return c.bind(ctx, v, claim)
	}
	return lost("ClaimMisbound", "Two claims are bound to the same volume, this one is bound incorrectly")
}

// bind ties both together; each step alone can be taken again.
func (c *Controller) bind(ctx context.Context, v *v1.PersistentVolume, claim *v1.PersistentVolumeClaim) error {
	tied, dirty, err := volumes.GetBindVolumeToClaim(v, claim)
	if err != nil {
		return err
	}
	if dirty {
		if tied, err = c.parts.Client.CoreV1().PersistentVolumes().Update(ctx, tied, metav1.UpdateOptions{}); err != nil {
			return err
		}
	}
	if tied, err = c.volumeStatus(ctx, tied, v1.VolumeBound); err != nil {
		return err
	}
	next := claim.DeepCopy()
	changed := false
	if claim.Spec.VolumeName != tied.Name {
		next.Spec.VolumeName = tied.Name
		metav1.SetMetaDataAnnotation(&next.ObjectMeta, volumes.AnnBoundByController, "yes")
		changed = true
	}
	if claim.Annotations[volumes.AnnBindCompleted] == "" {
		metav1.SetMetaDataAnnotation(&next.ObjectMeta, volumes.AnnBindCompleted, "yes")
		changed = true
	}
	if changed {
		if next, err = c.parts.Client.CoreV1().PersistentVolumeClaims(claim.Namespace).Update(ctx, next, metav1.UpdateOptions{}); err != nil {
			return err
		}
	}
	_, err = c.claimStatus(ctx, next, v1.ClaimBound, tied)
	return err
}

func (c *Controller) claimStatus(ctx context.Context, claim *v1.PersistentVolumeClaim, phase v1.PersistentVolumeClaimPhase, v *v1.PersistentVolume) (*v1.PersistentVolumeClaim, error) {
	next := claim.DeepCopy()
	next.Status.Phase = phase
	if v == nil {
		if phase == v1.ClaimPending {
			next.Status.AccessModes, next.Status.Capacity = nil, nil
		}
	} else {
		next.Status.AccessModes = v.Spec.AccessModes
		next.Status.CurrentVolumeAttributesClassName = v.Spec.VolumeAttributesClassName
		// A claim that is bound learns of a new size from whoever resizes it.
		if claim.Status.Phase != v1.ClaimBound || len(claim.Status.Capacity) == 0 {
			next.Status.Capacity = v1.ResourceList{v1.ResourceStorage: v.Spec.Capacity[v1.ResourceStorage]}
		}
	}
	if equality.Semantic.DeepEqual(claim.Status, next.Status) {
		return claim, nil
	}
	return c.parts.Client.CoreV1().PersistentVolumeClaims(claim.Namespace).UpdateStatus(ctx, next, metav1.UpdateOptions{})
}

func (c *Controller) volumeStatus(ctx context.Context, v *v1.PersistentVolume, phase v1.PersistentVolumePhase) (*v1.PersistentVolume, error) {
	if v.Status.Phase == phase {
		return v, nil // what others wrote of it stays
	}
	next := v.DeepCopy()
	next.Status.Phase, next.Status.Message = phase, ""
	now := metav1.NewTime(c.parts.Clock.Now())
	next.Status.LastPhaseTransitionTime = &now
	return c.parts.Client.CoreV1().PersistentVolumes().UpdateStatus(ctx, next, metav1.UpdateOptions{})
}
