package apiserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/ptr"

	"skiff/apiserver/admission"
	"skiff/apiserver/audit"
	"skiff/apiserver/authn"
	"skiff/apiserver/authz"
	"skiff/apiserver/authz/adminaccess"
	"skiff/apiserver/authz/claimstatus"
	"skiff/apiserver/authz/escalation"
	"skiff/apiserver/bootstrap"
	"skiff/apiserver/connect"
	"skiff/apiserver/discovery"
	"skiff/apiserver/flowcontrol"
	"skiff/apiserver/handlers"
	"skiff/apiserver/metricsapi"
	"skiff/apiserver/openapi"
	"skiff/apiserver/resources"
	"skiff/apiserver/resources/builtin"
	"skiff/apiserver/serviceaccount"
	"skiff/apiserver/serviceip"
	"skiff/apiserver/store"
	"skiff/apiserver/tracing"
	"skiff/client"
	spans "skiff/cluster/tracing"
	"skiff/cluster/version"
	"skiff/kine"
)

// Server is an API server.
type Server struct {
	cfg       Config
	core      *Core
	feed      *store.Feed
	api       *handlers.API
	discovery *discovery.Discovery
	handler   http.Handler
	authn     *authn.Authenticator
	authz     *authz.Authorizer
	services  *serviceip.Allocator
	flow      *flowcontrol.Controller
	auditor   *audit.Auditor
	auditRuns []func(context.Context) error
	tracing   *tracing.Provider
	dialer    *connect.Dialer
	openapi   *openapi.OpenAPI
	keys      *serviceaccount.Discovery

	extensions extensions

	chain     atomic.Pointer[admission.Chain]
	listener  net.Listener
	listening chan struct{}
	ready     chan struct{}
	checks    *checks
	started   time.Time
}

// New wires a server.
func New(cfg Config) (*Server, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, feed: store.NewFeed(cfg.Store, cfg.Log), ready: make(chan struct{}), listening: make(chan struct{}), checks: newChecks(), started: time.Now()}
	s.chain.Store(&admission.Chain{})
	s.core = &Core{}
	s.core.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) })
	loopback := client.InProcess(s.core.Handler, Loopback(), "kube-apiserver")
	if s.core.Client, err = kubernetes.NewForConfig(loopback); err != nil {
		return nil, fmt.Errorf("apiserver: %w", err)
	}
	s.core.Informers = informers.NewSharedInformerFactory(s.core.Client, 0)
	if s.authz, err = authz.New(authz.Config{
		File: cfg.AuthorizationConfigFile, Modes: cfg.AuthorizationModes, Webhook: cfg.AuthorizationWebhook,
		Informers: s.core.Informers, Decided: s.checks.metrics.access.decided, Webhooks: s.checks.metrics.access, Log: cfg.Log,
	}); err != nil {
		return nil, fmt.Errorf("apiserver: %w", err)
	}
	s.core.Authorizer, s.core.RBAC = s.authz, s.authz.RBAC()
	issuer, err := s.authentication()
	if err != nil {
		return nil, err
	}
	s.dialer = &connect.Dialer{TLS: cfg.KubeletTLS, AddressTypes: cfg.KubeletAddressTypes, Nodes: s.core.Informers.Core().V1().Nodes().Lister(), Client: s.core.Client, Log: cfg.Log}
	connectors := map[resources.Connector]handlers.Connector{}
	s.api, err = handlers.New(handlers.Config{
		Admission:     func() admission.Chain { return *s.chain.Load() },
		Authorizer:    s.core.Authorizer,
		TypeConverter: func() managedfields.TypeConverter { return newBuiltinTypes(s.openapi) },
		Connectors:    connectors, MinRequestTimeout: cfg.MinRequestTimeout, StalledWatch: cfg.StalledClient, Deprecated: s.checks.metrics.deprecate, Watches: s.checks.metrics.watches, Log: cfg.Log,
	})
	if err != nil {
		return nil, err
	}
	s.core.API = s.api
	connect.Register(connectors, connect.Config{
		API: s.api, Authorizer: s.core.Authorizer, Rules: s.core.RBAC, Authenticator: s.authn, Issuer: issuer, Dialer: s.dialer,
		Healthy: s.storeAnswers, Client: s.core.Client, RulesIncomplete: s.authz.RulesIncomplete,
	})
	connectors[metricsapi.Connect] = metricsapi.New(metricsapi.Config{
		Nodes: s.core.Informers.Core().V1().Nodes().Lister(), Pods: s.core.Informers.Core().V1().Pods().Lister(), API: s.api,
		Summary: metricsapi.Fetch(s.dialer.Kubelet, s.dialer.Transport),
	})
	s.discovery = discovery.New(builtin.GroupOrder())
	s.openapi = openapi.New(version.Version)
	if err := s.install(); err != nil {
		return nil, err
	}
	if err := s.extend(loopback); err != nil {
		return nil, err
	}
	if s.services, err = serviceip.New(serviceip.Config{Client: s.core.Client, Store: cfg.Store, Informers: s.core.Informers, CIDRs: cfg.ServiceCIDRs, MinPort: cfg.NodePortMin, MaxPort: cfg.NodePortMax}); err != nil {
		return nil, err
	}
	if err := s.admission(); err != nil {
		return nil, err
	}
	if err := s.traffic(); err != nil {
		return nil, err
	}
	s.checks.metrics.registry.MustRegister(newStoreMetrics(cfg.Store), newObjectMetrics(s.api.Each))
	s.checks.add("etcd", s.storeAnswers)
	s.checks.addReady("etcd-readiness", s.storeWrites)
	if e := cfg.encryption; e != nil {
		s.checks.add("kms-providers", e.Healthy)
	}
	s.handler = s.filters(s.routes())
	return s, nil
}

