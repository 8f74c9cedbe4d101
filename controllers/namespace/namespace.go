// Package namespace empties namespaces that are being deleted and then lets
// them go.
package namespace

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/metadata"

	"skiff/controllers/loop"
)

// Config is what the controller needs.
type Config struct {
	loop.Parts
	// Metadata lists and deletes objects of every kind. Required.
	Metadata metadata.Interface
}

// Controller deletes the contents of namespaces.
type Controller struct {
	*loop.Loop
	parts      loop.Parts
	metadata   metadata.Interface
	namespaces corelisters.NamespaceLister
}

// New checks the configuration and makes the controller.
func New(c Config) (*Controller, error) {
	parts, err := c.Complete("namespace")
	if c.Metadata == nil {
		err = errors.Join(err, errors.New("namespace: Metadata is nil: give a metadata client"))
	}
	if err != nil {
		return nil, err
	}
	namespaces := parts.Informers.Core().V1().Namespaces()
	n := &Controller{parts: parts, metadata: c.Metadata, namespaces: namespaces.Lister()}
	n.Loop = loop.New("namespace", parts, n.sync)
	n.On(namespaces.Informer(), loop.Changed(func(ns *v1.Namespace) {
		if ns.DeletionTimestamp != nil {
			n.Add(ns.Name)
		}
	}))
	return n, nil
}

func (c *Controller) sync(ctx context.Context, name string) error {
	shared, err := c.namespaces.Get(name)
	if apierrors.IsNotFound(err) || err == nil && shared.DeletionTimestamp == nil {
		return nil
	}
	if err != nil {
		return err
	}
	client := c.parts.Client.CoreV1().Namespaces()
	ns, err := client.Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) || err == nil && (ns.DeletionTimestamp == nil || ns.UID != shared.UID) {
		return nil
	}
	if err != nil {
		return err
	}
	if ns.Status.Phase != v1.NamespaceTerminating {
		ns.Status.Phase = v1.NamespaceTerminating
		if ns, err = client.UpdateStatus(ctx, ns, metav1.UpdateOptions{}); err != nil {
			return err
		}
	}
	if !slices.Contains(ns.Spec.Finalizers, v1.FinalizerKubernetes) {
		return nil
	}
	found := c.empty(ctx, name)
	if ns, err = c.report(ctx, ns, found); err != nil {
		return err
	}
	if err := found.failure(); err != nil {
		return err
	}
	if found.remain() {
		c.AddAfter(name, found.wait)
		return nil
	}
	ns.Spec.Finalizers = slices.DeleteFunc(slices.Clone(ns.Spec.Finalizers), func(f v1.FinalizerName) bool { return f == v1.FinalizerKubernetes })
	_, err = client.Finalize(ctx, ns, metav1.UpdateOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

func (c *Controller) report(ctx context.Context, ns *v1.Namespace, found Findings) (*v1.Namespace, error) {
	next := ns.DeepCopy()
	next.Status.Conditions = NextConditions(ns.Status.Conditions, found, c.parts.Clock.Now())
	if equality.Semantic.DeepEqual(ns.Status, next.Status) {
		return ns, nil
	}
	return c.parts.Client.CoreV1().Namespaces().UpdateStatus(ctx, next, metav1.UpdateOptions{})
}

// empty deletes all that the namespace holds: pods first, so that what they
// use outlives them.
func (c *Controller) empty(ctx context.Context, namespace string) Findings {
	found := Findings{Remaining: map[string]int{}, Finalizers: map[string]int{}, wait: 5 * time.Second}
	lists, err := discovery.ServerPreferredNamespacedResources(c.parts.Client.Discovery())
	if err != nil {
		found.Discovery = err
	}
	var rest []target
	for _, list := range lists {
		gv, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			found.Parsing = errors.Join(found.Parsing, err)
			continue
		}
		for _, r := range list.APIResources {
			if !slices.Contains(r.Verbs, "delete") || !slices.Contains(r.Verbs, "list") {
				continue
			}
			t := target{gv.WithResource(r.Name), slices.Contains(r.Verbs, "deletecollection")}
			if t.gvr.GroupResource() == (schema.GroupResource{Resource: "pods"}) {
				c.remove(ctx, namespace, t, &found)
				continue
			}
			rest = append(rest, t)
		}
	}
	if len(found.Remaining) > 0 {
		return found
	}
	for _, t := range rest {
		c.remove(ctx, namespace, t, &found)
	}
	return found
}

type target struct {
	gvr        schema.GroupVersionResource
	collection bool
}

func (c *Controller) remove(ctx context.Context, namespace string, t target, found *Findings) {
	client := c.metadata.Resource(t.gvr).Namespace(namespace)
	fail := func(err error) {
		if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsMethodNotSupported(err) {
			found.Content = append(found.Content, fmt.Errorf("%s: %w", t.gvr, err))
		}
	}
	background := metav1.DeletePropagationBackground
	options := metav1.DeleteOptions{PropagationPolicy: &background}
	list, err := client.List(ctx, metav1.ListOptions{})
	if err != nil {
		fail(err)
		return
	}
	if len(list.Items) == 0 {
		return
	}
	if t.collection {
		fail(client.DeleteCollection(ctx, options, metav1.ListOptions{}))
	} else {
		for _, item := range list.Items {
			fail(client.Delete(ctx, item.Name, options))
		}
	}
	if list, err = client.List(ctx, metav1.ListOptions{}); err != nil {
		fail(err)
		return
	}
	if len(list.Items) == 0 {
		return
	}
	found.Remaining[t.gvr.Resource+"."+t.gvr.Group] = len(list.Items)
	for _, item := range list.Items {
		for _, f := range item.Finalizers {
			found.Finalizers[f]++
		}
	}
}
