// Package servicecidr keeps ServiceCIDRs until no Service address needs them.
package servicecidr

import (
	"context"
	"net/netip"
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	netlisters "k8s.io/client-go/listers/networking/v1"

	"skiff/controllers/loop"
)

// Finalizer holds the range.
const Finalizer = "networking.k8s.io/service-cidr-finalizer"

// grace lets API servers learn that a range is going before its addresses are
// counted for the last time.
const grace = 10 * time.Second

// Config is what the controller needs.
type Config struct {
	loop.Parts
}

// Controller keeps the ranges' finalizer and Ready condition.
type Controller struct {
	*loop.Loop
	parts loop.Parts
	cidrs netlisters.ServiceCIDRLister
	ips   netlisters.IPAddressLister
}

// New checks the configuration and makes the controller.
func New(c Config) (*Controller, error) {
	parts, err := c.Complete("service-cidr")
	if err != nil {
		return nil, err
	}
	group := parts.Informers.Networking().V1()
	s := &Controller{parts: parts, cidrs: group.ServiceCIDRs().Lister(), ips: group.IPAddresses().Lister()}
	s.Loop = loop.New("service-cidr", parts, s.sync)
	all := func() {
		list, err := s.cidrs.List(labels.Everything())
		if err != nil {
			return
		}
		for _, o := range list {
			s.Add(o.Name)
		}
	}
	// Ranges can cover each other, so each change concerns all of them.
	s.On(group.ServiceCIDRs().Informer(), loop.Each(func(*networking.ServiceCIDR) { all() }))
	s.On(group.IPAddresses().Informer(), loop.Handlers(nil, nil, func(*networking.IPAddress) { all() }))
	return s, nil
}

func prefixes(c *networking.ServiceCIDR) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range c.Spec.CIDRs {
		if p, err := netip.ParsePrefix(s); err == nil {
			out = append(out, p.Masked())
		}
	}
	return out
}

// Free says whether the range can go: every address in it lies in another one
// that stays.
func Free(c *networking.ServiceCIDR, others []*networking.ServiceCIDR, ips []*networking.IPAddress) bool {
	in := func(c *networking.ServiceCIDR, a netip.Addr) bool {
		return slices.ContainsFunc(prefixes(c), func(p netip.Prefix) bool { return p.Contains(a) })
	}
	for _, ip := range ips {
		a, err := netip.ParseAddr(ip.Name)
		if err != nil || !in(c, a) {
			continue
		}
		covered := slices.ContainsFunc(others, func(o *networking.ServiceCIDR) bool {
			return o.Name != c.Name && o.DeletionTimestamp == nil && in(o, a)
		})
		if !covered {
			return false
		}
	}
	return true
}

func (c *Controller) sync(ctx context.Context, name string) error {
	cidr, err := c.cidrs.Get(name)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	client := c.parts.Client.NetworkingV1().ServiceCIDRs()
	if cidr.DeletionTimestamp == nil {
		next := cidr.DeepCopy()
		if !slices.Contains(cidr.Finalizers, Finalizer) {
			next.Finalizers = append(next.Finalizers, Finalizer)
			if next, err = client.Update(ctx, next, metav1.UpdateOptions{}); err != nil {
				return err
			}
		}
		return c.ready(ctx, next, metav1.ConditionTrue, "", "Kubernetes Service CIDR is ready")
	}
	if !slices.Contains(cidr.Finalizers, Finalizer) {
		return nil
	}
	all, err := c.cidrs.List(labels.Everything())
	if err != nil {
		return err
	}
	ips, err := c.ips.List(labels.Everything())
	if err != nil {
		return err
	}
	if !Free(cidr, all, ips) {
		return c.ready(ctx, cidr, metav1.ConditionFalse, networking.ServiceCIDRReasonTerminating,
			"There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR")
	}
	if left := cidr.DeletionTimestamp.Add(grace).Sub(c.parts.Clock.Now()); left > 0 {
		c.AddAfter(name, left)
		return nil
	}
	next := cidr.DeepCopy()
	next.Finalizers = slices.DeleteFunc(next.Finalizers, func(f string) bool { return f == Finalizer })
	_, err = client.Update(ctx, next, metav1.UpdateOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

func (c *Controller) ready(ctx context.Context, cidr *networking.ServiceCIDR, status metav1.ConditionStatus, reason, message string) error {
	next := cidr.DeepCopy()
	if reason == "" {
		reason = "Ready"
	}
	apimeta.SetStatusCondition(&next.Status.Conditions, metav1.Condition{
		Type: networking.ServiceCIDRConditionReady, Status: status, Reason: reason, Message: message,
	})
	if equality.Semantic.DeepEqual(cidr.Status, next.Status) {
		return nil
	}
	_, err := c.parts.Client.NetworkingV1().ServiceCIDRs().UpdateStatus(ctx, next, metav1.UpdateOptions{})
	if err == nil && status == metav1.ConditionFalse {
		c.parts.Events.Event(cidr, v1.EventTypeWarning, reason, message)
	}
	return err
}
