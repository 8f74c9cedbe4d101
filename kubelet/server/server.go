// Package server is the kubelet's HTTPS server: logs, exec, attach, port
// forwarding, statistics and metrics of the node's pods, for those whom the
// API server authenticates and authorises.
package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
	v1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/cert"
	internalapi "k8s.io/cri-api/pkg/apis"
	kubeletv1beta1 "k8s.io/kubelet/config/v1beta1"

	"skiff/cluster/introspection"
	"skiff/kubelet/config"
	"skiff/kubelet/probes"
	"skiff/kubelet/stats"
)

// Pods answers questions about the node's pods.
type Pods interface {
	Pods() []*v1.Pod
	RunningPods(ctx context.Context) ([]*v1.Pod, error)
	PodByName(namespace, name string) *v1.Pod
}

// Config configures a Server.
type Config struct {
	Client         kubernetes.Interface
	Kubelet        *kubeletv1beta1.KubeletConfiguration
	NodeName       string
	NodeIPs        []string
	Runtime        internalapi.RuntimeService
	Streaming      http.Handler
	GetCertificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	Listener       net.Listener
	Pods           Pods
	Stats          *stats.Provider
	Probes         *probes.Manager
	// LogsDir is served below /logs/; empty serves nothing.
	LogsDir string
	// CheckpointDir is where checkpoints of containers are written; empty serves
	// none.
	CheckpointDir string
	// Healthy says what keeps the kubelet from working.
	Healthy func() error
	// Counts, when set, are shown among the kubelet's metrics.
	Counts prometheus.Collector
	// Flags are what /flagz shows. They hold no secrets.
	Flags map[string]string
	// Tracing gets a span for each request; nil means none.
	Tracing trace.TracerProvider
}

// Server serves.
type Server struct {
	cfg     Config
	handler http.Handler
	auth    *gate
	checks  *introspection.Checks
	pages   *introspection.Pages
}

// New checks the configuration and lays out the routes.
func New(cfg Config) (*Server, error) {
	if cfg.Client == nil || cfg.Runtime == nil || cfg.Pods == nil || cfg.Stats == nil || cfg.Kubelet == nil {
		return nil, errors.New("server: Client, Kubelet, Runtime, Pods and Stats are required")
	}
	s := newServer(cfg)
	s.auth = newGate(cfg)
	routes := s.routes()
	s.pages = introspection.New(introspection.Config{
		Component: "kubelet", Started: time.Now(), Flags: cfg.Flags,
		Paths: func() []string { return paths(routes) },
	})
	s.handler = s.auth.wrap(s.traced(routes))
	return s, nil
}

func newServer(cfg Config) *Server { return &Server{cfg: cfg, checks: introspection.NewChecks()} }

// Handler is the server without TLS, with authentication and authorisation.
func (s *Server) Handler() http.Handler { return s.handler }

// paths are those that routes lead to.
func paths(routes chi.Routes) []string {
	var out []string
	for _, r := range routes.Routes() {
		out = append(out, r.Pattern)
	}
	return out
}

func (s *Server) routes() chi.Router {
	r := chi.NewRouter()
	r.Get("/healthz", s.healthz)
	for _, c := range s.health() {
		r.Get("/healthz/"+c.name, func(w http.ResponseWriter, _ *http.Request) { s.answerHealth(w, c) })
	}
	for _, path := range []string{"/pods", "/pods/"} {
		r.Get(path, s.pods)
	}
	r.Get("/configz", s.configz)
	r.Get("/statusz", func(w http.ResponseWriter, req *http.Request) { s.pages.Statusz(w, req) })
	r.Get("/flagz", func(w http.ResponseWriter, req *http.Request) { s.pages.Flagz(w, req) })
	r.Handle("/metrics/slis", s.checks.Handler())
	r.Get("/stats/summary", s.summary)
	r.Post("/stats/summary", s.summary)
	for path, write := range map[string]func(*collector){"/metrics": s.ownMetrics, "/metrics/resource": s.resourceMetrics, "/metrics/cadvisor": s.cadvisorMetrics, "/metrics/probes": s.probeMetrics} {
		r.Get(path, s.metrics(write))
	}
	if !*s.cfg.Kubelet.EnableDebuggingHandlers {
		return r
	}
	for _, path := range []string{"/runningpods", "/runningpods/"} {
		r.Get(path, s.runningPods)
	}
	r.Get("/containerLogs/{namespace}/{pod}/{container}", s.containerLogs)
	for _, verb := range []string{"exec", "attach"} {
		for _, path := range []string{"/{namespace}/{pod}/{container}", "/{namespace}/{pod}/{uid}/{container}"} {
			handler := s.exec
			if verb == "attach" {
				handler = s.attach
			}
			r.Get("/"+verb+path, handler)
			r.Post("/"+verb+path, handler)
		}
	}
	for _, path := range []string{"/{namespace}/{pod}", "/{namespace}/{pod}/{uid}"} {
		r.Get("/portForward"+path, s.portForward)
		r.Post("/portForward"+path, s.portForward)
	}
	r.Post("/run/{namespace}/{pod}/{container}", s.run)
	r.Post("/run/{namespace}/{pod}/{uid}/{container}", s.run)
	if s.cfg.LogsDir != "" && *s.cfg.Kubelet.EnableSystemLogHandler {
		r.Get("/logs/*", s.logFiles)
		r.Get("/logs/", s.logFiles)
	}
	if s.cfg.CheckpointDir != "" {
		r.Post("/checkpoint/{namespace}/{pod}/{container}", s.checkpoint)
	}
	if *s.cfg.Kubelet.EnableProfilingHandler {
		profiles(r)
	}
	if *s.cfg.Kubelet.EnableDebugFlagsHandler {
		r.Put("/debug/flags/v", setVerbosity)
	}
	return r
}

