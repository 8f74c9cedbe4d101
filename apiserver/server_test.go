package apiserver_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"skiff/apiserver"
	"skiff/apiserver/admission"
	"skiff/apiserver/admission/builtin"
	"skiff/apiserver/authn"
	"skiff/cluster/pki"
	"skiff/kine/sqlite"
)

// running is a server on a SQLite file, with an administrator's token.
type running struct {
	server *apiserver.Server
	admin  *rest.Config
	client kubernetes.Interface
}

const adminToken = "admin-token"

// start runs a server until the test ends.
func start(t *testing.T, change func(*apiserver.Config)) *running {
	t.Helper()
	dir := t.TempDir()
	now := time.Now()
	ca, err := pki.NewCA("kubernetes", pki.Algorithms()[0], now, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	caPEM := pki.EncodeCert(ca.Cert)
	write := func(name string, b []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	certPEM, keyPEM, err := ca.Issue(pki.Leaf{CommonName: "kube-apiserver", IPs: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"kubernetes"}, Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}},
		pki.Algorithms()[0], now, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	bundle, err := authn.NewCABundle(write("ca.crt", caPEM))
	if err != nil {
		t.Fatal(err)
	}
	key, err := pki.NewKey(pki.Algorithms()[0])
	if err != nil {
		t.Fatal(err)
	}
	store, err := sqlite.New(sqlite.Config{Path: filepath.Join(dir, "state.db")})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg := apiserver.Config{
		Store: store, Listener: l, AdvertiseAddress: netip.MustParseAddr("192.0.2.1"), ClientCA: bundle,
		Certificate:       func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &cert, nil },
		TokenFile:         write("tokens.csv", []byte(adminToken+",admin,1,\"system:masters\"\nplain-token,plain,2\n")),
		ServiceAccountKey: key,
		Admission: func(d apiserver.Deps) (admission.Chain, error) {
			c, err := kubernetes.NewForConfig(d.Config)
			if err != nil {
				return admission.Chain{}, err
			}
			return builtin.New(builtin.Deps{Client: c, Informers: d.Core.Informers, Authorizer: d.Core.Authorizer}, nil, nil)
		},
	}
	if change != nil {
		change(&cfg)
	}
	s, err := apiserver.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ends := make(chan error, 2)
	go func() { ends <- store.Run(ctx) }()
	<-store.Ready()
	go func() { ends <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		for range 2 {
			if err := <-ends; err != nil {
				t.Errorf("a part ended with %v", err)
			}
		}
	})
	select {
	case <-s.Ready():
	case err := <-ends:
		ends <- nil
		t.Fatalf("the server ended before it was ready: %v", err)
	case <-time.After(30 * time.Second):
		t.Fatal("the server is not ready after 30 s")
	}
	admin := &rest.Config{Host: "https://" + l.Addr().String(), BearerToken: adminToken, TLSClientConfig: rest.TLSClientConfig{CAData: caPEM}, QPS: -1}
	return &running{server: s, admin: admin, client: kubernetes.NewForConfigOrDie(admin)}
}

