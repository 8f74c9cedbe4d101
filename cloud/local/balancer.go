package local

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	cloudprovider "k8s.io/cloud-provider"
	servicecontroller "k8s.io/cloud-provider/controllers/service"
	"k8s.io/cloud-provider/service/helpers"
	"k8s.io/klog/v2"
	"k8s.io/utils/ptr"
)

// GetLoadBalancer tells what the Service holds.
func (p *Provider) GetLoadBalancer(_ context.Context, _ string, s *v1.Service) (*v1.LoadBalancerStatus, bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c, ok := p.granted[s.UID]; ok {
		return status(c.addrs), true, nil
	}
	return s.Status.LoadBalancer.DeepCopy(), len(s.Status.LoadBalancer.Ingress) > 0, nil
}

// GetLoadBalancerName is the usual one.
func (*Provider) GetLoadBalancerName(_ context.Context, _ string, s *v1.Service) string {
	return cloudprovider.DefaultLoadBalancerName(s)
}

// EnsureLoadBalancer gives the Service its addresses.
func (p *Provider) EnsureLoadBalancer(_ context.Context, _ string, s *v1.Service, nodes []*v1.Node) (*v1.LoadBalancerStatus, error) {
	return p.assign(s, p.newest(nodes))
}

// UpdateLoadBalancer follows the set of nodes. The service controller does not
// write the status after it.
func (p *Provider) UpdateLoadBalancer(_ context.Context, _ string, s *v1.Service, nodes []*v1.Node) error {
	// The controller's copy may be older than the addresses that it got.
	current, err := p.services.Services(s.Namespace).Get(s.Name)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	return p.follow(current, nodes)
}

// follow writes the addresses that a Service has with the nodes. One writes at a
// time, and with the nodes as they are then: what was read first must not be
// written last.
func (p *Provider) follow(s *v1.Service, nodes []*v1.Node) error {
	p.writing.Lock()
	defer p.writing.Unlock()
	want, err := p.assign(s, p.newest(nodes))
	if err != nil {
		return err
	}
	return p.publish(s, want)
}

// newest are the nodes as the cache has them.
func (p *Provider) newest(nodes []*v1.Node) []*v1.Node {
	out := slices.Clone(nodes)
	for i, n := range out {
		if now, err := p.nodes.Get(n.Name); err == nil {
			out[i] = now
		}
	}
	return out
}

// EnsureLoadBalancerDeleted gives the addresses back.
func (p *Provider) EnsureLoadBalancerDeleted(_ context.Context, _ string, s *v1.Service) error {
	p.writing.Lock()
	defer p.writing.Unlock()
	delete(p.written, s.UID)
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.granted, s.UID)
	return nil
}

func (p *Provider) assign(s *v1.Service, nodes []*v1.Node) (*v1.LoadBalancerStatus, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	others, err := p.claims(s)
	if err != nil {
		return nil, err
	}
	r := newRequest(s)
	if c, ok := p.granted[s.UID]; ok {
		r.addrs = c.addrs
	}
	if len(p.cfg.Pool) > 0 {
		r.addrs, err = fromPool(r, others, p.cfg.Pool)
	} else {
		if len(nodes) == 0 {
			// A cluster of control planes alone keeps them from load balancers;
			// here it is they or nobody.
			if nodes, err = p.nodes.List(labels.Everything()); err != nil {
				return nil, err
			}
		}
		r.addrs, err = fromNodes(r, others, nodes, p.cfg.ReservedPorts)
	}
	if err != nil {
		return nil, err
	}
	p.granted[s.UID] = r.claim
	return status(r.addrs), nil
}

// claims are those of all Services but one. The caller holds mu.
func (p *Provider) claims(but *v1.Service) ([]claim, error) {
	all, err := p.services.List(labels.Everything())
	if err != nil {
		return nil, err
	}
	var out []claim
	there := map[types.UID]bool{but.UID: true}
	for _, s := range all {
		there[s.UID] = true
		if s.UID == but.UID || !helpers.HasLBFinalizer(s) && !wants(s) {
			continue
		}
		c := claimOf(s)
		if g, ok := p.granted[s.UID]; ok {
			c.addrs = g.addrs
		}
		out = append(out, c)
	}
	for uid := range p.granted {
		if !there[uid] {
			delete(p.granted, uid)
		}
	}
	return out, nil
}

// wants tells whether the Service is this provider's.
func wants(s *v1.Service) bool {
	return s.Spec.Type == v1.ServiceTypeLoadBalancer && s.Spec.LoadBalancerClass == nil && s.DeletionTimestamp == nil
}

// refresh gives every load balancer the addresses that the nodes have now.
func (p *Provider) refresh(ctx context.Context) {
	if len(p.cfg.Pool) > 0 {
		return
	}
	services, err := p.services.List(labels.Everything())
	if err != nil {
		klog.FromContext(ctx).Error(err, "Services could not be listed")
		return
	}
	all, err := p.nodes.List(labels.Everything())
	if err != nil {
		klog.FromContext(ctx).Error(err, "Nodes could not be listed")
		return
	}
	var nodes []*v1.Node
	for _, n := range all {
		if balances(n) {
			nodes = append(nodes, n)
		}
	}
	for _, s := range services {
		// One without addresses waits for the service controller.
		if !wants(s) || len(s.Status.LoadBalancer.Ingress) == 0 {
			continue
		}
		if err := p.follow(s, nodes); err != nil && ctx.Err() == nil {
			klog.FromContext(ctx).Error(err, "Load balancer does not follow the nodes' addresses", "service", klog.KObj(s))
		}
	}
}

// balances is the service controller's choice of nodes.
func balances(n *v1.Node) bool {
	if text, ok := n.Labels[v1.LabelNodeExcludeBalancers]; ok {
		if excluded, err := strconv.ParseBool(text); err != nil || excluded {
			return false
		}
	}
	leaving := slices.ContainsFunc(n.Spec.Taints, func(t v1.Taint) bool { return t.Key == servicecontroller.ToBeDeletedTaint })
	return n.DeletionTimestamp == nil && !leaving
}

// publish writes a Service's addresses, unless they are there. The caller holds
// writing.
func (p *Provider) publish(s *v1.Service, want *v1.LoadBalancerStatus) error {
	before := s.DeepCopy()
	if w, ok := p.written[s.UID]; ok {
		before.Status.LoadBalancer = *w.DeepCopy() // the cache may not have it yet
	}
	if helpers.LoadBalancerStatusEqual(&before.Status.LoadBalancer, want) && helpers.LoadBalancerStatusEqual(&s.Status.LoadBalancer, want) {
		return nil
	}
	if helpers.LoadBalancerStatusEqual(&before.Status.LoadBalancer, want) {
		before.Status.LoadBalancer = *s.Status.LoadBalancer.DeepCopy()
	}
	next := before.DeepCopy()
	next.Status.LoadBalancer = *want
	if _, err := helpers.PatchService(p.client.CoreV1(), before, next); err != nil {
		return fmt.Errorf("write the addresses of Service %s/%s: %w", s.Namespace, s.Name, err)
	}
	p.written[s.UID] = want.DeepCopy()
	return nil
}

func status(addrs []netip.Addr) *v1.LoadBalancerStatus {
	out := &v1.LoadBalancerStatus{}
	for _, a := range addrs {
		out.Ingress = append(out.Ingress, v1.LoadBalancerIngress{IP: a.String(), IPMode: ptr.To(v1.LoadBalancerIPModeVIP)})
	}
	return out
}
