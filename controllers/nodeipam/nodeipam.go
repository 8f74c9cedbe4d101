// Package nodeipam gives each node its part of the cluster's pod addresses.
package nodeipam

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	corelisters "k8s.io/client-go/listers/core/v1"
	nodehelpers "k8s.io/component-helpers/node/util"

	"skiff/controllers/loop"
)

// Config is what the controller needs.
type Config struct {
	loop.Parts
	// ClusterCIDRs are the pod ranges, at most one of each family. Required.
	ClusterCIDRs []netip.Prefix
	// MaskSizes are the sizes of a node's part, one for each range. Default: 24
	// for IPv4, 64 for IPv6.
	MaskSizes []int
	// ServiceCIDRs are never given to a node.
	ServiceCIDRs []netip.Prefix
}

// Controller allocates pod ranges.
type Controller struct {
	*loop.Loop
	parts loop.Parts
	nodes corelisters.NodeLister

	mu     sync.Mutex // guards ranges and loaded
	ranges []*blocks
	loaded bool
}

// New checks the configuration and makes the controller.
func New(c Config) (*Controller, error) {
	parts, err := c.Complete("nodeipam")
	errs := []error{err}
	if len(c.ClusterCIDRs) == 0 || len(c.ClusterCIDRs) > 2 {
		errs = append(errs, fmt.Errorf("nodeipam: ClusterCIDRs has %d ranges: give one, or one of each IP family", len(c.ClusterCIDRs)))
	}
	if len(c.ClusterCIDRs) == 2 && c.ClusterCIDRs[0].Addr().Is4() == c.ClusterCIDRs[1].Addr().Is4() {
		errs = append(errs, fmt.Errorf("nodeipam: ClusterCIDRs %v are of one IP family: give one of each", c.ClusterCIDRs))
	}
	var ranges []*blocks
	for i, p := range c.ClusterCIDRs {
		bits := 24
		if p.Addr().Is6() {
			bits = 64
		}
		if i < len(c.MaskSizes) && c.MaskSizes[i] != 0 {
			bits = c.MaskSizes[i]
		}
		b, err := newBlocks(p, bits)
		if err != nil {
			errs = append(errs, fmt.Errorf("nodeipam: %w", err))
			continue
		}
		for _, s := range c.ServiceCIDRs {
			if s.Overlaps(p) {
				b.occupy(s, "")
			}
		}
		ranges = append(ranges, b)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	nodes := parts.Informers.Core().V1().Nodes()
	n := &Controller{parts: parts, nodes: nodes.Lister(), ranges: ranges}
	n.Loop = loop.New("nodeipam", parts, n.sync)
	n.On(nodes.Informer(), loop.Each(func(o *v1.Node) { n.Add(o.Name) }))
	return n, nil
}

func prefixes(node *v1.Node) []netip.Prefix {
	cidrs := node.Spec.PodCIDRs
	if len(cidrs) == 0 && node.Spec.PodCIDR != "" {
		cidrs = []string{node.Spec.PodCIDR}
	}
	var out []netip.Prefix
	for _, s := range cidrs {
		if p, err := netip.ParsePrefix(s); err == nil {
			out = append(out, p)
		}
	}
	return out
}

// load notes what all nodes hold before the first allocation; the caller holds
// mu.
func (c *Controller) load() error {
	if c.loaded {
		return nil
	}
	nodes, err := c.nodes.List(labels.Everything())
	if err != nil {
		return err
	}
	for _, n := range nodes {
		c.occupy(n)
	}
	c.loaded = true
	return nil
}

func (c *Controller) occupy(n *v1.Node) {
	for _, p := range prefixes(n) {
		for _, b := range c.ranges {
			if b.prefix.Overlaps(p) {
				b.occupy(p, n.Name)
			}
		}
	}
}

func (c *Controller) sync(ctx context.Context, name string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.load(); err != nil {
		return err
	}
	node, err := c.nodes.Get(name)
	if apierrors.IsNotFound(err) {
		for _, b := range c.ranges {
			b.release(name)
		}
		return nil
	}
	if err != nil {
		return err
	}
	if node.DeletionTimestamp != nil {
		return nil
	}
	if len(prefixes(node)) == 0 {
		// The cache may be from before an earlier allocation, and a second one
		// would be added to it.
		if node, err = c.parts.Client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{}); apierrors.IsNotFound(err) {
			return nil // its deletion is still to be seen
		} else if err != nil {
			return fmt.Errorf("nodeipam: node %s: %w", name, err)
		}
	}
	if len(prefixes(node)) > 0 {
		c.occupy(node)
		return nil
	}
	var given []string
	for _, b := range c.ranges {
		b.release(name) // of an attempt whose outcome is unknown
		p, err := b.take(name)
		if err != nil {
			c.parts.Events.Eventf(&v1.ObjectReference{Kind: "Node", APIVersion: "v1", Name: name, UID: node.UID}, v1.EventTypeNormal,
				"CIDRNotAvailable", "Node %s status is now: CIDRNotAvailable", name)
			return fmt.Errorf("nodeipam: node %s: cluster CIDR %s: %w", name, b.prefix, err)
		}
		given = append(given, p.String())
	}
	if err := nodehelpers.PatchNodeCIDRs(ctx, c.parts.Client, types.NodeName(name), given); err != nil {
		event := &v1.ObjectReference{Kind: "Node", APIVersion: "v1", Name: name, UID: node.UID}
		c.parts.Events.Eventf(event, v1.EventTypeNormal, "CIDRAssignmentFailed", "Node %s status is now: CIDRAssignmentFailed", name)
		return fmt.Errorf("nodeipam: node %s: %w", name, err)
	}
	return nil
}
