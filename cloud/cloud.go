// Package cloud is the cloud controller manager: it initialises nodes, removes
// those whose machine is gone, and gives Services of type LoadBalancer their
// addresses, through the controllers of k8s.io/cloud-provider.
//
// New validates; Run blocks until its context ends, and may be called again
// after it, as an election does. The built-in provider is in cloud/local.
package cloud

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	cloudprovider "k8s.io/cloud-provider"
	"k8s.io/cloud-provider/controllers/node"
	"k8s.io/cloud-provider/controllers/nodelifecycle"
	"k8s.io/cloud-provider/controllers/service"
	"k8s.io/cloud-provider/names"
	"k8s.io/component-base/featuregate"
	"k8s.io/component-base/metrics/prometheus/controllers"

	"skiff/cloud/local"
)

// Config is what the manager needs.
type Config struct {
	// Client speaks to the API as the manager. Required.
	Client kubernetes.Interface
	// ProviderName picks a built-in provider; default, and the only one: local.
	ProviderName string
	// Local configures the provider local.
	Local local.Config
	// Provider, when set, is used instead of a built-in one. Its Initialize is not
	// called; it is given informers when it is a cloudprovider.InformerUser, and
	// is run beside the controllers when it is a Runner.
	Provider cloudprovider.Interface
	// Controllers picks by name as the manager's flag does: "*" for all, "name"
	// and "-name". Default: "*".
	Controllers []string
	// ClusterName is given to the provider; default kubernetes.
	ClusterName string
	// NodeStatusUpdateFrequency is how often addresses are read again (default
	// 5 min), NodeMonitorPeriod how often silent nodes are looked at (default 5 s).
	NodeStatusUpdateFrequency, NodeMonitorPeriod time.Duration
	// ConcurrentServiceSyncs is how many Services are handled at once; default 1.
	ConcurrentServiceSyncs int
}

// Runner is a provider with work of its own: Run blocks until ctx ends.
type Runner interface {
	Run(ctx context.Context) error
}

// Manager runs the cloud controllers.
type Manager struct{ cfg Config }

