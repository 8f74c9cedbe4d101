// Package deployment rolls Deployments out through ReplicaSets: one for each
// revision of the pod template.
package deployment

import (
	"context"
	"encoding/json"
	"fmt"

	apps "k8s.io/api/apps/v1"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	applisters "k8s.io/client-go/listers/apps/v1"
	"k8s.io/client-go/tools/cache"

	"skiff/controllers/adoption"
	"skiff/controllers/loop"
	"skiff/controllers/podcontrol"
)

var kind = apps.SchemeGroupVersion.WithKind("Deployment")

// Config is what the controller needs.
type Config struct {
	loop.Parts
}

// Controller reconciles Deployments with their ReplicaSets.
type Controller struct {
	*loop.Loop
	parts       loop.Parts
	deployments applisters.DeploymentLister
	sets        cache.SharedIndexInformer
	setLister   applisters.ReplicaSetLister
	pods        cache.SharedIndexInformer
}

// New checks the configuration and makes the controller.
func New(c Config) (*Controller, error) {
	parts, err := c.Complete("deployment")
	if err != nil {
		return nil, err
	}
	group := parts.Informers.Apps().V1()
	d := &Controller{
		parts:       parts,
		deployments: group.Deployments().Lister(),
		sets:        group.ReplicaSets().Informer(),
		setLister:   group.ReplicaSets().Lister(),
		pods:        parts.Informers.Core().V1().Pods().Informer(),
	}
	if err := loop.IndexOwner(d.sets, d.pods); err != nil {
		return nil, fmt.Errorf("deployment: index by owner: %w", err)
	}
	d.Loop = loop.New("deployment", parts, d.sync)
	d.On(group.Deployments().Informer(), loop.Each(func(o *apps.Deployment) { d.Enqueue(o) }))
	d.On(d.sets, adoption.Events[*apps.ReplicaSet]{
		Owner:    adoption.OwnerIn(kind.Kind, func(ns, name string) (*apps.Deployment, error) { return d.deployments.Deployments(ns).Get(name) }),
		Matching: d.matching,
		Enqueue:  d.Add,
	}.Handler())
	d.On(d.pods, loop.Handlers(nil, nil, d.podGone))
	return d, nil
}

// podGone continues a Recreate rollout when the last old pod has left.
func (c *Controller) podGone(pod *v1.Pod) {
	ref := metav1.GetControllerOfNoCopy(pod)
	if ref == nil || ref.Kind != "ReplicaSet" {
		return
	}
	rs, err := c.setLister.ReplicaSets(pod.Namespace).Get(ref.Name)
	if err != nil || rs.UID != ref.UID {
		return
	}
	owner := metav1.GetControllerOfNoCopy(rs)
	if owner == nil || owner.Kind != kind.Kind {
		return
	}
	d, err := c.deployments.Deployments(pod.Namespace).Get(owner.Name)
	if err == nil && d.UID == owner.UID && d.Spec.Strategy.Type == apps.RecreateDeploymentStrategyType {
		c.Enqueue(d)
	}
}

func (c *Controller) matching(rs *apps.ReplicaSet) []string {
	all, err := c.deployments.Deployments(rs.Namespace).List(labels.Everything())
	if err != nil {
		return nil
	}
	return adoption.Selecting(all, rs.Labels, func(o *apps.Deployment) *metav1.LabelSelector { return o.Spec.Selector })
}

func (c *Controller) sync(ctx context.Context, key string) error {
	namespace, name := loop.Split(key)
	shared, err := c.deployments.Deployments(namespace).Get(name)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	d := shared.DeepCopy()
	selector, err := metav1.LabelSelectorAsSelector(d.Spec.Selector)
	if err != nil {
		return nil // the API refuses such a selector
	}
	if selector.Empty() {
		c.parts.Events.Event(d, v1.EventTypeWarning, "SelectingAll", "This deployment is selecting all pods. A non-empty selector is required.")
		if d.Status.ObservedGeneration < d.Generation {
			d.Status.ObservedGeneration = d.Generation
			_, err = c.parts.Client.AppsV1().Deployments(namespace).UpdateStatus(ctx, d, metav1.UpdateOptions{})
		}
		return err
	}
	candidates, err := loop.OwnedOrOrphan[*apps.ReplicaSet](c.sets, namespace, d.UID)
	if err != nil {
		return err
	}
	sets, err := adoption.Claim(ctx, adoption.Claimer{
		Controller: d, Kind: kind, Selector: selector,
		Fresh: func(ctx context.Context) (metav1.Object, error) {
			return c.parts.Client.AppsV1().Deployments(namespace).Get(ctx, name, metav1.GetOptions{})
		},
		Patch: adoption.With(c.parts.Client.AppsV1().ReplicaSets(namespace)),
	}, candidates, nil)
	if err != nil {
		return err
	}
	r := &rollout{Controller: c, d: d, sets: sets}
	return r.advance(ctx)
}

