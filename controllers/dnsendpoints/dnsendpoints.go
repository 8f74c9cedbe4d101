// Package dnsendpoints keeps the endpoints of the cluster DNS Service. Every
// node runs the DNS server itself, so the nodes, and not pods, are its endpoints.
package dnsendpoints

import (
	"context"
	"errors"
	"fmt"

	v1 "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	corelisters "k8s.io/client-go/listers/core/v1"
	discoverylisters "k8s.io/client-go/listers/discovery/v1"

	"skiff/controllers/loop"
)

// Manager is the value of the managed-by labels of what is kept here.
const Manager = "dns-endpoints-controller"

// The Service, and the ports that a node's DNS server listens on.
const (
	Namespace   = metav1.NamespaceSystem
	Name        = "kube-dns"
	defaultPort = 10053
	metricsPort = 9153
)

// Config is what the controller needs.
type Config struct {
	loop.Parts
	// Port of queries on each node, UDP and TCP; default 10053.
	Port int32
	// MetricsPort on each node; default 9153.
	MetricsPort int32
}

// Controller keeps the EndpointSlices and Endpoints of kube-system/kube-dns.
type Controller struct {
	*loop.Loop
	parts     loop.Parts
	ports     Ports
	services  corelisters.ServiceLister
	nodes     corelisters.NodeLister
	endpoints corelisters.EndpointsLister
	slices    discoverylisters.EndpointSliceLister
}

// New checks the configuration and makes the controller.
func New(c Config) (*Controller, error) {
	parts, err := c.Complete("dnsendpoints")
	if c.Port == 0 {
		c.Port = defaultPort
	}
	if c.MetricsPort == 0 {
		c.MetricsPort = metricsPort
	}
	for name, port := range map[string]int32{"Port": c.Port, "MetricsPort": c.MetricsPort} {
		if port < 1 || port > 65535 {
			err = errors.Join(err, fmt.Errorf("dnsendpoints: %s is %d: want 1 to 65535", name, port))
		}
	}
	if err != nil {
		return nil, err
	}
	core := parts.Informers.Core().V1()
	group := parts.Informers.Discovery().V1().EndpointSlices()
	d := &Controller{
		parts: parts, ports: Ports{Query: c.Port, Metrics: c.MetricsPort},
		services: core.Services().Lister(), nodes: core.Nodes().Lister(),
		endpoints: core.Endpoints().Lister(), slices: group.Lister(),
	}
	d.Loop = loop.New("dnsendpoints", parts, d.sync)
	own := func(o metav1.Object) {
		if o.GetNamespace() == Namespace && o.GetName() == Name {
			d.look()
		}
	}
	d.On(core.Services().Informer(), loop.Each(func(s *v1.Service) { own(s) }))
	d.On(core.Endpoints().Informer(), loop.Each(func(e *v1.Endpoints) { own(e) }))
	d.On(core.Nodes().Informer(), loop.Handlers(
		func(*v1.Node) { d.look() },
		func(old, n *v1.Node) {
			// A node's status changes every few seconds; its endpoint seldom does.
			if !equality.Semantic.DeepEqual(endpointOf(old, discovery.AddressTypeIPv4), endpointOf(n, discovery.AddressTypeIPv4)) ||
				!equality.Semantic.DeepEqual(endpointOf(old, discovery.AddressTypeIPv6), endpointOf(n, discovery.AddressTypeIPv6)) {
				d.look()
			}
		},
		func(*v1.Node) { d.look() }))
	d.On(group.Informer(), loop.Each(func(s *discovery.EndpointSlice) {
		if s.Namespace == Namespace && s.Labels[discovery.LabelManagedBy] == Manager {
			d.look()
		}
	}))
	return d, nil
}

func (c *Controller) look() { c.Add(Namespace + "/" + Name) }

func (c *Controller) sync(ctx context.Context, key string) error {
	namespace, name := loop.Split(key)
	service, err := c.services.Services(namespace).Get(name)
	if err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	// A Service with a selector has pods of its own: the other controllers' work.
	if service != nil && (service.Spec.Selector != nil || service.DeletionTimestamp != nil) {
		service = nil
	}
	nodes, err := c.nodes.List(labels.Everything())
	if err != nil {
		return err
	}
	existing, err := c.slices.EndpointSlices(namespace).List(labels.Set{
		discovery.LabelServiceName: name, discovery.LabelManagedBy: Manager,
	}.AsSelectorPreValidated())
	if err != nil {
		return err
	}
	endpoints, err := c.endpoints.Endpoints(namespace).Get(name)
	if err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	return errors.Join(
		c.writeSlices(ctx, MakePlan(service, nodes, existing, c.ports)),
		c.writeEndpoints(ctx, MakeEndpoints(service, nodes, c.ports), endpoints))
}

func (c *Controller) writeSlices(ctx context.Context, plan Plan) error {
	client := c.parts.Client.DiscoveryV1().EndpointSlices(Namespace)
	var errs []error
	for _, s := range plan.Create {
		_, err := client.Create(ctx, s, metav1.CreateOptions{})
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
	return errors.Join(errs...)
}

// writeEndpoints leaves Endpoints alone that somebody else keeps when there is
// nothing to say.
func (c *Controller) writeEndpoints(ctx context.Context, want, have *v1.Endpoints) error {
	client := c.parts.Client.CoreV1().Endpoints(Namespace)
	switch {
	case want == nil && have == nil:
		return nil
	case want == nil:
		if have.Labels[labelEndpointsManagedBy] != Manager {
			return nil
		}
		err := client.Delete(ctx, have.Name, metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(have.UID))})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return err
	case have == nil:
		_, err := client.Create(ctx, want, metav1.CreateOptions{})
		if apierrors.IsAlreadyExists(err) {
			return nil // the cache is behind; its event brings this here again
		}
		return err
	}
	next := have.DeepCopy()
	next.Labels, next.Subsets = want.Labels, want.Subsets
	if equality.Semantic.DeepEqual(have, next) {
		return nil
	}
	_, err := client.Update(ctx, next, metav1.UpdateOptions{})
	return err
}
