// Package local is the cloud of machines that no cloud looks after. A node is
// what it says it is; a Service of type LoadBalancer gets the nodes' own
// addresses, or one of a pool that somebody routes to the nodes. The service
// proxy of each node answers on them.
package local

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	cloudprovider "k8s.io/cloud-provider"
)

// Name is the provider's, and the scheme of its provider IDs.
const Name = "local"

// Config shapes the provider. The zero value is useful.
type Config struct {
	// Pool are the addresses of load balancers. Empty: those of the nodes.
	Pool []Range
	// ReservedPorts are those that no load balancer may take from the nodes, as a
	// Service on the port of the API server would cut the cluster off; nil: ssh
	// and the ports of the cluster's own parts. A pool has no such limit.
	ReservedPorts []int32
	// Region and Zone are where the nodes are; Zones says it node by node. What
	// a node's labels already say stays.
	Region, Zone string
	Zones        map[string]string
}

// Validate tells what is wrong with the configuration.
func (c Config) Validate() error {
	var errs []error
	for _, r := range c.Pool {
		if err := r.valid(); err != nil {
			errs = append(errs, err)
		}
	}
	for _, p := range c.ReservedPorts {
		if p < 1 || p > 65535 {
			errs = append(errs, fmt.Errorf("reserved port %d: want 1 to 65535", p))
		}
	}
	return errors.Join(errs...)
}

// reserved are ssh, etcd, the API server, the kubelet, the proxy's health, the
// controllers, the scheduler and the cluster's DNS with its metrics.
func reserved() []int32 {
	return []int32{22, 2379, 2380, 6443, 10250, 10256, 10257, 10259, 10053, 9153}
}

// Provider is the local cloud.
type Provider struct {
	cfg    Config
	client kubernetes.Interface

	services     corelisters.ServiceLister
	nodes        corelisters.NodeLister
	nodeInformer cache.SharedIndexInformer

	// mu makes assignments one by one, and guards granted: those that the
	// listers may not show yet.
	mu      sync.Mutex
	granted map[types.UID]claim

	// writing makes writes one by one, and guards written: the addresses that
	// Services were given last. It is taken before mu.
	writing sync.Mutex
	written map[types.UID]*v1.LoadBalancerStatus
}

var (
	_ cloudprovider.Interface    = (*Provider)(nil)
	_ cloudprovider.InformerUser = (*Provider)(nil)
)

// New makes the provider. SetInformers comes before all else.
func New(client kubernetes.Interface, cfg Config) *Provider {
	if cfg.ReservedPorts == nil {
		cfg.ReservedPorts = reserved()
	}
	return &Provider{cfg: cfg, client: client, granted: map[types.UID]claim{}, written: map[types.UID]*v1.LoadBalancerStatus{}}
}

// SetInformers takes the listers of Services and Nodes.
func (p *Provider) SetInformers(f informers.SharedInformerFactory) {
	p.services, p.nodes = f.Core().V1().Services().Lister(), f.Core().V1().Nodes().Lister()
	p.nodeInformer = f.Core().V1().Nodes().Informer()
}

// Initialize has nothing to do.
func (*Provider) Initialize(cloudprovider.ControllerClientBuilder, <-chan struct{}) {}

// ProviderName is local.
func (*Provider) ProviderName() string { return Name }

// HasClusterID is true: several clusters do not meet.
func (*Provider) HasClusterID() bool { return true }

// LoadBalancer is supported.
func (p *Provider) LoadBalancer() (cloudprovider.LoadBalancer, bool) { return p, true }

// InstancesV2 is supported.
func (p *Provider) InstancesV2() (cloudprovider.InstancesV2, bool) { return p, true }

// Instances is the older form, which is not supported.
func (*Provider) Instances() (cloudprovider.Instances, bool) { return nil, false }

// Zones is part of InstancesV2.
func (*Provider) Zones() (cloudprovider.Zones, bool) { return nil, false }

// Clusters is not supported.
func (*Provider) Clusters() (cloudprovider.Clusters, bool) { return nil, false }

// Routes are the pod network's.
func (*Provider) Routes() (cloudprovider.Routes, bool) { return nil, false }

// Run keeps load balancers on the nodes' addresses when those change: the
// service controller looks only at which nodes there are.
func (p *Provider) Run(ctx context.Context) error {
	wake := make(chan struct{}, 1)
	look := func() {
		select {
		case wake <- struct{}{}:
		default:
		}
	}
	registration, err := p.nodeInformer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(any) { look() },
		UpdateFunc: func(old, obj any) {
			a, ok := old.(*v1.Node)
			b, ok2 := obj.(*v1.Node)
			if ok && ok2 && !slices.Equal(a.Status.Addresses, b.Status.Addresses) {
				look()
			}
		},
		DeleteFunc: func(any) { look() },
	})
	if err != nil {
		return fmt.Errorf("watch nodes: %w", err)
	}
	defer p.nodeInformer.RemoveEventHandler(registration)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-wake:
			p.refresh(ctx)
		}
	}
}
