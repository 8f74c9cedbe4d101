// Package endpointslicemirroring copies Endpoints that people write for
// Services without a selector into EndpointSlices.
package endpointslicemirroring

import (
	"context"
	"errors"
	"fmt"

	v1 "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"

	"skiff/client/serviceslices"
	"skiff/controllers/loop"
)

// Manager is the value of the managed-by label of the slices kept here.
const Manager = "endpointslicemirroring-controller.k8s.io"

// Config is what the controller needs.
type Config struct {
	loop.Parts
}

// Controller reconciles Endpoints with mirrored EndpointSlices.
type Controller struct {
	*loop.Loop
	parts     loop.Parts
	services  corelisters.ServiceLister
	endpoints corelisters.EndpointsLister
	slices    cache.SharedIndexInformer
}

// New checks the configuration and makes the controller.
func New(c Config) (*Controller, error) {
	parts, err := c.Complete("endpointslicemirroring")
	if err != nil {
		return nil, err
	}
	core := parts.Informers.Core().V1()
	group := parts.Informers.Discovery().V1().EndpointSlices()
	m := &Controller{parts: parts, services: core.Services().Lister(), endpoints: core.Endpoints().Lister(), slices: group.Informer()}
	if err := serviceslices.Index(m.slices); err != nil {
		return nil, fmt.Errorf("endpointslicemirroring: %w", err)
	}
	m.Loop = loop.New("endpointslicemirroring", parts, m.sync)
	m.On(core.Endpoints().Informer(), loop.Each(func(e *v1.Endpoints) { m.Enqueue(e) }))
	m.On(core.Services().Informer(), loop.Each(func(s *v1.Service) { m.Enqueue(s) }))
	m.On(m.slices, loop.Each(func(s *discovery.EndpointSlice) {
		if name := s.Labels[discovery.LabelServiceName]; s.Labels[discovery.LabelManagedBy] == Manager && name != "" {
			m.Add(s.Namespace + "/" + name)
		}
	}))
	return m, nil
}

// mirrored says whether the pair is this controller's business.
func mirrored(s *v1.Service, e *v1.Endpoints) bool {
	if s == nil || e == nil || s.Spec.Selector != nil || s.Spec.Type == v1.ServiceTypeExternalName {
		return false
	}
	_, lock := e.Annotations["control-plane.alpha.kubernetes.io/leader"]
	return !lock && e.Labels[discovery.LabelSkipMirror] != "true"
}

func (c *Controller) sync(ctx context.Context, key string) error {
	namespace, name := loop.Split(key)
	service, err := c.services.Services(namespace).Get(name)
	if err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	endpoints, err := c.endpoints.Endpoints(namespace).Get(name)
	if err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	existing, err := serviceslices.Managed(c.slices, types.NamespacedName{Namespace: namespace, Name: name}, Manager)
	if err != nil {
		return err
	}
	var plan Plan
	if mirrored(service, endpoints) {
		plan = MakePlan(endpoints, existing)
	} else {
		plan.Delete = existing
	}
	client := c.parts.Client.DiscoveryV1().EndpointSlices(namespace)
	var errs []error
	for _, s := range plan.Create {
		_, err := client.Create(ctx, s, metav1.CreateOptions{})
		if apierrors.HasStatusCause(err, v1.NamespaceTerminatingCause) {
			return nil
		}
		errs = append(errs, err)
	}
	for _, s := range plan.Update {
		_, err := client.Update(ctx, s, metav1.UpdateOptions{})
		errs = append(errs, err)
	}
	for _, s := range plan.Delete {
		if err := client.Delete(ctx, s.Name, metav1.DeleteOptions{}); !apierrors.IsNotFound(err) {
			errs = append(errs, err)
		}
	}
	err = errors.Join(errs...)
	if err != nil && endpoints != nil {
		c.parts.Events.Eventf(endpoints, v1.EventTypeWarning, "FailedToUpdateEndpointSlices", "Error updating EndpointSlices for Endpoints %s/%s: %v", namespace, name, err)
	}
	return err
}
