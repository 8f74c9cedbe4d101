// Package replicaset keeps as many pods alive as each ReplicaSet asks for. The
// same code serves ReplicationControllers, through their own flavor.
package replicaset

import (
	"context"
	"fmt"

	apps "k8s.io/api/apps/v1"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	"skiff/controllers/adoption"
	"skiff/controllers/expectation"
	"skiff/controllers/loop"
	"skiff/controllers/podcontrol"
)

// Config is what the controller needs.
type Config struct {
	loop.Parts
}

// Controller reconciles ReplicaSets with their pods.
type Controller struct {
	*loop.Loop
	parts   loop.Parts
	flavor  Flavor
	pods    cache.SharedIndexInformer
	control podcontrol.Control
	awaited *expectation.Tracker
}

// New checks the configuration and makes the controller.
func New(c Config) (*Controller, error) {
	parts, err := c.Complete("replicaset")
	if err != nil {
		return nil, err
	}
	return NewFlavor(parts, replicaSets(parts))
}

// NewFlavor makes a controller for a kind that behaves as ReplicaSets do.
func NewFlavor(parts loop.Parts, flavor Flavor) (*Controller, error) {
	c := &Controller{
		parts:   parts,
		flavor:  flavor,
		pods:    parts.Informers.Core().V1().Pods().Informer(),
		control: podcontrol.Control{Client: parts.Client, Events: parts.Events},
		awaited: expectation.New(parts.Clock),
	}
	if err := loop.IndexOwner(c.pods, flavor.Informer); err != nil {
		return nil, fmt.Errorf("%s: index by owner: %w", flavor.Name, err)
	}
	c.Loop = loop.New(flavor.Name, parts, c.sync)
	c.On(flavor.Informer, loop.Handlers(
		func(o metav1.Object) { c.Enqueue(o) },
		func(old, o metav1.Object) {
			if old.GetUID() != o.GetUID() {
				c.awaited.Forget(nameOf(old))
			}
			c.Enqueue(o)
		},
		func(o metav1.Object) {
			c.awaited.Forget(nameOf(o))
			c.Enqueue(o)
		}))
	c.On(c.pods, adoption.Events[*v1.Pod]{
		Owner: adoption.OwnerIn(flavor.GVK.Kind, func(ns, name string) (metav1.Object, error) {
			return flavor.find(ns, name)
		}),
		Matching: c.matching,
		Created:  c.awaited.Created,
		Deleted:  func(key string, pod *v1.Pod) { c.awaited.Deleted(key, nameOf(pod)) },
		Updated:  c.becameReady,
		Enqueue:  c.Add,
	}.Handler())
	return c, nil
}

func nameOf(o metav1.Object) string {
	return types.NamespacedName{Namespace: o.GetNamespace(), Name: o.GetName()}.String()
}

// becameReady looks again when a pod that has just become ready counts as
// available, since no event tells of that.
func (c *Controller) becameReady(key string, old, pod *v1.Pod) {
	if podcontrol.Ready(old) || !podcontrol.Ready(pod) {
		return
	}
	if r, err := c.flavor.get(key); err == nil && r.Set.Spec.MinReadySeconds > 0 {
		if d := podcontrol.AvailableIn(pod, r.Set.Spec.MinReadySeconds, c.parts.Clock.Now()); d > 0 {
			c.AddAfter(key, d)
		}
	}
}

func (c *Controller) matching(pod *v1.Pod) []string {
	if len(pod.Labels) == 0 {
		return nil
	}
	var keys []string
	for _, r := range c.flavor.list(pod.Namespace) {
		selector, err := metav1.LabelSelectorAsSelector(r.Set.Spec.Selector)
		if err == nil && !selector.Empty() && selector.Matches(labels.Set(pod.Labels)) {
			keys = append(keys, nameOf(r.Set))
		}
	}
	return keys
}

func (c *Controller) sync(ctx context.Context, key string) error {
	r, err := c.flavor.get(key)
	if apierrors.IsNotFound(err) {
		c.awaited.Forget(key)
		return nil
	}
	if err != nil {
		return err
	}
	rs := r.Set
	selector, err := metav1.LabelSelectorAsSelector(rs.Spec.Selector)
	if err != nil {
		return nil // the API refuses such a selector; nothing would ever match
	}
	settled := c.awaited.Satisfied(key)

	candidates, err := loop.OwnedOrOrphan[*v1.Pod](c.pods, rs.Namespace, rs.UID)
	if err != nil {
		return err
	}
	pods, err := adoption.Claim(ctx, adoption.Claimer{
		Controller: rs, Kind: c.flavor.GVK, Selector: selector,
		Fresh: func(ctx context.Context) (metav1.Object, error) { return c.flavor.Fresh(ctx, rs.Namespace, rs.Name) },
		Patch: adoption.With(c.parts.Client.CoreV1().Pods(rs.Namespace)),
	}, candidates, func(p *v1.Pod) bool { return !podcontrol.Terminal(p) || ownedBy(p, rs) })
	if err != nil {
		return err
	}
	active := podcontrol.OnlyActive(pods)

	var failure error
	if settled && rs.DeletionTimestamp == nil {
		plan := MakePlan(rs, active, func() []*v1.Pod { return c.related(rs) }, c.parts.Clock.Now())
		failure = c.execute(ctx, key, r, plan)
	}
	status := NextStatus(rs, pods, failure, c.parts.Clock.Now())
	updated, err := c.flavor.UpdateStatus(ctx, r, status)
	if err != nil {
		return err
	}
	if failure != nil {
		return failure
	}
	if updated.Spec.MinReadySeconds > 0 && status.ReadyReplicas != status.AvailableReplicas {
		if d := nextAvailable(active, updated.Spec.MinReadySeconds, c.parts.Clock.Now()); d > 0 {
			c.AddAfter(key, d)
		}
	}
	return nil
}

func ownedBy(p *v1.Pod, rs *apps.ReplicaSet) bool {
	ref := metav1.GetControllerOfNoCopy(p)
	return ref != nil && ref.UID == rs.UID
}

// related lists the pods of all sets with the same controller as rs: those of
// a Deployment's other revisions count when crowded nodes are relieved.
func (c *Controller) related(rs *apps.ReplicaSet) []*v1.Pod {
	siblings := []*apps.ReplicaSet{rs}
	if ref := metav1.GetControllerOfNoCopy(rs); ref != nil {
		if objs, err := loop.ByIndex[*apps.ReplicaSet](c.flavor.Informer, loop.ByOwner, string(ref.UID)); err == nil && len(objs) > 0 {
			siblings = objs
		}
	}
	var pods []*v1.Pod
	for _, s := range siblings {
		if owned, err := loop.ByIndex[*v1.Pod](c.pods, loop.ByOwner, string(s.UID)); err == nil {
			pods = append(pods, owned...)
		}
	}
	return pods
}
