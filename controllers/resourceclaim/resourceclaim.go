// Package resourceclaim makes the ResourceClaims that pods ask for by template,
// and takes pods that have ended off the claims they held.
package resourceclaim

import (
	"context"
	"fmt"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	resourcelisters "k8s.io/client-go/listers/resource/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/dynamic-resource-allocation/resourceclaim"
	"k8s.io/utils/ptr"

	"skiff/controllers/loop"
	"skiff/controllers/podcontrol"
)

const (
	podPrefix   = "pod:"
	claimPrefix = "claim:"
	// podClaim marks a generated claim with its entry in the pod.
	podClaim = "resource.kubernetes.io/pod-claim-name"
	// finalizer holds a claim while it is allocated.
	finalizer = resourceapi.Finalizer
)

// Config is what the controller needs.
type Config struct {
	loop.Parts
}

// Controller keeps claims and the pods' record of them.
type Controller struct {
	*loop.Loop
	parts     loop.Parts
	pods      corelisters.PodLister
	claims    cache.SharedIndexInformer
	lister    resourcelisters.ResourceClaimLister
	templates resourcelisters.ResourceClaimTemplateLister
}

// New checks the configuration and makes the controller.
func New(c Config) (*Controller, error) {
	parts, err := c.Complete("resource-claim")
	if err != nil {
		return nil, err
	}
	core, group := parts.Informers.Core().V1(), parts.Informers.Resource().V1()
	r := &Controller{
		parts: parts, pods: core.Pods().Lister(), claims: group.ResourceClaims().Informer(),
		lister: group.ResourceClaims().Lister(), templates: group.ResourceClaimTemplates().Lister(),
	}
	if err := loop.IndexOwner(r.claims); err != nil {
		return nil, fmt.Errorf("resource-claim: index claims: %w", err)
	}
	r.Loop = loop.New("resource-claim", parts, r.sync)
	r.On(core.Pods().Informer(), loop.Each(r.pod))
	r.On(r.claims, loop.Each(func(o *resourceapi.ResourceClaim) {
		r.Add(claimPrefix + o.Namespace + "/" + o.Name)
	}))
	r.Reads(group.ResourceClaimTemplates().Informer())
	return r, nil
}

func (c *Controller) pod(p *v1.Pod) {
	if p.DeletionTimestamp == nil && !podcontrol.Terminal(p) {
		if len(p.Spec.ResourceClaims) > 0 {
			c.Add(podPrefix + p.Namespace + "/" + p.Name)
		}
		return
	}
	for name := range resourceclaim.PodClaims(p) {
		c.Add(claimPrefix + p.Namespace + "/" + name)
	}
}

func (c *Controller) sync(ctx context.Context, key string) error {
	if rest, ok := strings.CutPrefix(key, podPrefix); ok {
		return c.syncPod(ctx, rest)
	}
	return c.syncClaim(ctx, strings.TrimPrefix(key, claimPrefix))
}

func (c *Controller) syncPod(ctx context.Context, key string) error {
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
	statuses := slices.Clone(pod.Status.ResourceClaimStatuses)
	for _, entry := range pod.Spec.ResourceClaims {
		if entry.ResourceClaimTemplateName == nil || slices.ContainsFunc(statuses, func(s v1.PodResourceClaimStatus) bool { return s.Name == entry.Name }) {
			continue
		}
		claim, err := c.ensure(ctx, pod, entry)
		if err != nil {
			c.parts.Events.Eventf(pod, v1.EventTypeWarning, "FailedResourceClaimCreation", "PodResourceClaim %s: %v", entry.Name, err)
			return fmt.Errorf("pod %s, resource claim %s: %w", key, entry.Name, err)
		}
		statuses = append(statuses, v1.PodResourceClaimStatus{Name: entry.Name, ResourceClaimName: ptr.To(claim.Name)})
	}
	if equality.Semantic.DeepEqual(statuses, pod.Status.ResourceClaimStatuses) {
		return nil
	}
	next := pod.DeepCopy()
	next.Status.ResourceClaimStatuses = statuses
	_, err = c.parts.Client.CoreV1().Pods(namespace).UpdateStatus(ctx, next, metav1.UpdateOptions{})
	return err
}

