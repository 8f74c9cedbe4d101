// Package ttl tells kubelets, by an annotation, how long they may use a Secret
// or ConfigMap before they look again: longer in large clusters.
package ttl

import (
	"context"
	"encoding/json"
	"strconv"
	"sync"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	corelisters "k8s.io/client-go/listers/core/v1"

	"skiff/controllers/loop"
)

// steps say from which size on which time holds; a shrinking cluster keeps its
// time until it is well below.
var steps = []struct{ min, max, seconds int }{
	{0, 100, 0}, {90, 500, 15}, {450, 1000, 30}, {900, 2000, 60}, {1800, 10000, 300}, {9000, 1 << 30, 600},
}

// Config is what the controller needs.
type Config struct {
	loop.Parts
}

// Controller annotates nodes.
type Controller struct {
	*loop.Loop
	parts loop.Parts
	nodes corelisters.NodeLister

	mu   sync.Mutex // guards step
	step int
}

// New checks the configuration and makes the controller.
func New(c Config) (*Controller, error) {
	parts, err := c.Complete("ttl")
	if err != nil {
		return nil, err
	}
	nodes := parts.Informers.Core().V1().Nodes()
	t := &Controller{parts: parts, nodes: nodes.Lister()}
	t.Loop = loop.New("ttl", parts, t.sync)
	t.On(nodes.Informer(), loop.Handlers(func(n *v1.Node) { t.Add(n.Name) }, func(_, n *v1.Node) { t.Add(n.Name) }, nil))
	return t, nil
}

// Next is the step for a size, starting from the one before.
func Next(step, size int) int {
	for step < len(steps)-1 && size > steps[step].max {
		step++
	}
	for step > 0 && size < steps[step].min {
		step--
	}
	return step
}

func (c *Controller) sync(ctx context.Context, name string) error {
	node, err := c.nodes.Get(name)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	all, err := c.nodes.List(labels.Everything())
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.step = Next(c.step, len(all))
	value := strconv.Itoa(steps[c.step].seconds)
	c.mu.Unlock()
	if node.Annotations[v1.ObjectTTLAnnotationKey] == value {
		return nil
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]string{v1.ObjectTTLAnnotationKey: value}}})
	if err != nil {
		return err
	}
	_, err = c.parts.Client.CoreV1().Nodes().Patch(ctx, name, types.StrategicMergePatchType, patch, metav1.PatchOptions{})
	return err
}
