// Package disruption counts, for each PodDisruptionBudget, how many of its pods
// may be evicted now.
package disruption

import (
	"context"
	"fmt"
	"time"

	apps "k8s.io/api/apps/v1"
	v1 "k8s.io/api/core/v1"
	policy "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	applisters "k8s.io/client-go/listers/apps/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	policylisters "k8s.io/client-go/listers/policy/v1"
	"k8s.io/client-go/tools/cache"

	"skiff/controllers/loop"
)

// Scaler reads the wished size of a controller of a kind that this package does
// not know; found is false when it has none.
type Scaler func(ctx context.Context, namespace string, ref metav1.OwnerReference) (replicas int32, found bool, err error)

// Config is what the controller needs.
type Config struct {
	loop.Parts
	// Scale serves custom workloads. Default: they have no size.
	Scale Scaler
}

// Controller keeps the status of PodDisruptionBudgets.
type Controller struct {
	*loop.Loop
	parts   loop.Parts
	scale   Scaler
	budgets policylisters.PodDisruptionBudgetLister
	pods    corelisters.PodLister
	sets    applisters.ReplicaSetLister
	deps    applisters.DeploymentLister
	states  applisters.StatefulSetLister
	rcs     corelisters.ReplicationControllerLister
}

// New checks the configuration and makes the controller.
func New(c Config) (*Controller, error) {
	parts, err := c.Complete("disruption")
	if err != nil {
		return nil, err
	}
	core, group := parts.Informers.Core().V1(), parts.Informers.Apps().V1()
	budgets := parts.Informers.Policy().V1().PodDisruptionBudgets()
	d := &Controller{
		parts: parts, scale: c.Scale, budgets: budgets.Lister(), pods: core.Pods().Lister(), sets: group.ReplicaSets().Lister(),
		deps: group.Deployments().Lister(), states: group.StatefulSets().Lister(), rcs: core.ReplicationControllers().Lister(),
	}
	if d.scale == nil {
		d.scale = func(context.Context, string, metav1.OwnerReference) (int32, bool, error) { return 0, false, nil }
	}
	d.Loop = loop.New("disruption", parts, d.sync)
	d.On(budgets.Informer(), loop.Changed(func(b *policy.PodDisruptionBudget) { d.Enqueue(b) }))
	d.On(core.Pods().Informer(), loop.Handlers(d.ofPod, func(old, p *v1.Pod) {
		d.ofPod(old)
		d.ofPod(p)
	}, d.ofPod))
	for _, informer := range []cache.SharedIndexInformer{
		group.ReplicaSets().Informer(), group.Deployments().Informer(), group.StatefulSets().Informer(), core.ReplicationControllers().Informer(),
	} {
		d.Reads(informer)
	}
	return d, nil
}

func (c *Controller) ofPod(p *v1.Pod) {
	all, err := c.budgets.PodDisruptionBudgets(p.Namespace).List(labels.Everything())
	if err != nil {
		return
	}
	for _, b := range all {
		if selector, err := metav1.LabelSelectorAsSelector(b.Spec.Selector); err == nil && selector.Matches(labels.Set(p.Labels)) {
			c.Enqueue(b)
		}
	}
}

func (c *Controller) sync(ctx context.Context, key string) error {
	namespace, name := loop.Split(key)
	shared, err := c.budgets.PodDisruptionBudgets(namespace).Get(name)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	b := shared.DeepCopy()
	next, again, err := c.judge(ctx, b)
	if err != nil {
		c.parts.Events.Eventf(b, v1.EventTypeWarning, "CalculateExpectedPodCountFailed", "Failed to calculate the number of expected pods: %v", err)
		// Nothing may be evicted while the numbers are unknown.
		failed := b.DeepCopy()
		failed.Status.DisruptionsAllowed = 0
		apimeta.SetStatusCondition(&failed.Status.Conditions, metav1.Condition{
			Type: policy.DisruptionAllowedCondition, Status: metav1.ConditionFalse, Reason: policy.SyncFailedReason,
			Message: err.Error(), ObservedGeneration: b.Status.ObservedGeneration,
		})
		return c.write(ctx, shared, failed)
	}
	if again > 0 {
		c.AddAfter(key, again)
	}
	return c.write(ctx, shared, next)
}

