// Package dns is the cluster's DNS server: CoreDNS as a library, with its
// kubernetes plugin fed by our client, one on every node. A node's pods resolve
// names from their own node, also while the control plane is away.
//
// New validates, Run serves until its context ends. The Corefile in the ConfigMap
// kube-system/coredns is followed live; one that cannot be used leaves the running
// one in place and is reported. Without one the default is served.
package dns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"

	"github.com/coredns/caddy"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

// The ConfigMap that may hold a Corefile, as upstream's.
const (
	configNamespace = metav1.NamespaceSystem
	configName      = "coredns"
	configKey       = "Corefile"
)

// DefaultPort is where the server listens on the node's address. The Service
// kube-dns leads port 53 of its cluster IP here, so that nothing on the node's
// own port 53 is in the way.
const DefaultPort = 10053

// Config is what the server needs.
type Config struct {
	// Client configures the clients. The objects that they hand out must be
	// private copies: CoreDNS empties them.
	Client *rest.Config
	// Domain is the cluster's; default cluster.local.
	Domain string
	// Addresses to listen on. Required.
	Addresses []netip.Addr
	// Port of queries over UDP and TCP; default DefaultPort.
	Port int
	// MetricsPort of Prometheus metrics on the first address; default 9153, -1 for
	// none. A port that is taken is no error: the server then has no metrics.
	MetricsPort int
	// ResolvConf names the upstream servers; default /etc/resolv.conf.
	ResolvConf string
	Log        *slog.Logger
}

func (c Config) complete() (Config, error) {
	var errs []error
	if c.Client == nil {
		errs = append(errs, errors.New("dns: Client is nil: give the API's client configuration"))
	}
	if len(c.Addresses) == 0 {
		errs = append(errs, errors.New("dns: Addresses is empty: give the node's address"))
	}
	if c.Domain == "" {
		c.Domain = "cluster.local"
	}
	if c.Port == 0 {
		c.Port = DefaultPort
	}
	if c.MetricsPort == 0 {
		c.MetricsPort = 9153
	}
	if c.ResolvConf == "" {
		c.ResolvConf = "/etc/resolv.conf"
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	return c, errors.Join(errs...)
}

// Server answers DNS queries.
type Server struct {
	cfg   Config
	ready chan struct{}

	mu       sync.Mutex
	instance *caddy.Instance
	corefile string
}

// New checks the configuration.
func New(cfg Config) (*Server, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, err
	}
	return &Server{cfg: cfg, ready: make(chan struct{})}, nil
}

// Ready is closed once queries are answered.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// Run serves until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	release, id, err := register(ctx, s.cfg.Client)
	if err != nil {
		return err
	}
	defer release()
	client, err := kubernetes.NewForConfig(s.cfg.Client)
	if err != nil {
		return fmt.Errorf("dns: %w", err)
	}
	s.checkMetrics()
	if err := s.serve(id, ""); err != nil {
		return err
	}
	close(s.ready)
	defer s.stop()
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithNamespace(configNamespace),
		informers.WithTweakListOptions(func(o *metav1.ListOptions) {
			o.FieldSelector = fields.OneTermEqualSelector("metadata.name", configName).String()
		}))
	follow := func(obj any) {
		cm, ok := obj.(*corev1.ConfigMap)
		if !ok || cm.Name != configName {
			return
		}
		if err := s.serve(id, cm.Data[configKey]); err != nil {
			s.cfg.Log.Error("the Corefile cannot be used; the one before stays", "configmap", configNamespace+"/"+configName, "err", err)
		}
	}
	informer := factory.Core().V1().ConfigMaps().Informer()
	if _, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    follow,
		UpdateFunc: func(_, obj any) { follow(obj) },
		DeleteFunc: func(any) {
			if err := s.serve(id, ""); err != nil {
				s.cfg.Log.Error("the default Corefile cannot be used", "err", err)
			}
		},
	}); err != nil {
		return fmt.Errorf("dns: %w", err)
	}
	informer.RunWithContext(ctx)
	return nil
}

// checkMetrics does without metrics where their port is taken: names matter more.
func (s *Server) checkMetrics() {
	if s.cfg.MetricsPort < 0 {
		return
	}
	l, err := net.Listen("tcp", net.JoinHostPort(s.cfg.Addresses[0].String(), fmt.Sprint(s.cfg.MetricsPort)))
	if err == nil {
		err = l.Close()
	}
	if err != nil {
		s.cfg.Log.Warn("the DNS server has no metrics: their port cannot be used", "err", err)
		s.cfg.MetricsPort = -1
	}
}

// serve starts, or goes over to, a Corefile; empty is the default one.
func (s *Server) serve(id, given string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if given == "" {
		given = Corefile(s.cfg.Domain)
	}
	text := adapt(given, id, s.cfg, upstreams(s.cfg))
	if s.instance != nil && text == s.corefile {
		return nil
	}
	input := caddy.CaddyfileInput{Contents: []byte(text), Filepath: configKey, ServerTypeName: "dns"}
	var next *caddy.Instance
	var err error
	if s.instance == nil {
		next, err = caddy.Start(input)
	} else {
		next, err = s.instance.Restart(input)
	}
	if err != nil {
		return fmt.Errorf("dns: %w", err)
	}
	s.instance, s.corefile = next, text
	return nil
}

func (s *Server) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.instance == nil {
		return
	}
	for _, err := range s.instance.ShutdownCallbacks() {
		s.cfg.Log.Warn("dns: shutdown", "err", err)
	}
	if err := s.instance.Stop(); err != nil {
		s.cfg.Log.Warn("dns: stop", "err", err)
	}
	s.instance.Wait()
}

// Endpoint is the address of queries on the first address.
func (s *Server) Endpoint() string {
	return net.JoinHostPort(s.cfg.Addresses[0].String(), fmt.Sprint(s.cfg.Port))
}