// rollout is one sync of one Deployment. d is a private copy; the sets are
// shared with the informer and replaced by what the API returns.
type rollout struct {
	*Controller
	d    *apps.Deployment
	sets []*apps.ReplicaSet
}

func (r *rollout) advance(ctx context.Context) error {
	if r.d.DeletionTimestamp != nil {
		newSet, old := r.split()
		return r.writeStatus(ctx, NextStatus(r.d, join(old, newSet), newSet, r.parts.Clock.Now()))
	}
	if err := r.notePause(ctx); err != nil {
		return err
	}
	if r.d.Spec.Paused {
		return r.rescale(ctx)
	}
	if _, asked := r.d.Annotations[apps.DeprecatedRollbackTo]; asked {
		return r.rollback(ctx)
	}
	if Rescaled(r.d, r.sets) {
		return r.rescale(ctx)
	}
	if r.d.Spec.Strategy.Type == apps.RecreateDeploymentStrategyType {
		return r.recreate(ctx)
	}
	return r.roll(ctx)
}

// notePause shows in the Progressing condition that the deadline's clock is
// stopped, or runs again.
func (r *rollout) notePause(ctx context.Context) error {
	if r.d.Spec.ProgressDeadlineSeconds == nil || noDeadline(r.d) {
		return nil
	}
	cond := condition(r.d.Status, apps.DeploymentProgressing)
	if cond != nil && cond.Reason == reasonTimedOut {
		return nil
	}
	paused := cond != nil && cond.Reason == reasonPaused
	switch {
	case r.d.Spec.Paused && !paused:
		setCondition(&r.d.Status, progressing(v1.ConditionUnknown, reasonPaused, "Deployment is paused"), r.parts.Clock.Now())
	case !r.d.Spec.Paused && paused:
		setCondition(&r.d.Status, progressing(v1.ConditionUnknown, reasonResumed, "Deployment is resumed"), r.parts.Clock.Now())
	default:
		return nil
	}
	return r.updateStatus(ctx)
}

func (r *rollout) updateStatus(ctx context.Context) error {
	updated, err := r.parts.Client.AppsV1().Deployments(r.d.Namespace).UpdateStatus(ctx, r.d, metav1.UpdateOptions{})
	if err == nil {
		r.d = updated
	}
	return err
}

// split finds the set of the current template and the others.
func (r *rollout) split() (newSet *apps.ReplicaSet, old []*apps.ReplicaSet) {
	newSet = FindNew(r.d, r.sets)
	for _, rs := range r.sets {
		if newSet == nil || rs.UID != newSet.UID {
			old = append(old, rs)
		}
	}
	return newSet, old
}

func join(old []*apps.ReplicaSet, newSet *apps.ReplicaSet) []*apps.ReplicaSet {
	all := append([]*apps.ReplicaSet(nil), old...)
	if newSet != nil {
		all = append(all, newSet)
	}
	return all
}

// recreate stops every old pod before it starts new ones.
func (r *rollout) recreate(ctx context.Context) error {
	newSet, old, err := r.revision(ctx, false)
	if err != nil {
		return err
	}
	scaled := false
	for _, rs := range active(old) {
		if _, err := r.scale(ctx, rs, 0); err != nil {
			return err
		}
		scaled = true
	}
	if scaled || r.oldPodsLive(old) {
		newSet, old = r.split()
		return r.progress(ctx, newSet, old)
	}
	if newSet == nil {
		if newSet, old, err = r.revision(ctx, true); err != nil {
			return err
		}
	}
	if newSet, err = r.scale(ctx, newSet, replicas(r.d)); err != nil {
		return err
	}
	if Complete(r.d, r.d.Status) {
		if err := r.clean(ctx, old); err != nil {
			return err
		}
	}
	return r.progress(ctx, newSet, old)
}

func (r *rollout) oldPodsLive(old []*apps.ReplicaSet) bool {
	for _, rs := range old {
		if rs.Status.Replicas > 0 {
			return true
		}
		pods, err := loop.ByIndex[*v1.Pod](r.pods, loop.ByOwner, string(rs.UID))
		if err != nil {
			return true
		}
		for _, p := range pods {
			if !podcontrol.Terminal(p) {
				return true
			}
		}
	}
	return false
}