// traffic makes what watches over requests: flow control, tracing and audit.
func (s *Server) traffic() error {
	var err error
	if on := s.cfg.PriorityAndFairness; on == nil || *on {
		s.flow, err = flowcontrol.New(flowcontrol.Config{
			Total: s.cfg.MaxRequestsInFlight + s.cfg.MaxMutatingInFlight, Objects: s.api.Count, Informers: s.core.Informers, Client: s.core.Client,
			MaxWait: s.cfg.RequestTimeout / 4, Observer: s.checks.metrics.flow,
		})
		if err != nil {
			return err
		}
	}
	if s.cfg.TracingConfigFile != "" {
		c, err := tracing.Load(s.cfg.TracingConfigFile)
		if err != nil {
			return fmt.Errorf("apiserver: %w", err)
		}
		if s.tracing, err = tracing.New(context.Background(), c, s.cfg.AdvertiseAddress.String()); err != nil {
			return fmt.Errorf("apiserver: %w", err)
		}
	}
	if s.cfg.AuditPolicyFile == "" {
		return nil
	}
	policy, err := audit.LoadPolicy(s.cfg.AuditPolicyFile)
	if err != nil {
		return err
	}
	var sinks []audit.Sink
	if s.cfg.AuditLog.Path != "" {
		log, err := audit.NewLog(s.cfg.AuditLog)
		if err != nil {
			return err
		}
		sinks, s.auditRuns = append(sinks, log), append(s.auditRuns, log.Run)
	}
	if s.cfg.AuditWebhook.KubeconfigFile != "" {
		hook, err := audit.NewWebhook(s.cfg.AuditWebhook)
		if err != nil {
			return err
		}
		sinks, s.auditRuns = append(sinks, hook), append(s.auditRuns, hook.Run)
	}
	s.auditor, err = audit.New(audit.Config{Policy: policy, Sinks: sinks, Fail: handlers.WriteError})
	return err
}

// storeAnswers asks the store for its revision.
func (s *Server) storeAnswers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	_, err := s.cfg.Store.Revision(ctx)
	return err
}

// storeWrites tells why writes fail, where the store can answer all the same.
func (s *Server) storeWrites(ctx context.Context) error {
	if err := s.storeAnswers(ctx); err != nil {
		return err
	}
	if p, ok := s.cfg.Store.(kine.Prober); ok {
		return p.Probe(ctx)
	}
	return nil
}

// Handler serves requests: over TLS in Run, in memory for the parts beside it.
func (s *Server) Handler() http.Handler { return s.core.Handler }

// Ready is closed once the caches are full and the objects of a fresh cluster exist.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// Listening is closed once the port is open; Addr is valid then.
func (s *Server) Listening() <-chan struct{} { return s.listening }

// Addr is where the server listens.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Core is what parts of the server in other packages share.
func (s *Server) Core() *Core { return s.core }

