package dns

import (
	"context"
	"fmt"
	"strconv"
	"sync"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	// Each of these registers its directive.
	_ "github.com/coredns/coredns/plugin/any"
	_ "github.com/coredns/coredns/plugin/autopath"
	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/bufsize"
	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/cancel"
	_ "github.com/coredns/coredns/plugin/chaos"
	_ "github.com/coredns/coredns/plugin/debug"
	_ "github.com/coredns/coredns/plugin/dns64"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/file"
	_ "github.com/coredns/coredns/plugin/forward"
	_ "github.com/coredns/coredns/plugin/header"
	_ "github.com/coredns/coredns/plugin/health"
	_ "github.com/coredns/coredns/plugin/hosts"
	_ "github.com/coredns/coredns/plugin/k8s_external"
	_ "github.com/coredns/coredns/plugin/loadbalance"
	_ "github.com/coredns/coredns/plugin/local"
	_ "github.com/coredns/coredns/plugin/log"
	_ "github.com/coredns/coredns/plugin/metadata"
	_ "github.com/coredns/coredns/plugin/metrics"
	_ "github.com/coredns/coredns/plugin/minimal"
	_ "github.com/coredns/coredns/plugin/nsid"
	_ "github.com/coredns/coredns/plugin/ready"
	_ "github.com/coredns/coredns/plugin/rewrite"
	_ "github.com/coredns/coredns/plugin/root"
	_ "github.com/coredns/coredns/plugin/timeouts"
	_ "github.com/coredns/coredns/plugin/transfer"
	_ "github.com/coredns/coredns/plugin/whoami"
)

// directive is our name for the kubernetes plugin with our client behind it.
const directive = "skiff_kubernetes"

// clients maps the id in a Corefile to the client that its server was given:
// CoreDNS starts servers from text alone, and its registry is the process's.
type clients struct {
	once sync.Once
	err  error

	mu   sync.Mutex
	next int
	byID map[string]entry
}

type entry struct {
	ctx context.Context
	cfg *rest.Config
}

// registry is the one place where CoreDNS's process-wide tables are touched.
var registry = &clients{byID: map[string]entry{}}

// register makes cfg known under an id until release.
func register(ctx context.Context, cfg *rest.Config) (release func(), id string, err error) {
	registry.once.Do(func() {
		plugin.Register(directive, setup)
		// The order of plugins is upstream's: it is the order of a query's way.
		registry.err = dnsserver.SetDirectives([]string{
			"root", "metadata", "cancel", "timeouts", "nsid", "bufsize", "bind", "debug", "ready", "health", "prometheus", "errors", "log",
			"local", "dns64", "any", "chaos", "loadbalance", "rewrite", "autopath", "cache", "header", "minimal", "transfer", "hosts", "k8s_external",
			directive, "file", "forward", "whoami",
		})
		caddy.Quiet = true
		dnsserver.Quiet = true
	})
	if registry.err != nil {
		return nil, "", fmt.Errorf("dns: %w", registry.err)
	}
	registry.mu.Lock()
	defer registry.mu.Unlock()
	registry.next++
	id = strconv.Itoa(registry.next)
	registry.byID[id] = entry{ctx, cfg}
	return func() {
		registry.mu.Lock()
		defer registry.mu.Unlock()
		delete(registry.byID, id)
	}, id, nil
}

// setup is called by CoreDNS for each Corefile with our directive.
func setup(c *caddy.Controller) error {
	c.Next()
	if !c.NextArg() {
		return plugin.Error(directive, c.ArgErr())
	}
	registry.mu.Lock()
	e, ok := registry.byID[c.Val()]
	registry.mu.Unlock()
	if !ok {
		return plugin.Error(directive, fmt.Errorf("no client is registered under %q", c.Val()))
	}
	k, err := kubernetes.ParseStanza(c)
	if err != nil {
		return plugin.Error(directive, err)
	}
	k.ClientConfig = fixedConfig{e.cfg}
	onStart, onShut, err := k.InitKubeCache(e.ctx)
	if err != nil {
		return plugin.Error(directive, err)
	}
	if onStart != nil {
		c.OnStartup(onStart)
	}
	if onShut != nil {
		c.OnShutdown(onShut)
	}
	dnsserver.GetConfig(c).AddPlugin(func(next plugin.Handler) plugin.Handler {
		k.Next = next
		return k
	})
	return nil
}

// fixedConfig gives the plugin a client configuration that is no file.
type fixedConfig struct{ cfg *rest.Config }

func (f fixedConfig) ClientConfig() (*rest.Config, error) { return rest.CopyConfig(f.cfg), nil }
func (f fixedConfig) RawConfig() (clientcmdapi.Config, error) {
	return clientcmdapi.Config{}, nil
}
func (f fixedConfig) Namespace() (string, bool, error)     { return "default", false, nil }
func (f fixedConfig) ConfigAccess() clientcmd.ConfigAccess { return nil }