func (c *Controller) write(ctx context.Context, was, next *policy.PodDisruptionBudget) error {
	if equality.Semantic.DeepEqual(was.Status, next.Status) {
		return nil
	}
	_, err := c.parts.Client.PolicyV1().PodDisruptionBudgets(was.Namespace).UpdateStatus(ctx, next, metav1.UpdateOptions{})
	return err
}

func (c *Controller) judge(ctx context.Context, b *policy.PodDisruptionBudget) (*policy.PodDisruptionBudget, time.Duration, error) {
	selector, err := metav1.LabelSelectorAsSelector(b.Spec.Selector)
	if err != nil {
		return nil, 0, err
	}
	pods, err := c.pods.Pods(b.Namespace).List(selector)
	if err != nil {
		return nil, 0, err
	}
	if len(pods) == 0 {
		c.parts.Events.Event(b, v1.EventTypeNormal, "NoPods", "No matching pods found")
	}
	expected := int32(len(pods))
	if NeedsScale(b) {
		if expected, err = c.expected(ctx, b, pods); err != nil {
			return nil, 0, err
		}
	}
	return Next(b, pods, expected, c.parts.Clock.Now())
}

// expected sums the wished sizes of the pods' controllers.
func (c *Controller) expected(ctx context.Context, b *policy.PodDisruptionBudget, pods []*v1.Pod) (int32, error) {
	sizes := map[string]int32{}
	for _, p := range pods {
		ref := metav1.GetControllerOf(p)
		if ref == nil {
			continue // it counts for nothing, but can be evicted
		}
		if _, known := sizes[string(ref.UID)]; known {
			continue
		}
		uid, n, found, err := c.size(ctx, p.Namespace, *ref)
		if err != nil {
			return 0, err
		}
		if !found {
			return 0, fmt.Errorf("found no controllers for pod %q", p.Name)
		}
		sizes[uid] = n
		if uid != string(ref.UID) {
			// A Deployment counts once, whatever sets it has.
			sizes[string(ref.UID)] = 0
		}
	}
	var sum int32
	for _, n := range sizes {
		sum += n
	}
	return sum, nil
}

func (c *Controller) size(ctx context.Context, namespace string, ref metav1.OwnerReference) (uid string, n int32, found bool, err error) {
	of := func(o metav1.Object, err error, replicas func() *int32) (string, int32, bool, error) {
		if apierrors.IsNotFound(err) || err == nil && o.GetUID() != ref.UID {
			return "", 0, false, nil
		}
		if err != nil {
			return "", 0, false, err
		}
		size := int32(1)
		if r := replicas(); r != nil {
			size = *r
		}
		return string(ref.UID), size, true, nil
	}
	switch {
	case ref.Kind == "ReplicaSet" && ref.APIVersion == apps.SchemeGroupVersion.String():
		rs, err := c.sets.ReplicaSets(namespace).Get(ref.Name)
		if err == nil && rs.UID == ref.UID {
			if owner := metav1.GetControllerOf(rs); owner != nil && owner.Kind == "Deployment" {
				d, err := c.deps.Deployments(namespace).Get(owner.Name)
				if err == nil && d.UID == owner.UID && d.Spec.Replicas != nil {
					return string(d.UID), *d.Spec.Replicas, true, nil
				}
			}
		}
		return of(rs, err, func() *int32 { return rs.Spec.Replicas })
	case ref.Kind == "StatefulSet" && ref.APIVersion == apps.SchemeGroupVersion.String():
		s, err := c.states.StatefulSets(namespace).Get(ref.Name)
		return of(s, err, func() *int32 { return s.Spec.Replicas })
	case ref.Kind == "ReplicationController" && ref.APIVersion == "v1":
		rc, err := c.rcs.ReplicationControllers(namespace).Get(ref.Name)
		return of(rc, err, func() *int32 { return rc.Spec.Replicas })
	}
	n, found, err = c.scale(ctx, namespace, ref)
	return string(ref.UID), n, found, err
}
