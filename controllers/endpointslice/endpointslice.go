// Package endpointslice keeps the EndpointSlices of each Service with a
// selector in step with its pods.
package endpointslice

import (
	"context"
	"fmt"
	"sync"

	v1 "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
	slices "k8s.io/endpointslice"
	"k8s.io/endpointslice/topologycache"
	track "k8s.io/endpointslice/util"
	"k8s.io/klog/v2"

	corelisters "k8s.io/client-go/listers/core/v1"

	"skiff/client/serviceslices"
	"skiff/controllers/loop"
	"skiff/controllers/servicepods"
)

// Manager is the value of the managed-by label of the slices kept here.
const Manager = "endpointslice-controller.k8s.io"

// perSlice is the most endpoints of one slice.
const perSlice = 100

// Config is what the controller needs.
type Config struct {
	loop.Parts
}

// Controller reconciles Services with EndpointSlices.
type Controller struct {
	*loop.Loop
	parts      loop.Parts
	services   corelisters.ServiceLister
	pods       corelisters.PodLister
	nodes      corelisters.NodeLister
	slices     cache.SharedIndexInformer
	tracker    *track.EndpointSliceTracker
	reconciler *slices.Reconciler
	topology   *topologycache.TopologyCache

	mu       sync.Mutex // guards triggers
	triggers *track.TriggerTimeTracker
}

// New checks the configuration and makes the controller.
func New(c Config) (*Controller, error) {
	parts, err := c.Complete("endpointslice")
	if err != nil {
		return nil, err
	}
	core := parts.Informers.Core().V1()
	e := &Controller{
		parts:    parts,
		services: core.Services().Lister(),
		pods:     core.Pods().Lister(),
		nodes:    core.Nodes().Lister(),
		slices:   parts.Informers.Discovery().V1().EndpointSlices().Informer(),
		tracker:  track.NewEndpointSliceTracker(),
		topology: topologycache.NewTopologyCache(),
		triggers: track.NewTriggerTimeTracker(),
	}
	if err := serviceslices.Index(e.slices); err != nil {
		return nil, fmt.Errorf("endpointslice: %w", err)
	}
	e.reconciler = slices.NewReconciler(parts.Client, e.nodes, perSlice, e.tracker, e.topology, parts.Events, Manager,
		slices.WithPreferSameTrafficDistributionEnabled(true))
	e.Loop = loop.New("endpointslice", parts, e.sync)
	e.On(core.Services().Informer(), loop.Each(func(s *v1.Service) { e.Enqueue(s) }))
	e.On(core.Pods().Informer(), servicepods.Changes(e.services, e.Add))
	e.On(core.Nodes().Informer(), loop.Handlers(
		func(*v1.Node) { e.nodesChanged() },
		func(old, n *v1.Node) {
			if topologyChanged(old, n) {
				e.nodesChanged()
			}
		},
		func(*v1.Node) { e.nodesChanged() }))
	e.On(e.slices, loop.Handlers(e.sliceAdded, e.sliceUpdated, e.sliceDeleted))
	return e, nil
}

func topologyChanged(old, n *v1.Node) bool {
	return old.Labels[v1.LabelTopologyZone] != n.Labels[v1.LabelTopologyZone] || ready(old) != ready(n) ||
		!old.Status.Allocatable.Cpu().Equal(*n.Status.Allocatable.Cpu())
}

func ready(n *v1.Node) bool {
	for _, c := range n.Status.Conditions {
		if c.Type == v1.NodeReady {
			return c.Status == v1.ConditionTrue
		}
	}
	return false
}

func (c *Controller) nodesChanged() {
	nodes, err := c.nodes.List(labels.Everything())
	if err != nil {
		return
	}
	c.topology.SetNodes(klog.Background(), nodes)
	for _, key := range c.topology.GetOverloadedServices() {
		c.Add(key)
	}
}

func (c *Controller) sliceAdded(s *discovery.EndpointSlice) {
	if c.reconciler.ManagedByController(s) && c.tracker.ShouldSync(s) {
		c.owner(s)
	}
}

func (c *Controller) sliceUpdated(old, s *discovery.EndpointSlice) {
	if old.Labels[discovery.LabelServiceName] != s.Labels[discovery.LabelServiceName] {
		c.owner(old)
		c.owner(s)
		return
	}
	if c.reconciler.ManagedByChanged(old, s) || c.reconciler.ManagedByController(s) && c.tracker.ShouldSync(s) {
		c.owner(s)
	}
}

func (c *Controller) sliceDeleted(s *discovery.EndpointSlice) {
	if c.reconciler.ManagedByController(s) && c.tracker.Has(s) && !c.tracker.HandleDeletion(s) {
		c.owner(s)
	}
}

func (c *Controller) owner(s *discovery.EndpointSlice) {
	if key, err := slices.ServiceControllerKey(s); err == nil {
		c.Add(key)
	}
}

func (c *Controller) sync(ctx context.Context, key string) error {
	namespace, name := loop.Split(key)
	service, err := c.services.Services(namespace).Get(name)
	if apierrors.IsNotFound(err) {
		c.mu.Lock()
		c.triggers.DeleteService(namespace, name)
		c.mu.Unlock()
		c.reconciler.DeleteService(namespace, name)
		c.tracker.DeleteService(namespace, name)
		return nil
	}
	if err != nil {
		return err
	}
	pods, selects, err := servicepods.Of(service, c.pods)
	if err != nil || !selects {
		return err
	}
	all, err := serviceslices.Managed(c.slices, types.NamespacedName{Namespace: namespace, Name: name}, Manager)
	if err != nil {
		return err
	}
	var existing []*discovery.EndpointSlice
	for _, s := range all {
		if s.DeletionTimestamp == nil {
			existing = append(existing, s)
		}
	}
	if c.tracker.StaleSlices(service, existing) {
		return fmt.Errorf("endpointslice: %s: %w", key, loop.ErrBehind)
	}
	c.mu.Lock()
	changed := c.triggers.ComputeEndpointLastChangeTriggerTime(namespace, service, pods)
	c.mu.Unlock()
	if err := c.reconciler.Reconcile(klog.FromContext(ctx), service, pods, existing, changed); err != nil {
		c.parts.Events.Eventf(service, v1.EventTypeWarning, "FailedToUpdateEndpointSlices",
			"Error updating Endpoint Slices for Service %s/%s: %v", namespace, name, err)
		return fmt.Errorf("endpointslice: %s: %w", key, err)
	}
	return nil
}