// ensure finds the claim of a pod's entry, or makes it from the template.
func (c *Controller) ensure(ctx context.Context, pod *v1.Pod, entry v1.PodResourceClaim) (*resourceapi.ResourceClaim, error) {
	owned, err := loop.ByIndex[*resourceapi.ResourceClaim](c.claims, loop.ByOwner, string(pod.UID))
	if err != nil {
		return nil, err
	}
	for _, o := range owned {
		if o.Annotations[podClaim] == entry.Name {
			return o, nil
		}
	}
	t, err := c.templates.ResourceClaimTemplates(pod.Namespace).Get(*entry.ResourceClaimTemplateName)
	if err != nil {
		return nil, fmt.Errorf("resource claim template %q: %w", *entry.ResourceClaimTemplateName, err)
	}
	annotations := map[string]string{podClaim: entry.Name}
	for k, v := range t.Spec.Annotations {
		annotations[k] = v
	}
	ref := metav1.NewControllerRef(pod, v1.SchemeGroupVersion.WithKind("Pod"))
	return c.parts.Client.ResourceV1().ResourceClaims(pod.Namespace).Create(ctx, &resourceapi.ResourceClaim{
		ObjectMeta: metav1.ObjectMeta{
			GenerateName: pod.Name + "-" + entry.Name + "-", Labels: t.Spec.Labels, Annotations: annotations,
			OwnerReferences: []metav1.OwnerReference{*ref},
		},
		Spec: *t.Spec.Spec.DeepCopy(),
	}, metav1.CreateOptions{})
}

func (c *Controller) syncClaim(ctx context.Context, key string) error {
	namespace, name := loop.Split(key)
	claim, err := c.lister.ResourceClaims(namespace).Get(name)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	var kept []resourceapi.ResourceClaimConsumerReference
	for _, r := range claim.Status.ReservedFor {
		gone := false
		if r.APIGroup == "" && r.Resource == "pods" {
			if gone, err = c.done(ctx, namespace, r); err != nil {
				return err
			}
		}
		if !gone {
			kept = append(kept, r)
		}
	}
	client := c.parts.Client.ResourceV1().ResourceClaims(namespace)
	generated := metav1.GetControllerOfNoCopy(claim)
	ownerDone := false
	if generated != nil && generated.Kind == "Pod" {
		ownerDone, err = c.done(ctx, namespace, resourceapi.ResourceClaimConsumerReference{Name: generated.Name, UID: generated.UID})
		if err != nil {
			return err
		}
	}
	release := len(kept) == 0 && claim.Status.Allocation != nil && (len(claim.Status.ReservedFor) > 0 || claim.DeletionTimestamp != nil || ownerDone)
	if len(kept) != len(claim.Status.ReservedFor) || release {
		next := claim.DeepCopy()
		next.Status.ReservedFor = kept
		if release {
			next.Status.Allocation, next.Status.Devices = nil, nil
		}
		if claim, err = client.UpdateStatus(ctx, next, metav1.UpdateOptions{}); err != nil {
			return err
		}
	}
	if len(claim.Status.ReservedFor) == 0 && claim.Status.Allocation == nil && slices.Contains(claim.Finalizers, finalizer) {
		next := claim.DeepCopy()
		next.Finalizers = slices.DeleteFunc(next.Finalizers, func(f string) bool { return f == finalizer })
		if claim, err = client.Update(ctx, next, metav1.UpdateOptions{}); err != nil {
			if apierrors.IsNotFound(err) {
				return nil
			}
			return err
		}
	}
	if ownerDone && claim.DeletionTimestamp == nil && len(claim.Status.ReservedFor) == 0 {
		err := client.Delete(ctx, name, metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(claim.UID))})
		if err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}
	return nil
}

// done says whether the pod needs the claim no more.
func (c *Controller) done(ctx context.Context, namespace string, r resourceapi.ResourceClaimConsumerReference) (bool, error) {
	pod, err := c.pods.Pods(namespace).Get(r.Name)
	if apierrors.IsNotFound(err) {
		// The cache may be late with a pod that was just made.
		pod, err = c.parts.Client.CoreV1().Pods(namespace).Get(ctx, r.Name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return true, nil
		}
	}
	if err != nil {
		return false, err
	}
	return pod.UID != r.UID || podcontrol.Terminal(pod) || pod.DeletionTimestamp != nil && pod.Spec.NodeName == "", nil
}
