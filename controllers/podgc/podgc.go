// Package podgc removes pods that nobody else will: those of nodes that are
// gone, those that were deleted before they ran, and ended ones beyond a limit.
package podgc

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/klog/v2"
	"k8s.io/utils/ptr"

	"skiff/controllers/loop"
	"skiff/controllers/podcontrol"
)

const (
	period     = 20 * time.Second
	quarantine = 40 * time.Second
)

// Config is what the controller needs.
type Config struct {
	loop.Parts
	// TerminatedPodThreshold is how many ended pods may exist. Default: 12500;
	// negative: any number.
	TerminatedPodThreshold int
}

// Controller collects pods.
type Controller struct {
	*loop.Loop
	parts     loop.Parts
	threshold int
	pods      corelisters.PodLister
	nodes     corelisters.NodeLister

	mu      sync.Mutex // guards missing
	missing map[string]time.Time
}

// New checks the configuration and makes the controller.
func New(c Config) (*Controller, error) {
	parts, err := c.Complete("podgc")
	if err != nil {
		return nil, err
	}
	if c.TerminatedPodThreshold == 0 {
		c.TerminatedPodThreshold = 12500
	}
	core := parts.Informers.Core().V1()
	p := &Controller{
		parts: parts, threshold: c.TerminatedPodThreshold,
		pods: core.Pods().Lister(), nodes: core.Nodes().Lister(), missing: map[string]time.Time{},
	}
	p.Loop = loop.New("podgc", parts, p.sync)
	p.Reads(core.Pods().Informer(), core.Nodes().Informer())
	p.Every(period, p.collect)
	return p, nil
}

// sync has no keys of its own: the work is periodic.
func (c *Controller) sync(context.Context, string) error { return nil }

func (c *Controller) collect(ctx context.Context) {
	pods, err := c.pods.List(labels.Everything())
	if err != nil {
		return
	}
	nodes, err := c.nodes.List(labels.Everything())
	if err != nil {
		return
	}
	logger := klog.FromContext(ctx)
	for _, v := range Plan(pods, nodes, c.gone(ctx, pods, nodes), c.threshold) {
		if err := c.remove(ctx, v); err != nil {
			logger.Error(err, "Could not remove a pod", "pod", klog.KObj(v.Pod))
		}
	}
}

// gone lists the node names that pods use and that have been missing for the
// whole quarantine, and are missing on the server too.
func (c *Controller) gone(ctx context.Context, pods []*v1.Pod, nodes []*v1.Node) map[string]bool {
	known := map[string]bool{}
	for _, n := range nodes {
		known[n.Name] = true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.parts.Clock.Now()
	seen := map[string]bool{}
	out := map[string]bool{}
	for _, p := range pods {
		name := p.Spec.NodeName
		if name == "" || known[name] || seen[name] {
			continue
		}
		seen[name] = true
		since, ok := c.missing[name]
		if !ok {
			c.missing[name] = now
			continue
		}
		if now.Sub(since) < quarantine {
			continue
		}
		if _, err := c.parts.Client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{}); apierrors.IsNotFound(err) {
			out[name] = true
		}
	}
	for name := range c.missing {
		if !seen[name] {
			delete(c.missing, name)
		}
	}
	return out
}

// Victim is a pod to remove and why.
type Victim struct {
	Pod *v1.Pod
	// Condition is added first when set.
	Condition *v1.PodCondition
}

// Plan picks the pods to remove.
func Plan(pods []*v1.Pod, nodes []*v1.Node, gone map[string]bool, threshold int) []Victim {
	outOfService := map[string]bool{}
	for _, n := range nodes {
		ready := false
		for _, c := range n.Status.Conditions {
			ready = ready || c.Type == v1.NodeReady && c.Status == v1.ConditionTrue
		}
		for _, t := range n.Spec.Taints {
			if t.Key == v1.TaintNodeOutOfService && !ready {
				outOfService[n.Name] = true
			}
		}
	}
	var out []Victim
	var ended []*v1.Pod
	for _, p := range pods {
		switch {
		case gone[p.Spec.NodeName]:
			out = append(out, Victim{p, disrupted("PodGC: node no longer exists")})
		case p.DeletionTimestamp != nil && outOfService[p.Spec.NodeName]:
			out = append(out, Victim{p, disrupted("PodGC: node is out of service")})
		case p.DeletionTimestamp != nil && p.Spec.NodeName == "":
			out = append(out, Victim{p, nil})
		case podcontrol.Terminal(p) && p.DeletionTimestamp == nil:
			ended = append(ended, p)
		}
	}
	if n := len(ended) - threshold; threshold >= 0 && n > 0 {
		slices.SortFunc(ended, func(a, b *v1.Pod) int {
			// Evicted pods carry the least information.
			x, y := a.Status.Reason == "Evicted", b.Status.Reason == "Evicted"
			if x != y {
				if x {
					return -1
				}
				return 1
			}
			return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
		})
		for _, p := range ended[:n] {
			out = append(out, Victim{p, nil})
		}
	}
	return out
}

func disrupted(message string) *v1.PodCondition {
	return &v1.PodCondition{Type: v1.DisruptionTarget, Status: v1.ConditionTrue, Reason: "DeletionByPodGC", Message: message}
}

func (c *Controller) remove(ctx context.Context, v Victim) error {
	client := c.parts.Client.CoreV1().Pods(v.Pod.Namespace)
	if !podcontrol.Terminal(v.Pod) {
		// The pod's owner must see that it ended, and jobs must count it.
		patch, err := failPatch(v, c.parts.Clock.Now())
		if err != nil {
			return err
		}
		_, err = client.Patch(ctx, v.Pod.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
		if apierrors.IsNotFound(err) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("podgc: fail %s/%s: %w", v.Pod.Namespace, v.Pod.Name, err)
		}
	}
	err := client.Delete(ctx, v.Pod.Name, metav1.DeleteOptions{
		GracePeriodSeconds: ptr.To[int64](0), Preconditions: metav1.NewUIDPreconditions(string(v.Pod.UID)),
	})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

func failPatch(v Victim, now time.Time) ([]byte, error) {
	status := map[string]any{"phase": v1.PodFailed}
	if v.Condition != nil {
		cond := *v.Condition
		cond.LastTransitionTime = metav1.NewTime(now)
		status["conditions"] = []v1.PodCondition{cond}
	}
	return json.Marshal(map[string]any{"metadata": map[string]any{"uid": v.Pod.UID}, "status": status})
}
