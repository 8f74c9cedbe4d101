// Package daemonset keeps one pod of each DaemonSet on every node that fits.
package daemonset

import (
	"context"
	"fmt"
	"maps"

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
	"skiff/controllers/expectation"
	"skiff/controllers/loop"
	"skiff/controllers/podcontrol"
	"skiff/controllers/revision"
)

var kind = apps.SchemeGroupVersion.WithKind("DaemonSet")

// Config is what the controller needs.
type Config struct {
	loop.Parts
}

// Controller reconciles DaemonSets with nodes and pods.
type Controller struct {
	*loop.Loop
	parts     loop.Parts
	sets      applisters.DaemonSetLister
	nodes     corelisters.NodeLister
	pods      cache.SharedIndexInformer
	revisions cache.SharedIndexInformer
	control   podcontrol.Control
	awaited   *expectation.Tracker
}

// New checks the configuration and makes the controller.
func New(c Config) (*Controller, error) {
	parts, err := c.Complete("daemonset")
	if err != nil {
		return nil, err
	}
	group, core := parts.Informers.Apps().V1(), parts.Informers.Core().V1()
	d := &Controller{
		parts: parts, sets: group.DaemonSets().Lister(), nodes: core.Nodes().Lister(),
		pods: core.Pods().Informer(), revisions: group.ControllerRevisions().Informer(),
		control: podcontrol.Control{Client: parts.Client, Events: parts.Events},
		awaited: expectation.New(parts.Clock),
	}
	if err := loop.IndexOwner(d.pods, d.revisions); err != nil {
		return nil, fmt.Errorf("daemonset: index by owner: %w", err)
	}
	d.Loop = loop.New("daemonset", parts, d.sync)
	d.On(group.DaemonSets().Informer(), loop.Handlers(
		func(o *apps.DaemonSet) { d.Enqueue(o) },
		func(_, o *apps.DaemonSet) { d.Enqueue(o) },
		func(o *apps.DaemonSet) {
			d.awaited.Forget(o.Namespace + "/" + o.Name)
			d.Enqueue(o)
		}))
	owner := adoption.OwnerIn(kind.Kind, func(ns, name string) (*apps.DaemonSet, error) { return d.sets.DaemonSets(ns).Get(name) })
	d.On(d.pods, adoption.Events[*v1.Pod]{
		Owner:    owner,
		Matching: func(p *v1.Pod) []string { return d.matching(p.Namespace, p.Labels) },
		Created:  d.awaited.Created,
		Deleted:  func(key string, p *v1.Pod) { d.awaited.Deleted(key, p.Namespace+"/"+p.Name) },
		Enqueue:  d.Add,
	}.Handler())
	d.On(d.revisions, adoption.Events[*apps.ControllerRevision]{
		Owner:    owner,
		Matching: func(r *apps.ControllerRevision) []string { return d.matching(r.Namespace, r.Labels) },
		Enqueue:  d.Add,
	}.Handler())
	d.On(core.Nodes().Informer(), loop.Handlers(
		func(*v1.Node) { d.all() },
		func(old, n *v1.Node) {
			if !maps.Equal(old.Labels, n.Labels) || !equality.Semantic.DeepEqual(old.Spec.Taints, n.Spec.Taints) {
				d.all()
			}
		},
		func(*v1.Node) { d.all() }))
	return d, nil
}

func (c *Controller) all() {
	sets, err := c.sets.List(labels.Everything())
	if err != nil {
		return
	}
	for _, s := range sets {
		c.Enqueue(s)
	}
}

func (c *Controller) matching(namespace string, set map[string]string) []string {
	all, err := c.sets.DaemonSets(namespace).List(labels.Everything())
	if err != nil {
		return nil
	}
	return adoption.Selecting(all, set, func(d *apps.DaemonSet) *metav1.LabelSelector { return d.Spec.Selector })
}