// install serves every built-in resource whose version is switched on.
func (s *Server) install() error {
	all := append(builtin.Resources(), metricsapi.Resources()...)
	stores := map[schema.GroupResource]*store.Store{}
	var served []discovery.Served
	for i := range all {
		r := &all[i]
		versions := s.versionsOn(r)
		if len(versions) == 0 {
			continue
		}
		var st *store.Store
		if r.Virtual == "" {
			if st = stores[r.SharesStoreWith]; st == nil || r.SharesStoreWith.Empty() {
				c := store.Config{Kine: s.cfg.Store, Feed: s.feed, Resource: r}
				if s.cfg.Transformer != nil {
					c.Transformer = s.cfg.Transformer(r.Group, r.Plural)
				}
				if r.Kind == "Event" {
					c.TTL = int64(s.cfg.EventTTL / time.Second)
				}
				var err error
				if st, err = store.New(c); err != nil {
					return fmt.Errorf("apiserver: %w", err)
				}
				stores[r.GroupResource()] = st
			}
		}
		if err := s.api.Install(r, st); err != nil {
			return fmt.Errorf("apiserver: %w", err)
		}
		served = append(served, discovery.Served{Resource: r, Versions: versions})
	}
	s.extensions.builtin = served
	described := make([]openapi.Served, len(served))
	for i, d := range served {
		described[i] = openapi.Served(d)
	}
	s.openapi.Set(described)
	return nil
}

// versionsOn are the versions of a resource that are switched on.
func (s *Server) versionsOn(r *resources.Resource) []string {
	var out []string
	for i := range r.Versions {
		v := &r.Versions[i]
		on := !v.OffByDefault
		gv := r.Group + "/" + v.Name
		if r.Group == "" {
			gv = "api/" + v.Name
		}
		if set, ok := s.cfg.RuntimeConfig["api/all"]; ok {
			on = set
		}
		level := "api/ga"
		if strings.Contains(v.Name, "alpha") {
			level = "api/alpha"
		} else if strings.Contains(v.Name, "beta") {
			level = "api/beta"
		}
		if set, ok := s.cfg.RuntimeConfig[level]; ok {
			on = set
		}
		for _, key := range []string{gv, gv + "/" + r.Plural} {
			if set, ok := s.cfg.RuntimeConfig[key]; ok {
				on = set
			}
		}
		if on {
			out = append(out, v.Name)
		}
	}
	return out
}

func (s *Server) admission() error {
	var plugins []admission.Plugin
	if s.cfg.Admission != nil {
		chain, err := s.cfg.Admission(Deps{Config: client.InProcess(s.core.Handler, Loopback(), "kube-apiserver-admission"), Core: s.core})
		if err != nil {
			return err
		}
		plugins = chain.Plugins
	}
	if s.core.RBAC != nil {
		check, err := escalation.New(escalation.Config{Resolver: s.core.RBAC, Authorizer: s.core.Authorizer, ClusterRoles: s.core.Informers.Rbac().V1().ClusterRoles().Lister()})
		if err != nil {
			return err
		}
		plugins = append(plugins, check)
	}
	devices, err := adminaccess.New(s.core.Client.CoreV1().Namespaces())
	if err != nil {
		return err
	}
	claims, err := claimstatus.New(s.core.Authorizer)
	if err != nil {
		return err
	}
	plugins = append(plugins, devices, claims, s.services)
	chain := admission.NewChain(plugins...)
	chain.Observer = s.checks.metrics.admission
	s.chain.Store(&chain)
	return nil
}