// TestServer drives a server over TLS as any client would.
//
// Covers: api.health, api.fresh-cluster
func TestServer(t *testing.T) {
	r := start(t, nil)
	ctx := t.Context()

	t.Run("version", func(t *testing.T) {
		v, err := r.client.Discovery().ServerVersion()
		if err != nil || v.Major != "1" || v.Minor != "37" {
			t.Errorf("version %+v, %v", v, err)
		}
	})
	t.Run("fresh objects", func(t *testing.T) {
		for _, ns := range []string{"default", "kube-system", "kube-public", "kube-node-lease"} {
			if _, err := r.client.CoreV1().Namespaces().Get(ctx, ns, metav1.GetOptions{}); err != nil {
				t.Error(err)
			}
		}
		svc, err := r.client.CoreV1().Services("default").Get(ctx, "kubernetes", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if svc.Spec.ClusterIP != "10.96.0.1" {
			t.Errorf("the kubernetes Service has %q", svc.Spec.ClusterIP)
		}
		eps, err := r.client.DiscoveryV1().EndpointSlices("default").Get(ctx, "kubernetes", metav1.GetOptions{})
		if err != nil || len(eps.Endpoints) != 1 || eps.Endpoints[0].Addresses[0] != "192.0.2.1" {
			t.Errorf("endpoint slice %+v, %v", eps, err)
		}
		for _, role := range []string{"cluster-admin", "admin", "edit", "view", "system:node", "system:kube-scheduler", "system:controller:deployment-controller"} {
			if _, err := r.client.RbacV1().ClusterRoles().Get(ctx, role, metav1.GetOptions{}); err != nil {
				t.Error(err)
			}
		}
		if _, err := r.client.SchedulingV1().PriorityClasses().Get(ctx, "system-node-critical", metav1.GetOptions{}); err != nil {
			t.Error(err)
		}
	})
	t.Run("refuses whom nobody gave rights", func(t *testing.T) {
		cfg := rest.CopyConfig(r.admin)
		cfg.BearerToken = "plain-token"
		_, err := kubernetes.NewForConfigOrDie(cfg).CoreV1().Pods("default").List(ctx, metav1.ListOptions{})
		want := `pods is forbidden: User "plain" cannot list resource "pods" in API group "" in the namespace "default"`
		if !apierrors.IsForbidden(err) || err.Error() != want {
			t.Errorf("got %v", err)
		}
		cfg.BearerToken = "wrong"
		if _, err := kubernetes.NewForConfigOrDie(cfg).CoreV1().Pods("default").List(ctx, metav1.ListOptions{}); !apierrors.IsUnauthorized(err) {
			t.Errorf("a wrong token: %v", err)
		}
	})
	t.Run("create, watch, delete", func(t *testing.T) {
		cms := r.client.CoreV1().ConfigMaps("default")
		w, err := cms.Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=a"})
		if err != nil {
			t.Fatal(err)
		}
		defer w.Stop()
		if _, err := cms.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "a"}, Data: map[string]string{"k": "v"}}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := cms.Delete(ctx, "a", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"ADDED", "DELETED"} {
			if e := <-w.ResultChan(); string(e.Type) != want {
				t.Errorf("got %s, want %s", e.Type, want)
			}
		}
	})
	t.Run("services get addresses and ports", func(t *testing.T) {
		svc, err := r.client.CoreV1().Services("default").Create(ctx, &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Name: "web"},
			Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort, Ports: []corev1.ServicePort{{Port: 80}}, Selector: map[string]string{"a": "b"}},
		}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		ip, err := netip.ParseAddr(svc.Spec.ClusterIP)
		if err != nil || !netip.MustParsePrefix("10.96.0.0/12").Contains(ip) || svc.Spec.Ports[0].NodePort < 30000 || svc.Spec.Ports[0].NodePort > 32767 {
			t.Errorf("spec %+v, %v", svc.Spec, err)
		}
		if _, err := r.client.NetworkingV1().IPAddresses().Get(ctx, svc.Spec.ClusterIP, metav1.GetOptions{}); err != nil {
			t.Error(err)
		}
	})
	t.Run("discovery and openapi", func(t *testing.T) {
		_, lists, err := r.client.Discovery().ServerGroupsAndResources()
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(lists, func(l *metav1.APIResourceList) bool { return l.GroupVersion == "apps/v1" }) {
			t.Errorf("apps/v1 is not in %v", lists)
		}
		paths, err := r.client.Discovery().OpenAPIV3().Paths()
		if err != nil || paths["apis/apps/v1"] == nil {
			t.Fatalf("openapi paths %v, %v", paths, err)
		}
		if b, err := paths["apis/apps/v1"].Schema("application/com.github.proto-openapi.spec.v3.v1.0+protobuf"); err != nil || len(b) == 0 {
			t.Errorf("the document of apps/v1: %d bytes, %v", len(b), err)
		}
		if _, err := r.client.Discovery().OpenAPISchema(); err != nil {
			t.Error(err)
		}
	})
}
