// Package resourcequota counts what namespaces use of their quotas. Admission
// adds to the count; this controller takes off what has gone.
package resourcequota

import (
	"context"
	"errors"
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/informers"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/metadata"

	"skiff/controllers/loop"
	"skiff/quota"
)

const (
	// full is how often everything is counted anew.
	full = 5 * time.Minute
	// uncached is the same for what no informer tells of.
	uncached = 10 * time.Second
)

// Config is what the controller needs.
type Config struct {
	loop.Parts
	// Metadata counts objects that no informer holds. Required.
	Metadata metadata.Interface
}

// Controller keeps the status of ResourceQuotas.
type Controller struct {
	*loop.Loop
	parts      loop.Parts
	metadata   metadata.Interface
	evaluators []quota.Evaluator
	quotas     corelisters.ResourceQuotaLister
	cached     map[schema.GroupResource]informers.GenericInformer
}

// watched are the resources whose informers other controllers fill anyway.
func watched() []schema.GroupVersionResource {
	core := schema.GroupVersion{Version: "v1"}
	apps := schema.GroupVersion{Group: "apps", Version: "v1"}
	batch := schema.GroupVersion{Group: "batch", Version: "v1"}
	return []schema.GroupVersionResource{
		core.WithResource("pods"), core.WithResource("services"), core.WithResource("persistentvolumeclaims"),
		core.WithResource("configmaps"), core.WithResource("secrets"), core.WithResource("replicationcontrollers"), core.WithResource("resourcequotas"),
		apps.WithResource("replicasets"), apps.WithResource("deployments"), apps.WithResource("statefulsets"), apps.WithResource("daemonsets"),
		batch.WithResource("jobs"), batch.WithResource("cronjobs"),
	}
}

// New checks the configuration and makes the controller.
func New(c Config) (*Controller, error) {
	parts, err := c.Complete("resourcequota")
	if c.Metadata == nil {
		err = errors.Join(err, errors.New("resourcequota: Metadata is nil: give a metadata client"))
	}
	if err != nil {
		return nil, err
	}
	quotas := parts.Informers.Core().V1().ResourceQuotas()
	q := &Controller{
		parts: parts, metadata: c.Metadata, evaluators: quota.Evaluators(parts.Clock.Now, quota.ExtendedBy(parts.Informers.Resource().V1().DeviceClasses().Lister())), quotas: quotas.Lister(),
		cached: map[schema.GroupResource]informers.GenericInformer{},
	}
	q.Loop = loop.New("resourcequota", parts, q.sync)
	q.On(quotas.Informer(), loop.Handlers(
		func(o *v1.ResourceQuota) { q.Enqueue(o) },
		func(old, o *v1.ResourceQuota) {
			// Admission's own writes must not start a count.
			if old.Generation != o.Generation || !quota.Equal(old.Spec.Hard, o.Spec.Hard) || !quota.Equal(o.Spec.Hard, o.Status.Hard) {
				q.Enqueue(o)
			}
		}, nil))
	for _, gvr := range watched() {
		informer, err := parts.Informers.ForResource(gvr)
		if err != nil {
			return nil, err
		}
		q.cached[gvr.GroupResource()] = informer
		e := quota.For(q.evaluators, gvr.GroupResource())
		changed := func(old, o runtime.Object) { q.changed(e, old, o) }
		if gvr.Resource != "pods" && gvr.Resource != "services" && gvr.Resource != "persistentvolumeclaims" {
			changed = nil // only their number counts
		}
		q.On(informer.Informer(), loop.Handlers(nil, changed, func(o runtime.Object) { q.touched(e, o) }))
	}
	q.Every(full, func(context.Context) {
		all, err := q.quotas.List(labels.Everything())
		if err != nil {
			return
		}
		for _, o := range all {
			q.Enqueue(o)
		}
	})
	return q, nil
}

// changed looks again when an object costs another amount than before.
func (c *Controller) changed(e quota.Evaluator, old, o runtime.Object) {
	before, err := e.Usage(old)
	if err != nil {
		return
	}
	if after, err := e.Usage(o); err == nil && !quota.Equal(before, after) {
		c.touched(e, o)
	}
}

