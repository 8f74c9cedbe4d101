// Package tainteviction deletes pods that do not tolerate the NoExecute taints
// of their node, when their toleration's time is over.
package tainteviction

import (
	"context"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	"skiff/controllers/loop"
	"skiff/controllers/podcontrol"
)

// Config is what the controller needs.
type Config struct {
	loop.Parts
}

// Controller evicts pods.
type Controller struct {
	*loop.Loop
	parts   loop.Parts
	pods    corelisters.PodLister
	podsInf cache.SharedIndexInformer
	nodes   corelisters.NodeLister

	mu     sync.Mutex // guards marked
	marked map[string]mark
}

// mark is when a pod was first found intolerant.
type mark struct {
	uid   types.UID
	since time.Time
}

// New checks the configuration and makes the controller.
func New(c Config) (*Controller, error) {
	parts, err := c.Complete("taint-eviction-controller")
	if err != nil {
		return nil, err
	}
	core := parts.Informers.Core().V1()
	t := &Controller{
		parts: parts, pods: core.Pods().Lister(), podsInf: core.Pods().Informer(), nodes: core.Nodes().Lister(),
		marked: map[string]mark{},
	}
	if err := loop.IndexNode(t.podsInf); err != nil {
		return nil, err
	}
	t.Loop = loop.New("taint-eviction-controller", parts, t.sync)
	t.On(t.podsInf, loop.Handlers(
		func(p *v1.Pod) {
			if p.Spec.NodeName != "" {
				t.Enqueue(p)
			}
		},
		func(old, p *v1.Pod) {
			if old.Spec.NodeName != p.Spec.NodeName || len(old.Spec.Tolerations) != len(p.Spec.Tolerations) {
				t.Enqueue(p)
			}
		},
		func(p *v1.Pod) { t.Enqueue(p) }))
	t.On(core.Nodes().Informer(), loop.Handlers(
		func(n *v1.Node) { t.podsOf(n) },
		func(old, n *v1.Node) {
			if len(NoExecute(old)) > 0 || len(NoExecute(n)) > 0 {
				t.podsOf(n)
			}
		}, nil))
	return t, nil
}

func (c *Controller) podsOf(n *v1.Node) {
	pods, err := loop.ByIndex[*v1.Pod](c.podsInf, loop.ByNode, n.Name)
	if err != nil {
		return
	}
	for _, p := range pods {
		c.Enqueue(p)
	}
}

// NoExecute lists the node's taints that evict.
func NoExecute(n *v1.Node) []v1.Taint {
	var out []v1.Taint
	for _, t := range n.Spec.Taints {
		if t.Effect == v1.TaintEffectNoExecute {
			out = append(out, t)
		}
	}
	return out
}

// Patience is how long the pod may stay on a node with the taints; bounded is
// false when it may stay for ever.
func Patience(taints []v1.Taint, tolerations []v1.Toleration) (d time.Duration, bounded bool) {
	for i := range taints {
		tolerated := false
		var longest time.Duration
		endless := false
		for j := range tolerations {
			t := &tolerations[j]
			if !t.ToleratesTaint(klog.Background(), &taints[i], true) {
				continue
			}
			tolerated = true
			if t.TolerationSeconds == nil {
				endless = true
				continue
			}
			longest = max(longest, time.Duration(max(0, *t.TolerationSeconds))*time.Second)
		}
		if !tolerated {
			return 0, true
		}
		if !endless && (!bounded || longest < d) {
			d, bounded = longest, true
		}
	}
	return d, bounded
}

func (c *Controller) sync(ctx context.Context, key string) error {
	namespace, name := loop.Split(key)
	pod, err := c.pods.Pods(namespace).Get(name)
	if apierrors.IsNotFound(err) {
		c.unmark(key)
		return nil
	}
	if err != nil {
		return err
	}
	if pod.Spec.NodeName == "" || pod.DeletionTimestamp != nil {
		return nil
	}
	node, err := c.nodes.Get(pod.Spec.NodeName)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	patience, bounded := Patience(NoExecute(node), pod.Spec.Tolerations)
	if !bounded {
		if c.unmark(key) {
			c.parts.Events.Eventf(pod, v1.EventTypeNormal, "TaintManagerEviction", "Cancelling deletion of Pod %s", key)
		}
		return nil
	}
	now := c.parts.Clock.Now()
	if left := c.mark(key, pod.UID, now).Add(patience).Sub(now); left > 0 {
		c.AddAfter(key, left)
		return nil
	}
	c.parts.Events.Eventf(pod, v1.EventTypeNormal, "TaintManagerEviction", "Marking for deletion Pod %s", key)
	client := c.parts.Client.CoreV1().Pods(namespace)
	if err := podcontrol.Disrupt(ctx, client, pod, "DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint", now); err != nil {
		return err
	}
	c.unmark(key)
	return nil
}

// mark returns since when the pod is intolerant.
func (c *Controller) mark(key string, uid types.UID, now time.Time) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	m, ok := c.marked[key]
	if !ok || m.uid != uid {
		m = mark{uid, now}
		c.marked[key] = m
	}
	return m.since
}

func (c *Controller) unmark(key string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, ok := c.marked[key]
	delete(c.marked, key)
	return ok
}