func (s *Server) authentication() (*serviceaccount.Issuer, error) {
	c := authn.Config{APIAudiences: s.cfg.APIAudiences, TokenFile: s.cfg.TokenFile, ConfigFile: s.cfg.AuthenticationConfigFile, JWT: s.cfg.OIDC, SigningAlgs: s.cfg.OIDCSigningAlgs, Webhook: s.cfg.TokenWebhook}
	if s.cfg.ClientCA != nil {
		c.ClientCA = s.cfg.ClientCA
	}
	if s.cfg.FrontProxyCA != nil {
		c.RequestHeader = &s.cfg.RequestHeader
	}
	if s.cfg.AnonymousAuth == nil || *s.cfg.AnonymousAuth {
		c.Anonymous = &apiserver.AnonymousAuthConfig{Enabled: true}
	}
	c.BootstrapTokens = s.core.Informers.Core().V1().Secrets().Lister().Secrets("kube-system")
	var issuer *serviceaccount.Issuer
	if s.cfg.ServiceAccountKey != nil {
		getter := serviceaccount.NewGetter(s.core.Client, s.core.Informers)
		keys, err := serviceaccount.PublicKeys(append([]any{s.cfg.ServiceAccountKey.Public()}, s.cfg.ServiceAccountKeys...)...)
		if err != nil {
			return nil, fmt.Errorf("apiserver: service account keys: %w", err)
		}
		c.ServiceAccounts = &serviceaccount.ValidatorConfig{
			Issuers: append([]string{s.cfg.ServiceAccountIssuer}, s.cfg.ServiceAccountIssuers...), Audiences: s.cfg.APIAudiences, Keys: keys, Getter: getter, Lookup: true,
			Uses:           s.checks.metrics.tokens,
			TrackLegacyUse: serviceaccount.UseTracker(s.core.Client, time.Now),
		}
		signer, err := serviceaccount.NewSigner(s.cfg.ServiceAccountKey, s.cfg.ServiceAccountIssuer)
		if err != nil {
			return nil, fmt.Errorf("apiserver: %w", err)
		}
		if issuer, err = serviceaccount.NewIssuer(serviceaccount.IssuerConfig{
			Signer: signer, Audiences: s.cfg.APIAudiences, Getter: getter,
			MaxExpiration: s.cfg.ServiceAccountMaxTokenExpiration, ExtendExpiration: ptr.Deref(s.cfg.ServiceAccountExtendTokens, true),
		}); err != nil {
			return nil, fmt.Errorf("apiserver: %w", err)
		}
		external := net.JoinHostPort(s.cfg.AdvertiseAddress.String(), fmt.Sprint(s.cfg.Port))
		if s.keys, err = serviceaccount.NewDiscovery(s.cfg.ServiceAccountIssuer, s.cfg.ServiceAccountJWKSURI, external, keys); err != nil {
			return nil, fmt.Errorf("apiserver: %w", err)
		}
	}
	var err error
	s.authn, err = authn.New(c)
	return issuer, err
}

// Run serves until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	if err := s.listen(); err != nil {
		return err
	}
	close(s.listening)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	part := func(name string, run func(context.Context) error) {
		wg.Go(func() {
			if err := run(ctx); err != nil && ctx.Err() == nil {
				cancel(fmt.Errorf("%s: %w", name, err))
			}
		})
	}
	part("watch cache", s.feed.Run)
	part("authentication", s.authn.Run)
	part("authorization", s.authz.Run)
	part("server", s.serve)
	part("start", s.start)
	part("custom resources", s.extensions.custom.Run)
	part("aggregation", s.extensions.aggregate.Run)
	part("service addresses", s.services.Run)
	part("store size", s.watchStore)
	if e := s.cfg.encryption; e != nil {
		part("encryption", func(ctx context.Context) error { return e.Run(ctx, s.cfg.EncryptionReload) })
	}
	if s.flow != nil {
		part("flow control", s.flow.Run)
	}
	for _, run := range s.auditRuns {
		part("audit", run)
	}
	<-ctx.Done()
	wg.Wait()
	if s.tracing != nil {
		if err := spans.Finish(ctx, s.tracing); err != nil {
			s.cfg.Log.Warn("apiserver: " + err.Error())
		}
	}
	s.core.Informers.Shutdown()
	s.dialer.Close()
	if err := context.Cause(ctx); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// start fills the caches and makes what a fresh cluster has.
func (s *Server) start(ctx context.Context) error {
	select {
	case <-s.feed.Started():
	case <-ctx.Done():
		return nil
	}
	s.core.Informers.StartWithContext(ctx)
	s.core.Informers.WaitForCacheSyncWithContext(ctx)
	if s.core.RBAC != nil && !cache.WaitForCacheSync(ctx.Done(), s.core.RBAC.HasSynced) {
		return nil
	}
	if s.extended(ctx); ctx.Err() != nil {
		return nil
	}
	b := bootstrap.Config{Client: s.core.Client, ServiceCIDRs: s.cfg.ServiceCIDRs, Port: s.port(), Address: s.cfg.AdvertiseAddress, Log: s.cfg.Log}
	if s.cfg.ClientCA != nil {
		b.ClientCA = s.cfg.ClientCA.PEM()
	}
	if s.cfg.FrontProxyCA != nil {
		b.FrontProxyCA, b.FrontProxy = s.cfg.FrontProxyCA.PEM(), s.cfg.RequestHeader
	}
	return bootstrap.Run(ctx, b, func() { close(s.ready); s.checks.done() })
}
