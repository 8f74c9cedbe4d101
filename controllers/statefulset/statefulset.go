// Package statefulset keeps the numbered pods of StatefulSets, each with its
// own name, place and volume claims.
package statefulset

import (
	"context"
	"fmt"
	"slices"

	apps "k8s.io/api/apps/v1"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	applisters "k8s.io/client-go/listers/apps/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"

	"skiff/controllers/adoption"
	"skiff/controllers/loop"
	"skiff/controllers/podcontrol"
	"skiff/controllers/revision"
)

var kind = apps.SchemeGroupVersion.WithKind("StatefulSet")

// Config is what the controller needs.
type Config struct {
	loop.Parts
}

// Controller reconciles StatefulSets with pods and claims.
type Controller struct {
	*loop.Loop
	parts     loop.Parts
	sets      applisters.StatefulSetLister
	claims    corelisters.PersistentVolumeClaimLister
	pods      cache.SharedIndexInformer
	revisions cache.SharedIndexInformer
}

// New checks the configuration and makes the controller.
func New(c Config) (*Controller, error) {
	parts, err := c.Complete("statefulset")
	if err != nil {
		return nil, err
	}
	group, core := parts.Informers.Apps().V1(), parts.Informers.Core().V1()
	s := &Controller{
		parts: parts, sets: group.StatefulSets().Lister(), claims: core.PersistentVolumeClaims().Lister(),
		pods: core.Pods().Informer(), revisions: group.ControllerRevisions().Informer(),
	}
	if err := loop.IndexOwner(s.pods, s.revisions); err != nil {
		return nil, fmt.Errorf("statefulset: index by owner: %w", err)
	}
	s.Loop = loop.New("statefulset", parts, s.sync)
	s.On(group.StatefulSets().Informer(), loop.Each(func(o *apps.StatefulSet) { s.Enqueue(o) }))
	s.On(s.pods, adoption.Events[*v1.Pod]{
		Owner:    adoption.OwnerIn(kind.Kind, func(ns, name string) (*apps.StatefulSet, error) { return s.sets.StatefulSets(ns).Get(name) }),
		Matching: s.matching,
		Enqueue:  s.Add,
	}.Handler())
	s.Reads(core.PersistentVolumeClaims().Informer(), s.revisions)
	return s, nil
}

func (c *Controller) matching(pod *v1.Pod) []string {
	all, err := c.sets.StatefulSets(pod.Namespace).List(labels.Everything())
	if err != nil {
		return nil
	}
	return adoption.Selecting(all, pod.Labels, func(o *apps.StatefulSet) *metav1.LabelSelector { return o.Spec.Selector })
}

func (c *Controller) sync(ctx context.Context, key string) error {
	namespace, name := loop.Split(key)
	shared, err := c.sets.StatefulSets(namespace).Get(name)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	set := shared.DeepCopy()
	selector, err := metav1.LabelSelectorAsSelector(set.Spec.Selector)
	if err != nil {
		return nil // the API refuses such a selector
	}
	fresh := func(ctx context.Context) (metav1.Object, error) {
		return c.parts.Client.AppsV1().StatefulSets(namespace).Get(ctx, name, metav1.GetOptions{})
	}
	history, err := c.history(ctx, set, selector, fresh)
	if err != nil {
		return err
	}
	candidates, err := loop.OwnedOrOrphan[*v1.Pod](c.pods, namespace, set.UID)
	if err != nil {
		return err
	}
	pods, err := adoption.Claim(ctx, adoption.Claimer{
		Controller: set, Kind: kind, Selector: selector, Fresh: fresh, Patch: adoption.With(c.parts.Client.CoreV1().Pods(namespace)),
	}, candidates, func(p *v1.Pod) bool { return ordinalOf(set, p) >= 0 })
	if err != nil {
		return err
	}
	return c.advance(ctx, key, shared, set, pods, history)
}

func (c *Controller) history(ctx context.Context, set *apps.StatefulSet, selector labels.Selector, fresh func(context.Context) (metav1.Object, error)) ([]*apps.ControllerRevision, error) {
	candidates, err := loop.OwnedOrOrphan[*apps.ControllerRevision](c.revisions, set.Namespace, set.UID)
	if err != nil {
		return nil, err
	}
	all, err := adoption.Claim(ctx, adoption.Claimer{
		Controller: set, Kind: kind, Selector: selector, Fresh: fresh, Patch: adoption.With(c.parts.Client.AppsV1().ControllerRevisions(set.Namespace)),
	}, candidates, nil)
	revision.Sort(all)
	return all, err
}

func (c *Controller) advance(ctx context.Context, key string, shared, set *apps.StatefulSet, pods []*v1.Pod, history []*apps.ControllerRevision) error {
	update, collisions, err := revision.Current(ctx, c.parts.Client, revision.Parent{Object: set, Kind: kind}, &set.Spec.Template, history, set.Status.CollisionCount)
	if err != nil {
		return err
	}
	set.Status.CollisionCount = collisions
	current := update
	for _, r := range history {
		if r.Name == set.Status.CurrentRevision {
			current = r
		}
	}
	// Pods carry the revision's name.
	r := Revisions{Current: current.Name, Update: update.Name}
	now := c.parts.Clock.Now()
	plan := MakePlan(set, pods, r, func(ordinal int) bool { return len(c.missing(set, ordinal)) > 0 }, now)
	failure := c.retain(ctx, set, pods)
	if failure == nil {
		failure = c.execute(ctx, set, plan, map[string]*apps.ControllerRevision{current.Name: current, update.Name: update})
	}
	if plan.Wait > 0 {
		c.AddAfter(key, plan.Wait)
	}
	status := NextStatus(set, pods, r, now)
	if failure == nil {
		// Pods that were just made are not in the cache yet.
		for _, p := range plan.Create {
			status.Replicas++
			if p.Revision == r.Current {
				status.CurrentReplicas++
			}
			if p.Revision == r.Update {
				status.UpdatedReplicas++
			}
		}
	}
	if !equality.Semantic.DeepEqual(shared.Status, status) {
		set.Status = status
		if _, err := c.parts.Client.AppsV1().StatefulSets(set.Namespace).UpdateStatus(ctx, set, metav1.UpdateOptions{}); err != nil {
			return err
		}
	}
	if failure != nil {
		return failure
	}
	used := map[string]bool{current.Name: true, update.Name: true}
	for _, p := range pods {
		used[revisionOf(p)] = true
	}
	return revision.Truncate(ctx, c.parts.Client, history, func(r *apps.ControllerRevision) bool { return used[r.Name] }, set.Spec.RevisionHistoryLimit)
}