// touched looks again at the quotas that bound the object.
func (c *Controller) touched(e quota.Evaluator, o runtime.Object) {
	accessor, err := meta.Accessor(o)
	if err != nil {
		return
	}
	all, err := c.quotas.ResourceQuotas(accessor.GetNamespace()).List(labels.Everything())
	if err != nil {
		return
	}
	for _, q := range all {
		if len(quota.Tracked(e, quota.Names(q.Spec.Hard))) > 0 {
			c.Enqueue(q)
		}
	}
}

func (c *Controller) sync(ctx context.Context, key string) error {
	namespace, name := loop.Split(key)
	q, err := c.quotas.ResourceQuotas(namespace).Get(name)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	used := quota.Zero(quota.Names(q.Spec.Hard))
	polled := false
	var failures []error
	for _, r := range resources(c.evaluators, q) {
		e := quota.For(c.evaluators, r)
		objs, cached, err := c.objects(ctx, namespace, r)
		polled = polled || !cached
		if err != nil {
			failures = append(failures, err)
			// What was known stays.
			used = quota.Add(used, quota.Mask(q.Status.Used, quota.Tracked(e, quota.Names(q.Spec.Hard))))
			continue
		}
		sum, err := quota.Used(e, q, objs)
		if err != nil {
			failures = append(failures, err)
			continue
		}
		used = quota.Add(used, sum)
	}
	if polled {
		c.AddAfter(key, uncached)
	}
	if quota.Equal(q.Spec.Hard, q.Status.Hard) && quota.Equal(used, q.Status.Used) {
		return errors.Join(failures...)
	}
	next := q.DeepCopy()
	next.Status = v1.ResourceQuotaStatus{Hard: q.Spec.Hard.DeepCopy(), Used: used}
	_, err = c.parts.Client.CoreV1().ResourceQuotas(namespace).UpdateStatus(ctx, next, metav1.UpdateOptions{})
	return errors.Join(append(failures, err)...)
}

// resources lists what the quota counts.
func resources(all []quota.Evaluator, q *v1.ResourceQuota) []schema.GroupResource {
	var out []schema.GroupResource
	names := quota.Names(q.Spec.Hard)
	for _, e := range all {
		if len(quota.Tracked(e, names)) > 0 {
			out = append(out, e.Resource())
		}
	}
	for _, n := range names {
		if r, ok := quota.CountedResource(n); ok && !slices.Contains(out, r) {
			out = append(out, r)
		}
	}
	return out
}

// objects lists a resource in a namespace, from the cache where there is one.
func (c *Controller) objects(ctx context.Context, namespace string, r schema.GroupResource) (objs []runtime.Object, cached bool, err error) {
	if informer, ok := c.cached[r]; ok {
		objs, err := informer.Lister().ByNamespace(namespace).List(labels.Everything())
		return objs, true, err
	}
	if r == (quota.ResourceClaims{}).Resource() {
		list, err := c.parts.Client.ResourceV1().ResourceClaims(namespace).List(ctx, metav1.ListOptions{})
		if apierrors.IsNotFound(err) {
			return nil, false, nil
		}
		if err != nil {
			return nil, false, err
		}
		for i := range list.Items {
			objs = append(objs, &list.Items[i])
		}
		return objs, false, nil
	}
	gvr, ok, err := c.version(r)
	if err != nil || !ok {
		return nil, false, err
	}
	list, err := c.metadata.Resource(gvr).Namespace(namespace).List(ctx, metav1.ListOptions{})
	if apierrors.IsNotFound(err) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	for i := range list.Items {
		objs = append(objs, &list.Items[i])
	}
	return objs, false, nil
}

// version finds the preferred version of a resource; false when none serves it.
func (c *Controller) version(r schema.GroupResource) (schema.GroupVersionResource, bool, error) {
	groups, err := c.parts.Client.Discovery().ServerGroups()
	if err != nil {
		return schema.GroupVersionResource{}, false, err
	}
	for _, g := range groups.Groups {
		if g.Name != r.Group {
			continue
		}
		for _, v := range g.Versions {
			list, err := c.parts.Client.Discovery().ServerResourcesForGroupVersion(v.GroupVersion)
			if err != nil {
				return schema.GroupVersionResource{}, false, err
			}
			for _, res := range list.APIResources {
				if res.Name == r.Resource {
					return r.WithVersion(v.Version), true, nil
				}
			}
		}
	}
	return schema.GroupVersionResource{}, false, nil
}
