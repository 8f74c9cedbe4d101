// Package endpoints keeps the Endpoints object of each Service with a
// selector, for clients that do not read EndpointSlices.
package endpoints

import (
	"context"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	corelisters "k8s.io/client-go/listers/core/v1"

	"skiff/controllers/loop"
	"skiff/controllers/servicepods"
)

// Config is what the controller needs.
type Config struct {
	loop.Parts
}

// Controller reconciles Services with Endpoints.
type Controller struct {
	*loop.Loop
	parts     loop.Parts
	services  corelisters.ServiceLister
	pods      corelisters.PodLister
	endpoints corelisters.EndpointsLister
}

// New checks the configuration and makes the controller.
func New(c Config) (*Controller, error) {
	parts, err := c.Complete("endpoints")
	if err != nil {
		return nil, err
	}
	core := parts.Informers.Core().V1()
	e := &Controller{parts: parts, services: core.Services().Lister(), pods: core.Pods().Lister(), endpoints: core.Endpoints().Lister()}
	e.Loop = loop.New("endpoints", parts, e.sync)
	e.On(core.Services().Informer(), loop.Each(func(s *v1.Service) { e.Enqueue(s) }))
	e.On(core.Pods().Informer(), servicepods.Changes(e.services, e.Add))
	e.On(core.Endpoints().Informer(), loop.Handlers(nil, nil, func(o *v1.Endpoints) { e.Enqueue(o) }))
	e.Also(e.sweep)
	return e, nil
}

// sweep looks once at every Endpoints object, so that those whose Service went
// while no controller ran are removed.
func (c *Controller) sweep(context.Context) {
	all, err := c.endpoints.List(labels.Everything())
	if err != nil {
		return
	}
	for _, e := range all {
		// Locks of leader elections live in Endpoints without a Service.
		if _, lock := e.Annotations["control-plane.alpha.kubernetes.io/leader"]; !lock {
			c.Enqueue(e)
		}
	}
}

func (c *Controller) sync(ctx context.Context, key string) error {
	namespace, name := loop.Split(key)
	client := c.parts.Client.CoreV1().Endpoints(namespace)
	service, err := c.services.Services(namespace).Get(name)
	if apierrors.IsNotFound(err) {
		old, err := c.endpoints.Endpoints(namespace).Get(name)
		if err != nil || old.Labels[LabelManagedBy] != Manager {
			return nil // nothing to remove, or made by somebody else
		}
		if err := client.Delete(ctx, name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			return err
		}
		return nil
	}
	if err != nil {
		return err
	}
	pods, selects, err := servicepods.Of(service, c.pods)
	if err != nil || !selects {
		return err
	}
	old, err := c.endpoints.Endpoints(namespace).Get(name)
	create := apierrors.IsNotFound(err)
	if create {
		old = &v1.Endpoints{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace}}
	} else if err != nil {
		return err
	}
	next := Next(service, pods, old)
	if !create && equality.Semantic.DeepEqual(old, next) {
		return nil
	}
	if create {
		_, err = client.Create(ctx, next, metav1.CreateOptions{})
	} else {
		_, err = client.Update(ctx, next, metav1.UpdateOptions{})
	}
	switch {
	case err == nil:
		return nil
	case create && (apierrors.IsForbidden(err) || apierrors.HasStatusCause(err, v1.NamespaceTerminatingCause)):
		return nil // the namespace goes away
	case create:
		c.parts.Events.Eventf(next, v1.EventTypeWarning, "FailedToCreateEndpoint", "Failed to create endpoint for service %v/%v: %v", namespace, name, err)
	default:
		c.parts.Events.Eventf(next, v1.EventTypeWarning, "FailedToUpdateEndpoint", "Failed to update endpoint %v/%v: %v", namespace, name, err)
	}
	return err
}
