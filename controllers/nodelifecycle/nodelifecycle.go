// Package nodelifecycle notices nodes that have gone silent, says so in their
// status, and taints them so that their pods move.
package nodelifecycle

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	coordlisters "k8s.io/client-go/listers/coordination/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/component-helpers/node/topology"
	"k8s.io/klog/v2"

	"skiff/controllers/loop"
	"skiff/controllers/podcontrol"
)

// Config is what the controller needs.
type Config struct {
	loop.Parts
	// MonitorPeriod is how often nodes are looked at. Default: 5 s.
	MonitorPeriod time.Duration
	// GracePeriod is how long a node may be silent. Default: 50 s.
	GracePeriod time.Duration
	// StartupGracePeriod is the same for one that never spoke. Default: 60 s.
	StartupGracePeriod time.Duration
	// Rates bound how fast nodes are tainted for eviction. Default: 0.1 and
	// 0.01 a second, large clusters above 50 nodes.
	Rates Rates
	// UnhealthyZoneThreshold is the part of a zone that makes a disruption.
	// Default: 0.55.
	UnhealthyZoneThreshold float64
}

// Controller watches over nodes.
type Controller struct {
	*loop.Loop
	config Config
	parts  loop.Parts
	nodes  corelisters.NodeLister
	leases coordlisters.LeaseLister
	pods   cache.SharedIndexInformer

	mu     sync.Mutex // guards below
	health map[string]Health
	zones  map[string]*bucket
}

// New checks the configuration and makes the controller.
func New(c Config) (*Controller, error) {
	parts, err := c.Complete("nodelifecycle")
	if err != nil {
		return nil, err
	}
	setDefault(&c.MonitorPeriod, 5*time.Second)
	setDefault(&c.GracePeriod, 50*time.Second)
	setDefault(&c.StartupGracePeriod, time.Minute)
	setDefault(&c.UnhealthyZoneThreshold, 0.55)
	setDefault(&c.Rates, Rates{Normal: 0.1, Disrupted: 0.01, LargeCluster: 50})
	core := parts.Informers.Core().V1()
	leases := parts.Informers.Coordination().V1().Leases()
	n := &Controller{
		config: c, parts: parts,
		nodes: core.Nodes().Lister(), leases: leases.Lister(), pods: core.Pods().Informer(),
		health: map[string]Health{}, zones: map[string]*bucket{},
	}
	if err := loop.IndexNode(n.pods); err != nil {
		return nil, err
	}
	n.Loop = loop.New("nodelifecycle", parts, n.sync)
	n.On(core.Nodes().Informer(), loop.Changed(func(o *v1.Node) { n.Add(o.Name) }))
	n.Reads(leases.Informer(), n.pods)
	n.Every(c.MonitorPeriod, n.monitor)
	return n, nil
}

func setDefault[T comparable](v *T, to T) {
	var zero T
	if *v == zero {
		*v = to
	}
}

// sync gives one node the taints that its conditions call for.
func (c *Controller) sync(ctx context.Context, name string) error {
	node, err := c.nodes.Get(name)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	now := c.parts.Clock.Now()
	taints, changed := Taints(node, now)
	copied := *node
	copied.Spec.Taints = taints
	// A node that has come back is relieved at once.
	if EvictionTaint(node) == "" && condition(node, v1.NodeReady) != nil {
		var relieved bool
		taints, relieved = Evict(&copied, "", now)
		changed = changed || relieved
	}
	if changed {
		if err := c.writeTaints(ctx, node, taints); err != nil {
			return err
		}
	}
	return c.label(ctx, node)
}

// label keeps the labels of the first API version in step.
func (c *Controller) label(ctx context.Context, node *v1.Node) error {
	wanted := map[string]string{}
	for from, to := range map[string]string{v1.LabelOSStable: "beta.kubernetes.io/os", v1.LabelArchStable: "beta.kubernetes.io/arch"} {
		if v, ok := node.Labels[from]; ok && node.Labels[to] != v {
			wanted[to] = v
		}
	}
	if len(wanted) == 0 {
		return nil
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"labels": wanted}})
	if err != nil {
		return err
	}
	_, err = c.parts.Client.CoreV1().Nodes().Patch(ctx, node.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{})
	return err
}

func (c *Controller) writeTaints(ctx context.Context, node *v1.Node, taints []v1.Taint) error {
	if taints == nil {
		taints = []v1.Taint{}
	}
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"resourceVersion": node.ResourceVersion, "uid": node.UID},
		"spec":     map[string]any{"taints": taints},
	})
	if err != nil {
		return err
	}
	_, err = c.parts.Client.CoreV1().Nodes().Patch(ctx, node.Name, types.MergePatchType, patch, metav1.PatchOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// monitor looks at every node.
func (c *Controller) monitor(ctx context.Context) {
	nodes, err := c.nodes.List(labels.Everything())
	if err != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	logger := klog.FromContext(ctx)
	known := map[string]bool{}
	zones := map[string][]*v1.Node{}
	for _, node := range nodes {
		known[node.Name] = true
		if _, ok := c.health[node.Name]; !ok {
			c.event(node, "RegisteredNode", "Node "+node.Name+" event: Registered Node "+node.Name+" in Controller")
		}
		looked, err := c.look(ctx, node)
		if err != nil {
			if !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
				logger.Error(err, "Could not judge a node", "node", klog.KObj(node))
			}
			continue
		}
		zones[topology.GetZoneKey(looked)] = append(zones[topology.GetZoneKey(looked)], looked)
	}
	for name := range c.health {
		if !known[name] {
			c.parts.Events.Eventf(&v1.ObjectReference{Kind: "Node", APIVersion: "v1", Name: name, UID: types.UID(name)}, v1.EventTypeNormal,
				"RemovingNode", "Node %s event: Removing Node %s from Controller", name, name)
			delete(c.health, name)
		}
	}
	c.evict(ctx, zones)
}

