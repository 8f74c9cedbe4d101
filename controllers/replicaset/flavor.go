package replicaset

import (
	"context"

	apps "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/cache"

	"skiff/controllers/loop"
	"skiff/controllers/podcontrol"
)

// Replicas is an owner of pods seen as a ReplicaSet.
type Replicas struct {
	// Set is the owner's wishes and status.
	Set *apps.ReplicaSet
	// Owner is the object itself, which events are about.
	Owner podcontrol.Owner
}

// Flavor is a kind that this package can serve.
type Flavor struct {
	// Name of the controller in logs.
	Name string
	// GVK of the owner.
	GVK schema.GroupVersionKind
	// Informer of the owner's kind.
	Informer cache.SharedIndexInformer
	// View shows an object of the informer as a ReplicaSet.
	View func(obj any) (Replicas, bool)
	// Get and List read the informer.
	Get  func(namespace, name string) (any, error)
	List func(namespace string) []any
	// Fresh reads the owner from the API.
	Fresh func(ctx context.Context, namespace, name string) (metav1.Object, error)
	// UpdateStatus writes the status if it differs.
	UpdateStatus func(ctx context.Context, r Replicas, s apps.ReplicaSetStatus) (*apps.ReplicaSet, error)
}

func (f Flavor) find(namespace, name string) (metav1.Object, error) {
	obj, err := f.Get(namespace, name)
	if err != nil {
		return nil, err
	}
	r, _ := f.View(obj)
	return r.Set, nil
}

func (f Flavor) get(key string) (Replicas, error) {
	obj, err := f.Get(loop.Split(key))
	if err != nil {
		return Replicas{}, err
	}
	r, _ := f.View(obj)
	return r, nil
}

func (f Flavor) list(namespace string) []Replicas {
	objs := f.List(namespace)
	out := make([]Replicas, 0, len(objs))
	for _, o := range objs {
		if r, ok := f.View(o); ok {
			out = append(out, r)
		}
	}
	return out
}

func replicaSets(p loop.Parts) Flavor {
	sets := p.Informers.Apps().V1().ReplicaSets()
	return Flavor{
		Name:     "replicaset",
		GVK:      apps.SchemeGroupVersion.WithKind("ReplicaSet"),
		Informer: sets.Informer(),
		View: func(obj any) (Replicas, bool) {
			rs, ok := obj.(*apps.ReplicaSet)
			return Replicas{rs, rs}, ok
		},
		Get: func(namespace, name string) (any, error) { return sets.Lister().ReplicaSets(namespace).Get(name) },
		List: func(namespace string) []any {
			all, err := sets.Lister().ReplicaSets(namespace).List(labels.Everything())
			if err != nil {
				return nil
			}
			out := make([]any, len(all))
			for i, rs := range all {
				out[i] = rs
			}
			return out
		},
		Fresh: func(ctx context.Context, namespace, name string) (metav1.Object, error) {
			return p.Client.AppsV1().ReplicaSets(namespace).Get(ctx, name, metav1.GetOptions{})
		},
		UpdateStatus: func(ctx context.Context, r Replicas, s apps.ReplicaSetStatus) (*apps.ReplicaSet, error) {
			if equality.Semantic.DeepEqual(r.Set.Status, s) {
				return r.Set, nil
			}
			client := p.Client.AppsV1().ReplicaSets(r.Set.Namespace)
			next := r.Set.DeepCopy()
			next.Status = s
			updated, err := client.UpdateStatus(ctx, next, metav1.UpdateOptions{})
			if err == nil {
				return updated, nil
			}
			// One more try on the newest version: the counts do not depend on it.
			fresh, getErr := client.Get(ctx, r.Set.Name, metav1.GetOptions{})
			if getErr != nil {
				return nil, getErr
			}
			if fresh.UID != r.Set.UID {
				return nil, err
			}
			fresh.Status = s
			return client.UpdateStatus(ctx, fresh, metav1.UpdateOptions{})
		},
	}
}