func (c *Controller) sync(ctx context.Context, key string) error {
	namespace, name := loop.Split(key)
	shared, err := c.sets.DaemonSets(namespace).Get(name)
	if apierrors.IsNotFound(err) {
		c.awaited.Forget(key)
		return nil
	}
	if err != nil {
		return err
	}
	ds := shared.DeepCopy()
	selector, err := metav1.LabelSelectorAsSelector(ds.Spec.Selector)
	if err != nil {
		return nil // the API refuses such a selector
	}
	if selector.Empty() {
		c.parts.Events.Event(ds, v1.EventTypeWarning, "SelectingAll", "This daemon set is selecting all pods. A non-empty selector is required.")
		return nil
	}
	if ds.DeletionTimestamp != nil {
		return nil
	}
	nodes, err := c.nodes.List(labels.Everything())
	if err != nil {
		return err
	}
	fresh := func(ctx context.Context) (metav1.Object, error) {
		return c.parts.Client.AppsV1().DaemonSets(namespace).Get(ctx, name, metav1.GetOptions{})
	}
	history, err := c.history(ctx, ds, selector, fresh)
	if err != nil {
		return err
	}
	parent := revision.Parent{Object: ds, Kind: kind}
	current, collisions, err := revision.Current(ctx, c.parts.Client, parent, &ds.Spec.Template, history, ds.Status.CollisionCount)
	if err != nil {
		return err
	}
	ds.Status.CollisionCount = collisions
	hash := current.Labels[apps.ControllerRevisionHashLabelKey]
	settled := c.awaited.Satisfied(key)
	pods, err := c.claim(ctx, ds, selector, fresh)
	if err != nil {
		return err
	}
	var failure error
	now := c.parts.Clock.Now()
	if settled {
		plan := Decide(ds, nodes, pods, hash, now)
		failure = c.execute(ctx, key, ds, plan, hash)
		if plan.Wait > 0 {
			c.AddAfter(key, plan.Wait)
		}
	}
	status := NextStatus(ds, nodes, pods, hash, now)
	if !equality.Semantic.DeepEqual(shared.Status, status) {
		ds.Status = status
		if _, err := c.parts.Client.AppsV1().DaemonSets(namespace).UpdateStatus(ctx, ds, metav1.UpdateOptions{}); err != nil {
			return err
		}
	}
	if failure != nil {
		return failure
	}
	if ds.Spec.MinReadySeconds > 0 && status.NumberReady != status.NumberAvailable {
		for _, p := range pods {
			if d := podcontrol.AvailableIn(p, ds.Spec.MinReadySeconds, now); d > 0 {
				c.AddAfter(key, d)
			}
		}
	}
	inUse := map[string]bool{hash: true}
	for _, p := range pods {
		inUse[p.Labels[apps.ControllerRevisionHashLabelKey]] = true
	}
	return revision.Truncate(ctx, c.parts.Client, history, func(r *apps.ControllerRevision) bool {
		return inUse[r.Labels[apps.ControllerRevisionHashLabelKey]]
	}, ds.Spec.RevisionHistoryLimit)
}

func (c *Controller) history(ctx context.Context, ds *apps.DaemonSet, selector labels.Selector, fresh func(context.Context) (metav1.Object, error)) ([]*apps.ControllerRevision, error) {
	candidates, err := loop.OwnedOrOrphan[*apps.ControllerRevision](c.revisions, ds.Namespace, ds.UID)
	if err != nil {
		return nil, err
	}
	all, err := adoption.Claim(ctx, adoption.Claimer{
		Controller: ds, Kind: kind, Selector: selector, Fresh: fresh, Patch: adoption.With(c.parts.Client.AppsV1().ControllerRevisions(ds.Namespace)),
	}, candidates, nil)
	revision.Sort(all)
	return all, err
}

func (c *Controller) claim(ctx context.Context, ds *apps.DaemonSet, selector labels.Selector, fresh func(context.Context) (metav1.Object, error)) ([]*v1.Pod, error) {
	candidates, err := loop.OwnedOrOrphan[*v1.Pod](c.pods, ds.Namespace, ds.UID)
	if err != nil {
		return nil, err
	}
	return adoption.Claim(ctx, adoption.Claimer{
		Controller: ds, Kind: kind, Selector: selector, Fresh: fresh, Patch: adoption.With(c.parts.Client.CoreV1().Pods(ds.Namespace)),
	}, candidates, nil)
}