// missing lists the claims that the pod at an ordinal lacks.
func (c *Controller) missing(set *apps.StatefulSet, ordinal int) []*v1.PersistentVolumeClaim {
	return slices.DeleteFunc(NewClaims(set, ordinal), func(claim *v1.PersistentVolumeClaim) bool {
		_, err := c.claims.PersistentVolumeClaims(claim.Namespace).Get(claim.Name)
		return err == nil
	})
}

func (c *Controller) execute(ctx context.Context, set *apps.StatefulSet, plan Plan, revisions map[string]*apps.ControllerRevision) error {
	for _, p := range plan.Recreate {
		if p.Status.Phase == v1.PodFailed {
			c.parts.Events.Eventf(set, v1.EventTypeWarning, "RecreatingFailedPod", "StatefulSet %s/%s is recreating failed Pod %s", set.Namespace, set.Name, p.Name)
		} else {
			c.parts.Events.Eventf(set, v1.EventTypeNormal, "RecreatingTerminatedPod", "StatefulSet %s/%s is recreating terminated Pod %s", set.Namespace, set.Name, p.Name)
		}
	}
	_, err := podcontrol.SlowStart(len(plan.Create), 1, func(i int) error { return c.create(ctx, set, plan.Create[i], revisions[plan.Create[i].Revision]) })
	if err != nil {
		return err
	}
	for _, p := range plan.Repair {
		ordinal := ordinalOf(set, p)
		if err := c.createClaims(ctx, set, p.Name, ordinal); err != nil {
			return err
		}
		if identified(p, ordinal) {
			continue
		}
		next := p.DeepCopy()
		identify(set, next, ordinal)
		_, err := c.parts.Client.CoreV1().Pods(p.Namespace).Update(ctx, next, metav1.UpdateOptions{})
		c.event(set, "Update", "update", p.Name, err)
		if err != nil {
			return err
		}
	}
	for _, p := range plan.Delete {
		err := c.parts.Client.CoreV1().Pods(p.Namespace).Delete(ctx, p.Name, metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(p.UID))})
		if apierrors.IsNotFound(err) {
			continue
		}
		c.event(set, "Delete", "delete", p.Name, err)
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *Controller) event(set *apps.StatefulSet, reason, verb, pod string, err error) {
	switch {
	case err == nil:
		c.parts.Events.Eventf(set, v1.EventTypeNormal, "Successful"+reason, "%s Pod %s in StatefulSet %s successful", verb, pod, set.Name)
	case !apierrors.HasStatusCause(err, v1.NamespaceTerminatingCause):
		c.parts.Events.Eventf(set, v1.EventTypeWarning, "Failed"+reason, "%s Pod %s in StatefulSet %s failed error: %v", verb, pod, set.Name, err)
	}
}

func (c *Controller) create(ctx context.Context, set *apps.StatefulSet, place Place, r *apps.ControllerRevision) error {
	template, err := revision.Template(r)
	if err != nil {
		return err
	}
	pod := NewPod(set, template, r.Name, place.Ordinal)
	if err := c.createClaims(ctx, set, pod.Name, place.Ordinal); err != nil {
		return err
	}
	_, err = c.parts.Client.CoreV1().Pods(set.Namespace).Create(ctx, pod, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		// Ours, and the cache is late; or a stranger's, which blocks the place.
		exists, getErr := c.parts.Client.CoreV1().Pods(set.Namespace).Get(ctx, pod.Name, metav1.GetOptions{})
		if getErr == nil && metav1.IsControlledBy(exists, set) {
			return nil
		}
	}
	c.event(set, "Create", "create", pod.Name, err)
	return err
}

func (c *Controller) createClaims(ctx context.Context, set *apps.StatefulSet, pod string, ordinal int) error {
	for _, claim := range NewClaims(set, ordinal) {
		have, err := c.claims.PersistentVolumeClaims(claim.Namespace).Get(claim.Name)
		if err == nil {
			if have.DeletionTimestamp != nil {
				return fmt.Errorf("pvc %s is being deleted", claim.Name)
			}
			continue
		}
		_, err = c.parts.Client.CoreV1().PersistentVolumeClaims(claim.Namespace).Create(ctx, claim, metav1.CreateOptions{})
		switch {
		case apierrors.IsAlreadyExists(err):
		case err != nil:
			c.parts.Events.Eventf(set, v1.EventTypeWarning, "FailedCreate", "create Claim %s for Pod %s in StatefulSet %s failed error: %v", claim.Name, pod, set.Name, err)
			return err
		default:
			c.parts.Events.Eventf(set, v1.EventTypeNormal, "SuccessfulCreate", "create Claim %s Pod %s in StatefulSet %s success", claim.Name, pod, set.Name)
		}
	}
	return nil
}