func (c *Controller) event(node *v1.Node, reason, message string) {
	c.parts.Events.Event(&v1.ObjectReference{Kind: "Node", APIVersion: "v1", Name: node.Name, UID: node.UID}, v1.EventTypeNormal, reason, message)
}

// look judges one node and returns its newest state; the caller holds mu.
func (c *Controller) look(ctx context.Context, node *v1.Node) (*v1.Node, error) {
	now := c.parts.Clock.Now()
	var renewed time.Time
	if lease, err := c.leases.Leases(v1.NamespaceNodeLease).Get(node.Name); err == nil && lease.Spec.RenewTime != nil {
		renewed = lease.Spec.RenewTime.Time
	}
	was := c.health[node.Name]
	h := was.Look(node, renewed, now)
	grace := c.config.GracePeriod
	if condition(node, v1.NodeReady) == nil {
		grace = c.config.StartupGracePeriod
	}
	if now.After(h.Seen.Add(grace)) {
		if next, changed := Lost(node, now); changed {
			updated, err := c.parts.Client.CoreV1().Nodes().UpdateStatus(ctx, next, metav1.UpdateOptions{})
			if err != nil {
				c.health[node.Name] = h
				return nil, err
			}
			node = updated
		}
	}
	h.Ready = readiness(node)
	var err error
	if h.Ready != v1.ConditionTrue {
		if was.known && was.Ready == v1.ConditionTrue {
			c.event(node, "NodeNotReady", "Node "+node.Name+" status is now: NodeNotReady")
		}
		err = c.markPods(ctx, node)
	}
	c.health[node.Name] = h
	return node, err
}

// markPods takes the node's pods out of service: the kubelet cannot.
func (c *Controller) markPods(ctx context.Context, node *v1.Node) error {
	pods, err := loop.ByIndex[*v1.Pod](c.pods, loop.ByNode, node.Name)
	if err != nil {
		return err
	}
	var errs []error
	for _, pod := range pods {
		ready := podcontrol.Condition(&pod.Status, v1.PodReady)
		if ready == nil || ready.Status != v1.ConditionTrue {
			continue
		}
		next := pod.DeepCopy()
		r := podcontrol.Condition(&next.Status, v1.PodReady)
		r.Status, r.LastTransitionTime = v1.ConditionFalse, metav1.NewTime(c.parts.Clock.Now())
		_, err := c.parts.Client.CoreV1().Pods(pod.Namespace).UpdateStatus(ctx, next, metav1.UpdateOptions{})
		switch {
		case apierrors.IsNotFound(err) || apierrors.IsConflict(err):
		case err != nil:
			errs = append(errs, err)
		default:
			c.parts.Events.Event(pod, v1.EventTypeWarning, "NodeNotReady", "Node is not ready")
		}
	}
	return errors.Join(errs...)
}

// evict taints nodes that are not ready, each zone at its own rate; the caller
// holds mu.
func (c *Controller) evict(ctx context.Context, zones map[string][]*v1.Node) {
	now := c.parts.Clock.Now()
	states := map[string]ZoneState{}
	allDown := len(zones) > 0
	for zone, nodes := range zones {
		ready := 0
		for _, n := range nodes {
			if readiness(n) == v1.ConditionTrue {
				ready++
			}
		}
		states[zone] = JudgeZone(ready, len(nodes), c.config.UnhealthyZoneThreshold)
		allDown = allDown && states[zone] == FullDisruption
	}
	for zone, nodes := range zones {
		b := c.zones[zone]
		if b == nil {
			b = &bucket{tokens: 1, at: now}
			c.zones[zone] = b
		}
		b.refill(c.config.Rates.Rate(states[zone], len(nodes), allDown), now)
		for _, n := range nodes {
			key := EvictionTaint(n)
			taints, changed := Evict(n, key, now)
			if key == "" || !changed {
				continue
			}
			// Changing one eviction taint for the other moves no more pods.
			_, fresh := Evict(n, "", now)
			if !fresh && !b.take() {
				continue
			}
			if err := c.writeTaints(ctx, n, taints); err != nil && !apierrors.IsConflict(err) {
				klog.FromContext(ctx).Error(err, "Could not taint a node", "node", klog.KObj(n))
			}
		}
	}
}

// bucket holds at most one token, refilled at a changing rate.
type bucket struct {
	tokens float64
	at     time.Time
}

func (b *bucket) refill(rate float64, now time.Time) {
	b.tokens = min(1, b.tokens+rate*now.Sub(b.at).Seconds())
	b.at = now
	if rate == 0 {
		b.tokens = 0
	}
}

func (b *bucket) take() bool {
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}