// roll replaces old pods step by step within surge and unavailability.
func (r *rollout) roll(ctx context.Context) error {
	newSet, old, err := r.revision(ctx, true)
	if err != nil {
		return err
	}
	if want := NewReplicas(r.d, join(old, newSet), newSet); want != *newSet.Spec.Replicas {
		if newSet, err = r.scale(ctx, newSet, want); err != nil {
			return err
		}
		return r.progress(ctx, newSet, old)
	}
	if steps := ScaleDown(r.d, old, newSet); len(steps) > 0 {
		for _, step := range steps {
			updated, err := r.scale(ctx, step.Set, step.Replicas)
			if err != nil {
				return err
			}
			for i := range old {
				if old[i].UID == updated.UID {
					old[i] = updated
				}
			}
		}
		return r.progress(ctx, newSet, old)
	}
	if Complete(r.d, r.d.Status) {
		if err := r.clean(ctx, old); err != nil {
			return err
		}
	}
	return r.progress(ctx, newSet, old)
}

// rescale keeps the proportions of the running sets and changes no template.
func (r *rollout) rescale(ctx context.Context) error {
	newSet, old, err := r.revision(ctx, false)
	if err != nil {
		return err
	}
	for _, step := range Proportion(r.d, old, newSet) {
		updated, err := r.scale(ctx, step.Set, step.Replicas)
		if err != nil {
			return err
		}
		if newSet != nil && updated.UID == newSet.UID {
			newSet = updated
		}
		for i := range old {
			if old[i].UID == updated.UID {
				old[i] = updated
			}
		}
	}
	if _, asked := r.d.Annotations[apps.DeprecatedRollbackTo]; r.d.Spec.Paused && !asked {
		if err := r.clean(ctx, old); err != nil {
			return err
		}
	}
	return r.writeStatus(ctx, NextStatus(r.d, join(old, newSet), newSet, r.parts.Clock.Now()))
}

// scale sets a ReplicaSet's size and refreshes the sizes noted on it.
func (r *rollout) scale(ctx context.Context, rs *apps.ReplicaSet, n int32) (*apps.ReplicaSet, error) {
	resize := *rs.Spec.Replicas != n
	next := rs.DeepCopy()
	noted := noteSizes(next, replicas(r.d), replicas(r.d)+MaxSurge(r.d))
	if !resize && !noted {
		return rs, nil
	}
	from := *rs.Spec.Replicas
	next.Spec.Replicas = &n
	updated, err := r.parts.Client.AppsV1().ReplicaSets(rs.Namespace).Update(ctx, next, metav1.UpdateOptions{})
	if err != nil {
		return rs, err
	}
	for i := range r.sets {
		if r.sets[i].UID == updated.UID {
			r.sets[i] = updated
		}
	}
	if resize {
		direction := "up"
		if n < from {
			direction = "down"
		}
		r.parts.Events.Eventf(r.d, v1.EventTypeNormal, "ScalingReplicaSet", "Scaled %s replica set %s from %d to %d", direction, rs.Name, from, n)
	}
	return updated, nil
}

// clean deletes the empty sets beyond the history limit.
func (r *rollout) clean(ctx context.Context, old []*apps.ReplicaSet) error {
	for _, rs := range Surplus(r.d, old) {
		err := r.parts.Client.AppsV1().ReplicaSets(rs.Namespace).Delete(ctx, rs.Name, metav1.DeleteOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}
	return nil
}

// rollback serves the annotation of the first API version; kubectl itself
// changes the template.
func (r *rollout) rollback(ctx context.Context) error {
	newSet, old, err := r.revision(ctx, true)
	if err != nil {
		return err
	}
	var to int64
	if err := json.Unmarshal([]byte(r.d.Annotations[apps.DeprecatedRollbackTo]), &to); err != nil {
		to = -1
	}
	all := join(old, newSet)
	if to == 0 {
		to = previousRevision(all)
	}
	event := func(kind, reason, message string) { r.parts.Events.Event(r.d, kind, reason, message) }
	switch target := byRevision(all, to); {
	case to <= 0:
		event(v1.EventTypeWarning, "RollbackRevisionNotFound", "Unable to find last revision.")
	case target == nil:
		event(v1.EventTypeWarning, "RollbackRevisionNotFound", "Unable to find the revision to rollback to.")
	case sameTemplate(&r.d.Spec.Template, &target.Spec.Template):
		event(v1.EventTypeWarning, "RollbackTemplateUnchanged", fmt.Sprintf("The rollback revision contains the same template as current deployment %q", r.d.Name))
	default:
		takeTemplate(r.d, target)
		event(v1.EventTypeNormal, "RollbackDone", fmt.Sprintf("Rolled back deployment %q to revision %d", r.d.Name, to))
	}
	delete(r.d.Annotations, apps.DeprecatedRollbackTo)
	_, err = r.parts.Client.AppsV1().Deployments(r.d.Namespace).Update(ctx, r.d, metav1.UpdateOptions{})
	return err
}
