package authn

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/pkg/authentication/user"
	corev1listers "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"

	"skiff/apiserver/request"
)

func testCA(t *testing.T, name string) (*x509.Certificate, *ecdsa.PrivateKey, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c, key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func clientCert(t *testing.T, ca *x509.Certificate, caKey *ecdsa.PrivateKey, subject pkix.Name) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(2), Subject: subject,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, ca, key.Public(), caKey)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func bootstrapSecret(data map[string]string) *corev1.Secret {
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "bootstrap-token-abcdef"}, Type: corev1.SecretTypeBootstrapToken, Data: map[string][]byte{}}
	for k, v := range data {
		s.Data[k] = []byte(v)
	}
	return s
}

func secretLister(t *testing.T, secrets ...*corev1.Secret) corev1listers.SecretNamespaceLister {
	t.Helper()
	ix := cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc})
	for _, s := range secrets {
		if err := ix.Add(s); err != nil {
			t.Fatal(err)
		}
	}
	return corev1listers.NewSecretLister(ix).Secrets("kube-system")
}

// Covers: api.authn-x509
func TestAuthenticateRequest(t *testing.T) {
	ca, caKey, caPEM := testCA(t, "ca")
	other, otherKey, _ := testCA(t, "other")
	dir := t.TempDir()
	caFile := filepath.Join(dir, "ca.crt")
	if err := os.WriteFile(caFile, caPEM, 0o600); err != nil {
		t.Fatal(err)
	}
	bundle, err := NewCABundle(caFile)
	if err != nil {
		t.Fatal(err)
	}
	tokens := filepath.Join(dir, "tokens.csv")
	if err := os.WriteFile(tokens, []byte("sesame,ali,u1,\"dev,ops\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	a, err := New(Config{
		ClientCA: bundle, TokenFile: tokens,
		RequestHeader: &RequestHeaderConfig{ClientCA: bundle, AllowedNames: []string{"front-proxy"}},
		BootstrapTokens: secretLister(t, bootstrapSecret(map[string]string{
			"token-id": "abcdef", "token-secret": "0123456789abcdef", "usage-bootstrap-authentication": "true",
			"auth-extra-groups": "system:bootstrappers:kubeadm:default-node-token",
		})),
		Anonymous: &apiserver.AnonymousAuthConfig{Enabled: true, Conditions: []apiserver.AnonymousAuthCondition{{Path: "/livez"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	admin := clientCert(t, ca, caKey, pkix.Name{CommonName: "admin", Organization: []string{"system:masters"}})
	proxy := clientCert(t, ca, caKey, pkix.Name{CommonName: "front-proxy"})
	stranger := clientCert(t, other, otherKey, pkix.Name{CommonName: "admin", Organization: []string{"system:masters"}})

	cases := []struct {
		name   string
		path   string
		header map[string]string
		cert   *x509.Certificate
		local  user.Info
		want   *user.DefaultInfo
		err    bool
	}{
		{name: "client certificate", cert: admin, want: &user.DefaultInfo{Name: "admin", Groups: []string{"system:masters", "system:authenticated"}}},
		{name: "certificate of another CA", cert: stranger, err: true},
		{name: "token file", header: map[string]string{"Authorization": "Bearer sesame"}, want: &user.DefaultInfo{Name: "ali", UID: "u1", Groups: []string{"dev", "ops", "system:authenticated"}}},
		{name: "unknown token", header: map[string]string{"Authorization": "Bearer nope"}, err: true},
		{name: "bootstrap token", header: map[string]string{"Authorization": "Bearer abcdef.0123456789abcdef"},
			want: &user.DefaultInfo{Name: "system:bootstrap:abcdef", Groups: []string{"system:bootstrappers", "system:bootstrappers:kubeadm:default-node-token", "system:authenticated"}}},
		{name: "wrong bootstrap secret", header: map[string]string{"Authorization": "Bearer abcdef.0123456789abcdee"}, err: true},
		{name: "front proxy", cert: proxy, header: map[string]string{"X-Remote-User": "eve", "X-Remote-Group": "g"}, want: &user.DefaultInfo{Name: "eve", Groups: []string{"g", "system:authenticated"}}},
		{name: "front proxy headers from another client", cert: admin, header: map[string]string{"X-Remote-User": "eve"}, want: &user.DefaultInfo{Name: "admin", Groups: []string{"system:masters", "system:authenticated"}}},
		{name: "anonymous on an allowed path", path: "/livez", want: &user.DefaultInfo{Name: "system:anonymous", Groups: []string{"system:unauthenticated"}}},
		{name: "anonymous elsewhere", path: "/api"},
		{name: "in process", local: &user.DefaultInfo{Name: "system:kube-scheduler"}, want: &user.DefaultInfo{Name: "system:kube-scheduler"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if c.path == "" {
				c.path = "/api"
			}
			req := httptest.NewRequest(http.MethodGet, c.path, nil)
			for k, v := range c.header {
				req.Header.Set(k, v)
			}
			if c.cert != nil {
				req.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{c.cert}}
			}
			if c.local != nil {
				req = req.WithContext(request.WithInProcessUser(context.Background(), c.local))
			}
			resp, ok, err := a.AuthenticateRequest(req)
			if (err != nil) != c.err {
				t.Fatalf("error = %v, want error %v", err, c.err)
			}
			if ok != (c.want != nil) {
				t.Fatalf("ok = %v (%v)", ok, resp)
			}
			if c.want == nil {
				return
			}
			got := resp.User
			if diff := cmp.Diff([]any{c.want.Name, c.want.UID, c.want.Groups}, []any{got.GetName(), got.GetUID(), got.GetGroups()}); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestCABundleReloads(t *testing.T) {
	_, _, first := testCA(t, "first")
	_, _, second := testCA(t, "second")
	path := filepath.Join(t.TempDir(), "ca.crt")
	if err := os.WriteFile(path, first, 0o600); err != nil {
		t.Fatal(err)
	}
	b, err := NewCABundle(path)
	if err != nil {
		t.Fatal(err)
	}
	clock := time.Now()
	b.now = func() time.Time { return clock }
	write := func(data []byte, at time.Time) {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
		clock = clock.Add(2 * caCheckInterval)
	}
	write(second, clock.Add(time.Hour))
	if string(b.PEM()) != string(second) {
		t.Error("a new file was not read")
	}
	write([]byte("broken"), clock.Add(2*time.Hour))
	if string(b.PEM()) != string(second) {
		t.Error("a broken file replaced the bundle")
	}
}

// Covers: api.authn-tokens
func TestBootstrapGroups(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	good := map[string]string{"token-id": "abcdef", "token-secret": "0123456789abcdef", "usage-bootstrap-authentication": "true"}
	with := func(kv ...string) *corev1.Secret {
		m := map[string]string{}
		for k, v := range good {
			m[k] = v
		}
		for i := 0; i < len(kv); i += 2 {
			m[kv[i]] = kv[i+1]
		}
		return bootstrapSecret(m)
	}
	opaque := with()
	opaque.Type = corev1.SecretTypeOpaque
	dying := with()
	dying.DeletionTimestamp = &metav1.Time{Time: now}
	cases := []struct {
		name   string
		secret *corev1.Secret
		ok     bool
	}{
		{"good", with(), true},
		{"other type", opaque, false},
		{"being deleted", dying, false},
		{"other id", with("token-id", "zzzzzz"), false},
		{"signing only", with("usage-bootstrap-authentication", "false"), false},
		{"expired", with("expiration", "2026-01-02T03:04:05Z"), false},
		{"not yet expired", with("expiration", "2026-01-02T03:04:06Z"), true},
		{"bad expiration", with("expiration", "tomorrow"), false},
		{"foreign group", with("auth-extra-groups", "system:masters"), false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			groups, why := bootstrapGroups(c.secret, "abcdef", "0123456789abcdef", now)
			if (why == "") != c.ok || (groups != nil) != c.ok {
				t.Errorf("groups %v, reason %q", groups, why)
			}
		})
	}
}

// A TokenReview answers with the groups that the token's requests have.
func TestReviewedTokenIsAuthenticated(t *testing.T) {
	tokens := filepath.Join(t.TempDir(), "tokens.csv")
	if err := os.WriteFile(tokens, []byte("sesame,ali,u1,\"dev,ops\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	a, err := New(Config{TokenFile: tokens})
	if err != nil {
		t.Fatal(err)
	}
	resp, ok, err := a.AuthenticateToken(t.Context(), "sesame")
	if err != nil || !ok {
		t.Fatalf("the token is good: %v, %v", ok, err)
	}
	if d := cmp.Diff([]string{"dev", "ops", "system:authenticated"}, resp.User.GetGroups()); d != "" {
		t.Errorf("groups (-want +got):\n%s", d)
	}
}
