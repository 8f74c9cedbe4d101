// Package apiservertest runs a whole API server for a test: the real store on a
// SQLite file, real certificates, the built-in admission chain, and a TLS port
// on the loopback address.
package apiservertest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"skiff/apiserver"
	"skiff/apiserver/admission"
	"skiff/apiserver/admission/builtin"
	"skiff/apiserver/authn"
	"skiff/cluster/pki"
	"skiff/kine/history"
	"skiff/kine/sqlite"
)

// Server is a running API server.
type Server struct {
	Server *apiserver.Server
	// Host is its base URL, Dir the folder of its files.
	Host, Dir string
	// Admin is in system:masters, Plain has no rights at all.
	Admin, Plain *rest.Config
	// Client and Dynamic act for Admin.
	Client  kubernetes.Interface
	Dynamic dynamic.Interface

	ca   *pki.CA
	pem  []byte
	stop context.CancelFunc
}

// ServiceCIDR is the range of cluster IPs. It is small enough to be used up.
const ServiceCIDR = "10.96.0.0/24"

// Start runs a server until the test ends. change may alter its configuration.
func Start(t testing.TB, change func(*apiserver.Config)) *Server {
	t.Helper()
	return StartIn(t, t.TempDir(), change)
}

// StartIn runs a server on the files of dir, which an earlier one may have left.
func StartIn(t testing.TB, dir string, change func(*apiserver.Config)) *Server {
	t.Helper()
	certs := filepath.Join(dir, "pki")
	if err := pki.Ensure(certs, pki.Config{}, time.Now()); err != nil {
		t.Fatal(err)
	}
	file := func(name string) string { return filepath.Join(certs, name) }
	ca, err := pki.LoadCA(file("ca.crt"), file("ca.key"))
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Dir: dir, ca: ca, pem: pki.EncodeCert(ca.Cert)}
	serving, err := pki.NewReloading(file("apiserver.crt"), file("apiserver.key"))
	if err != nil {
		t.Fatal(err)
	}
	clientCA, err := authn.NewCABundle(file("ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	proxyCA, err := authn.NewCABundle(file("front-proxy-ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := pki.LoadKey(file("sa.key"))
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	store, err := sqlite.New(sqlite.Config{Path: filepath.Join(dir, "state.db"), Keep: history.Retention{Window: time.Hour}, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg := apiserver.Config{
		Store: store, Listener: l, AdvertiseAddress: netip.MustParseAddr("192.0.2.1"),
		Certificate: serving.GetCertificate, ClientCA: clientCA, FrontProxyCA: proxyCA, ServiceAccountKey: key,
		ServiceCIDRs: []netip.Prefix{netip.MustParsePrefix(ServiceCIDR)},
		KubeletTLS:   &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: true},
		Admission:    Chain, Log: log,
	}
	if change != nil {
		change(&cfg)
	}
	if s.Server, err = apiserver.New(cfg); err != nil {
		t.Fatal(err)
	}
	s.Host = "https://" + l.Addr().String()
	s.Admin = s.As(t, "admin", "system:masters")
	s.Plain = s.As(t, "plain")
	s.run(t, store)
	s.Client = kubernetes.NewForConfigOrDie(s.Admin)
	s.Dynamic = dynamic.NewForConfigOrDie(s.Admin)
	return s
}

func (s *Server) run(t testing.TB, store *sqlite.Store) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ends := make(chan error, 2)
	go func() { ends <- store.Run(ctx) }()
	<-store.Ready()
	served := make(chan struct{})
	go func() {
		defer close(served)
		ends <- s.Server.Run(ctx)
	}()
	stopped := false
	s.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		for range 2 {
			if err := <-ends; err != nil {
				t.Errorf("a part ended with %v", err)
			}
		}
	}
	t.Cleanup(s.stop)
	select {
	case <-s.Server.Ready():
	case <-served:
		t.Fatal("the server ended before it was ready")
	case <-time.After(time.Minute):
		t.Fatal("the server is not ready after a minute")
	}
}

// Stop ends the server before the test does.
func (s *Server) Stop() { s.stop() }

// As is the access of a user with a certificate of the cluster's authority.
func (s *Server) As(t testing.TB, name string, groups ...string) *rest.Config {
	t.Helper()
	cert, key, err := s.ca.Issue(pki.Leaf{CommonName: name, Organization: groups, Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}},
		pki.Algorithms()[0], time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return &rest.Config{Host: s.Host, TLSClientConfig: rest.TLSClientConfig{CAData: s.pem, CertData: cert, KeyData: key}, QPS: -1}
}

// WithToken is the access of whoever has the token.
func (s *Server) WithToken(token string) *rest.Config {
	return &rest.Config{Host: s.Host, BearerToken: token, TLSClientConfig: rest.TLSClientConfig{CAData: s.pem}, QPS: -1}
}

// Kubeconfig writes the administrator's access for a command and returns the path.
func (s *Server) Kubeconfig(t testing.TB) string {
	t.Helper()
	c := clientcmdapi.NewConfig()
	c.Clusters["c"] = &clientcmdapi.Cluster{Server: s.Host, CertificateAuthorityData: s.pem}
	c.AuthInfos["u"] = &clientcmdapi.AuthInfo{ClientCertificateData: s.Admin.CertData, ClientKeyData: s.Admin.KeyData}
	c.Contexts["x"] = &clientcmdapi.Context{Cluster: "c", AuthInfo: "u"}
	c.CurrentContext = "x"
	path := filepath.Join(s.Dir, "admin.conf")
	if err := clientcmd.WriteToFile(*c, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// Chain is the built-in admission chain.
func Chain(d apiserver.Deps) (admission.Chain, error) { return ChainOf(d, builtin.Deps{}) }

// ChainOf is Chain with plugins that are off by default, and what they need.
func ChainOf(d apiserver.Deps, deps builtin.Deps, enable ...string) (admission.Chain, error) {
	c, err := kubernetes.NewForConfig(d.Config)
	if err != nil {
		return admission.Chain{}, err
	}
	untyped := rest.CopyConfig(d.Config)
	untyped.ContentConfig = rest.ContentConfig{}
	dyn, err := dynamic.NewForConfig(untyped)
	if err != nil {
		return admission.Chain{}, err
	}
	deps.Client, deps.Dynamic, deps.Informers, deps.Authorizer = c, dyn, d.Core.Informers, d.Core.Authorizer
	return builtin.New(deps, enable, nil)
}