// New checks the configuration.
func New(cfg Config) (*Manager, error) {
	var errs []error
	if cfg.Client == nil {
		errs = append(errs, errors.New("cloud: Client is nil: give the API client"))
	}
	if cfg.Provider == nil {
		switch cfg.ProviderName {
		case "", local.Name:
			if err := cfg.Local.Validate(); err != nil {
				errs = append(errs, fmt.Errorf("cloud: %w", err))
			}
		default:
			errs = append(errs, fmt.Errorf("cloud: provider %q is not known: want %s", cfg.ProviderName, local.Name))
		}
	}
	if len(cfg.Controllers) == 0 {
		cfg.Controllers = []string{"*"}
	}
	for _, name := range cfg.Controllers {
		if bare := strings.TrimPrefix(name, "-"); bare != "*" && !slices.Contains(known(), canonical(bare)) {
			errs = append(errs, fmt.Errorf("cloud: controller %q is not known: want one of %s", bare, strings.Join(known(), ", ")))
		}
	}
	if cfg.ClusterName == "" {
		cfg.ClusterName = "kubernetes"
	}
	if cfg.NodeStatusUpdateFrequency == 0 {
		cfg.NodeStatusUpdateFrequency = 5 * time.Minute
	}
	if cfg.NodeMonitorPeriod == 0 {
		cfg.NodeMonitorPeriod = 5 * time.Second
	}
	if cfg.ConcurrentServiceSyncs == 0 {
		cfg.ConcurrentServiceSyncs = 1
	}
	if cfg.ConcurrentServiceSyncs < 0 {
		errs = append(errs, fmt.Errorf("cloud: ConcurrentServiceSyncs is %d: give a positive number", cfg.ConcurrentServiceSyncs))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return &Manager{cfg: cfg}, nil
}

func known() []string {
	return []string{names.CloudNodeController, names.CloudNodeLifecycleController, names.ServiceLBController}
}

// canonical turns the shorter name of older flags into today's.
func canonical(name string) string {
	if full, ok := names.CCMControllerAliases()[name]; ok {
		return full
	}
	return name
}

// chosen follows the flag's rules: a name counts more than the star.
func (m *Manager) chosen(name string) bool {
	star := false
	for _, c := range m.cfg.Controllers {
		switch {
		case c == "*":
			star = true
		case canonical(c) == name:
			return true
		case strings.HasPrefix(c, "-") && canonical(c[1:]) == name:
			return false
		}
	}
	return star
}

// Run runs the controllers until ctx ends or one cannot start.
func (m *Manager) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	factory := informers.NewSharedInformerFactory(m.cfg.Client, 0)
	provider := m.cfg.Provider
	if provider == nil {
		provider = local.New(m.cfg.Client, m.cfg.Local)
	}
	if user, ok := provider.(cloudprovider.InformerUser); ok {
		user.SetInformers(factory)
	}
	// The controllers of the library can run only once, so each Run makes them.
	runs, err := m.controllers(provider, factory)
	if err != nil {
		return err
	}
	nodes, services := factory.Core().V1().Nodes().Informer(), factory.Core().V1().Services().Informer()
	factory.StartWithContext(ctx)
	defer factory.Shutdown()
	defer cancel()
	// One controller reads its lister without waiting for it to fill, and would
	// take an empty one for a cluster without nodes.
	if !cache.WaitForCacheSync(ctx.Done(), nodes.HasSynced, services.HasSynced) {
		return nil
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	var failed error
	if runner, ok := provider.(Runner); ok {
		wg.Go(func() {
			failed = runner.Run(ctx)
			cancel()
		})
	}
	for _, run := range runs {
		wg.Go(func() { run(ctx) })
	}
	wg.Wait()
	return failed
}

// controllers makes the chosen ones. A provider without load balancers or
// instances goes without their controllers.
func (m *Manager) controllers(provider cloudprovider.Interface, factory informers.SharedInformerFactory) ([]func(context.Context), error) {
	metrics := controllers.NewControllerManagerMetrics("cloud-controller-manager")
	nodes := factory.Core().V1().Nodes()
	_, v1 := provider.Instances()
	_, v2 := provider.InstancesV2()
	instances := v1 || v2
	_, balances := provider.LoadBalancer()
	var runs []func(context.Context)
	if instances && m.chosen(names.CloudNodeController) {
		c, err := node.NewCloudNodeController(nodes, m.cfg.Client, provider, m.cfg.NodeStatusUpdateFrequency, 1, 1)
		if err != nil {
			return nil, fmt.Errorf("cloud: %s: %w", names.CloudNodeController, err)
		}
		runs = append(runs, func(ctx context.Context) { c.RunWithContext(ctx, metrics) })
	}
	if instances && m.chosen(names.CloudNodeLifecycleController) {
		c, err := nodelifecycle.NewCloudNodeLifecycleController(nodes, m.cfg.Client, provider, m.cfg.NodeMonitorPeriod, 1)
		if err != nil {
			return nil, fmt.Errorf("cloud: %s: %w", names.CloudNodeLifecycleController, err)
		}
		runs = append(runs, func(ctx context.Context) { c.Run(ctx, metrics) })
	}
	if balances && m.chosen(names.ServiceLBController) {
		c, err := service.New(provider, m.cfg.Client, factory.Core().V1().Services(), nodes, m.cfg.ClusterName, featuregate.NewFeatureGate())
		if err != nil {
			return nil, fmt.Errorf("cloud: %s: %w", names.ServiceLBController, err)
		}
		runs = append(runs, func(ctx context.Context) { c.Run(ctx, m.cfg.ConcurrentServiceSyncs, metrics) })
	}
	return runs, nil
}