// logFiles serves the node's logs and nothing else: containers that may write
// there could plant links to the host's secrets, so the kernel is asked to stay
// inside.
func (s *Server) logFiles(w http.ResponseWriter, r *http.Request) {
	root, err := os.OpenRoot(s.cfg.LogsDir)
	if err != nil {
		http.Error(w, "the folder of logs cannot be read", http.StatusInternalServerError)
		return
	}
	defer func() { _ = root.Close() }()
	if *s.cfg.Kubelet.EnableSystemLogQuery {
		q, errs := parseLogQuery(r.URL.Query())
		switch {
		case len(errs) > 0:
			http.Error(w, errs.ToAggregate().Error(), http.StatusBadRequest)
			return
		case q != nil && chi.URLParam(r, "*") != "":
			http.Error(w, "path not allowed in query mode", http.StatusNotAcceptable)
			return
		case q != nil && len(q.refused) > 0:
			http.Error(w, q.refused.ToAggregate().Error(), http.StatusNotAcceptable)
			return
		case q != nil && len(q.services) > 0:
			q.serveServices(r.Context(), w, root)
			return
		case q != nil:
			r.URL.Path = "/logs/" + strings.TrimPrefix(q.files[0], "/")
		}
	}
	http.StripPrefix("/logs/", http.FileServerFS(root.FS())).ServeHTTP(w, r)
}

// Run serves until the context ends.
func (s *Server) Run(ctx context.Context) error {
	listener := s.cfg.Listener
	if listener == nil {
		var err error
		address := net.JoinHostPort(s.cfg.Kubelet.Address, strconv.Itoa(int(s.cfg.Kubelet.Port)))
		if listener, err = (&net.ListenConfig{}).Listen(ctx, "tcp", address); err != nil {
			return fmt.Errorf("listen on %s: %w; another kubelet may run here, or set port in the KubeletConfiguration", address, err)
		}
	}
	config, err := s.tlsConfig()
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	server := &http.Server{
		Handler: s.handler, ReadHeaderTimeout: 30 * time.Second, IdleTimeout: s.cfg.Kubelet.StreamingConnectionIdleTimeout.Duration,
		BaseContext: func(net.Listener) context.Context { return ctx },
		// Upgrades for exec need HTTP/1.1.
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){},
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		<-ctx.Done()
		// Streams have no end of their own.
		_ = server.Close()
	})
	defer wg.Wait()
	if port := *s.cfg.Kubelet.HealthzPort; port > 0 {
		wg.Go(func() { s.serveHealthz(ctx, port) })
	}
	err = server.Serve(tls.NewListener(listener, config))
	if ctx.Err() != nil || errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// serveHealthz serves the health check for the node's own supervisor, without
// TLS. A port that is taken is no reason to stop.
func (s *Server) serveHealthz(ctx context.Context, port int32) {
	address := net.JoinHostPort(s.cfg.Kubelet.HealthzBindAddress, strconv.Itoa(int(port)))
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", s.healthz)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	done := make(chan struct{})
	go func() {
		defer close(done)
		<-ctx.Done()
		_ = server.Close()
	}()
	_ = server.Serve(listener)
	<-done
}

// tlsConfig asks clients for a certificate and checks it against the CA when
// they give one.
func (s *Server) tlsConfig() (*tls.Config, error) {
	get, conf := s.cfg.GetCertificate, s.cfg.Kubelet
	if get == nil {
		var err error
		if conf.TLSCertFile != "" {
			f := &certificateFile{cert: conf.TLSCertFile, key: conf.TLSPrivateKeyFile}
			if _, err = f.get(nil); err != nil {
				return nil, fmt.Errorf("serving certificate: %w", err)
			}
			get = f.get
		} else if get, err = s.selfSigned(); err != nil {
			return nil, err
		}
	}
	version, ciphers, err := config.TLS(conf)
	if err != nil {
		return nil, err
	}
	out := &tls.Config{GetCertificate: get, MinVersion: version, CipherSuites: ciphers, NextProtos: []string{"http/1.1"}}
	if conf.Authentication.X509.ClientCAFile != "" {
		out.ClientAuth = tls.RequestClientCert
	}
	return out, nil
}

func (s *Server) selfSigned() (func(*tls.ClientHelloInfo) (*tls.Certificate, error), error) {
	var ips []net.IP
	for _, ip := range s.cfg.NodeIPs {
		ips = append(ips, net.ParseIP(ip))
	}
	certPEM, keyPEM, err := cert.GenerateSelfSignedCertKey(s.cfg.NodeName, ips, nil)
	if err != nil {
		return nil, fmt.Errorf("make a serving certificate: %w", err)
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, err
	}
	return func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &pair, nil }, nil
}

// certificateFile reads a pair of files again when they change.
type certificateFile struct {
	cert, key string

	mu     sync.Mutex // guards what follows
	loaded time.Time
	pair   *tls.Certificate
}

func (f *certificateFile) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	info, err := os.Stat(f.cert)
	if err == nil && f.pair != nil && info.ModTime().Equal(f.loaded) {
		return f.pair, nil
	}
	key := f.key
	if key == "" {
		key = f.cert
	}
	pair, err := tls.LoadX509KeyPair(f.cert, key)
	if err != nil {
		if f.pair != nil {
			// The files are being replaced: the old pair serves.
			return f.pair, nil
		}
		return nil, err
	}
	f.pair = &pair
	if info != nil {
		f.loaded = info.ModTime()
	}
	return f.pair, nil
}

// clientCAs reads the authorities of client certificates.
func clientCAs(path string) (*x509.CertPool, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, fmt.Errorf("%s holds no certificate", path)
	}
	return pool, nil
}
