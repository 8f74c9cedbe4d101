package apiserver_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"skiff/apiserver"
	"skiff/apiserver/apiservertest"
	"skiff/apiserver/authn"
	"skiff/apiserver/serviceaccount"
)

// who is the user that a token's requests are of.
func who(ctx context.Context, s *apiservertest.Server, token string) (authenticationv1.UserInfo, error) {
	c, err := kubernetes.NewForConfig(s.WithToken(token))
	if err != nil {
		return authenticationv1.UserInfo{}, err
	}
	r, err := c.AuthenticationV1().SelfSubjectReviews().Create(ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	if err != nil {
		return authenticationv1.UserInfo{}, err
	}
	return r.Status.UserInfo, nil
}

// TestStructuredAuthentication believes the tokens of two issuers, as expressions
// of a configuration say.
//
// Covers: api.authn-oidc
func TestStructuredAuthentication(t *testing.T) {
	t.Parallel()
	issuer, other := apiservertest.StartIssuer(t), apiservertest.StartIssuer(t)
	indent := func(pem []byte) string { return strings.ReplaceAll(strings.TrimSpace(string(pem)), "\n", "\n      ") }
	config := fmt.Sprintf(`
apiVersion: apiserver.config.k8s.io/v1
kind: AuthenticationConfiguration
jwt:
- issuer:
    url: %s
    certificateAuthority: |
      %s
    audiences: [skiff, other]
    audienceMatchPolicy: MatchAny
  claimValidationRules:
  - {expression: "claims.hd == 'example.com'", message: the domain is not ours}
  - {expression: "claims.email_verified == true", message: the address is not verified}
  claimMappings:
    username: {expression: "'corp:' + claims.email"}
    groups: {expression: "claims.roles.split(',').map(r, 'corp:' + r)"}
    uid: {expression: claims.sub}
    extra:
    - {key: example.com/tenant, valueExpression: claims.tenant}
  userValidationRules:
  - {expression: "!user.groups.exists(g, g == 'corp:banned')", message: the user is banned}
- issuer:
    url: %s
    certificateAuthority: |
      %s
    audiences: [skiff]
  claimMappings:
    username: {claim: sub, prefix: "other:"}
anonymous: {enabled: true, conditions: [{path: /livez}]}
`, issuer.URL, indent(issuer.CA), other.URL, indent(other.CA))
	file := filepath.Join(t.TempDir(), "authentication.yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	s := apiservertest.Start(t, func(c *apiserver.Config) { c.AuthenticationConfigFile = file })
	good := func(change map[string]any) map[string]any {
		claims := map[string]any{"sub": "7", "email": "ali@example.com", "email_verified": true, "hd": "example.com", "roles": "dev,ops", "tenant": "blue"}
		for k, v := range change {
			claims[k] = v
		}
		return claims
	}
	// The issuers' keys are fetched when the server has started.
	within(t, "the issuers are known", func() bool {
		_, err := who(t.Context(), s, issuer.Token(t, good(nil)))
		_, err2 := who(t.Context(), s, other.Token(t, nil))
		return err == nil && err2 == nil
	})
	ali := authenticationv1.UserInfo{Username: "corp:ali@example.com", UID: "7", Groups: []string{"corp:dev", "corp:ops", "system:authenticated"},
		Extra: map[string]authenticationv1.ExtraValue{"example.com/tenant": {"blue"}}}
	for _, tc := range []struct {
		name  string
		token string
		want  *authenticationv1.UserInfo
	}{
		{"expressions make the user", issuer.Token(t, good(nil)), &ali},
		{"another of the audiences", issuer.Token(t, good(map[string]any{"aud": []string{"other"}})), &ali},
		{"the second issuer", other.Token(t, map[string]any{"sub": "bo"}), &authenticationv1.UserInfo{Username: "other:bo", Groups: []string{"system:authenticated"}}},
		{"a claim that a rule refuses", issuer.Token(t, good(map[string]any{"hd": "example.org"})), nil},
		{"an address that is not verified", issuer.Token(t, good(map[string]any{"email_verified": false})), nil},
		{"a user that a rule refuses", issuer.Token(t, good(map[string]any{"roles": "dev,banned"})), nil},
		{"another audience", issuer.Token(t, good(map[string]any{"aud": "nobody"})), nil},
		{"expired", issuer.Token(t, good(map[string]any{"exp": time.Now().Add(-time.Minute).Unix()})), nil},
		{"no claim for an expression", issuer.Token(t, good(map[string]any{"email": nil})), nil},
		{"signed by another issuer", other.Token(t, map[string]any{"iss": issuer.URL}), nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := who(t.Context(), s, tc.token)
			if tc.want == nil {
				if !apierrors.IsUnauthorized(err) {
					t.Errorf("user %v, %v", got, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(*tc.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
	for path, code := range map[string]int{"/livez": 200, "/version": 401} {
		if a := s.CallAs(t, s.WithToken(""), "GET", path, ""); a.Code != code {
			t.Errorf("anonymous at %s: %d, want %d", path, a.Code, code)
		}
	}
}

// A changed configuration is in force once its issuers can be used; until then the
// one before is.
//
// Covers: api.authn-oidc
func TestAuthenticationIsReadAgain(t *testing.T) {
	t.Parallel()
	issuer, other := apiservertest.StartIssuer(t), apiservertest.StartIssuer(t)
	file := filepath.Join(t.TempDir(), "authentication.yaml")
	write := func(prefix, url string, ca []byte) {
		config := fmt.Sprintf("apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\njwt:\n- issuer: {url: %q, audiences: [skiff], certificateAuthority: %q}\n  claimMappings: {username: {claim: sub, prefix: %q}}\n", url, ca, prefix)
		if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("old:", issuer.URL, issuer.CA)
	s := apiservertest.Start(t, func(c *apiserver.Config) { c.AuthenticationConfigFile = file })
	is := func(token, name string) func() bool {
		return func() bool {
			u, err := who(t.Context(), s, token)
			return err == nil && u.Username == name
		}
	}
	old := issuer.Token(t, nil)
	within(t, "the issuer is known", is(old, "old:u"))

	// An issuer that never answers is looked for, and nobody is locked out meanwhile.
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	asked := make(chan struct{})
	go func() {
		defer close(asked)
		if c, err := silent.Accept(); err == nil {
			_ = c.Close()
		}
	}()
	write("lost:", "https://"+silent.Addr().String(), issuer.CA)
	<-asked
	if !is(old, "old:u")() {
		t.Fatal("tokens of the issuer before are refused while that of the new file is not reached")
	}
	write("new:", other.URL, other.CA)
	within(t, "the new file is in force", is(other.Token(t, nil), "new:u"))
	if u, err := who(t.Context(), s, old); !apierrors.IsUnauthorized(err) {
		t.Errorf("the issuer that was taken out still says who %v is, %v", u, err)
	}
}

// The cleaner takes away tokens in Secrets that nobody uses, so their use is written
// down.
//
// Covers: api.authn-tokens
func TestUseOfTokensInSecretsIsWrittenDown(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s := apiservertest.Start(t, func(c *apiserver.Config) {
		c.ServiceAccountKey, c.ServiceAccountIssuer = key, "https://skiff.example.com"
	})
	signer, err := serviceaccount.NewSigner(key, "https://skiff.example.com")
	if err != nil {
		t.Fatal(err)
	}
	core := s.Client.CoreV1()
	sa, err := core.ServiceAccounts("default").Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "old"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "old-token", Annotations: map[string]string{corev1.ServiceAccountNameKey: "old"}}, Type: corev1.SecretTypeServiceAccountToken}
	token, err := signer.SignLegacy(sa, secret)
	if err != nil {
		t.Fatal(err)
	}
	secret.Data = map[string][]byte{corev1.ServiceAccountTokenKey: []byte(token)}
	if _, err := core.Secrets("default").Create(t.Context(), secret, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := who(t.Context(), s, token); err != nil {
		t.Fatal(err)
	}
	got, err := core.Secrets("default").Get(t.Context(), secret.Name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if day := got.Labels[serviceaccount.LastUsedLabel]; day == "" {
		t.Errorf("labels %v: the use is not written down", got.Labels)
	}
}

// tokenService answers TokenReviews.
type tokenService struct {
	mu    sync.Mutex
	asked map[string]int
}

func (s *tokenService) count(token string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[token]
}

func (s *tokenService) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var review authenticationv1.TokenReview
	if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	s.asked[review.Spec.Token]++
	s.mu.Unlock()
	switch review.Spec.Token {
	case "open":
		review.Status = authenticationv1.TokenReviewStatus{Authenticated: true, Audiences: review.Spec.Audiences, User: authenticationv1.UserInfo{
			Username: "eve", UID: "9", Groups: []string{"dev"}, Extra: map[string]authenticationv1.ExtraValue{"k": {"v"}}}}
	case "elsewhere":
		review.Status = authenticationv1.TokenReviewStatus{Authenticated: true, Audiences: []string{"elsewhere"}, User: authenticationv1.UserInfo{Username: "eve"}}
	case "broken":
		http.Error(w, "no", http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(review) // the client is gone when this fails
}

// TestTokenWebhook asks a service about tokens, once for as long as its answer holds.
//
// Covers: api.authn-webhook
func TestTokenWebhook(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"v1", "v1beta1"} {
		t.Run(version, func(t *testing.T) {
			service := &tokenService{asked: map[string]int{}}
			srv := httptest.NewTLSServer(service)
			t.Cleanup(srv.Close)
			k := clientcmdapi.NewConfig()
			k.Clusters["c"] = &clientcmdapi.Cluster{Server: srv.URL, CertificateAuthorityData: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})}
			k.Contexts["x"] = &clientcmdapi.Context{Cluster: "c"}
			k.CurrentContext = "x"
			file := filepath.Join(t.TempDir(), "kubeconfig")
			if err := clientcmd.WriteToFile(*k, file); err != nil {
				t.Fatal(err)
			}
			s := apiservertest.Start(t, func(c *apiserver.Config) {
				c.TokenWebhook = &authn.WebhookConfig{KubeconfigFile: file, Version: version, CacheTTL: time.Hour}
			})
			eve := authenticationv1.UserInfo{Username: "eve", UID: "9", Groups: []string{"dev", "system:authenticated"}, Extra: map[string]authenticationv1.ExtraValue{"k": {"v"}}}
			for range 3 {
				got, err := who(t.Context(), s, "open")
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(eve, got); diff != "" {
					t.Error(diff)
				}
				for _, token := range []string{"shut", "elsewhere", "broken"} {
					if got, err := who(t.Context(), s, token); !apierrors.IsUnauthorized(err) {
						t.Errorf("token %s: %v, %v", token, got, err)
					}
				}
			}
			for token, want := range map[string]int{"open": 1, "shut": 1, "broken": 3} {
				if n := service.count(token); n != want {
					t.Errorf("asked about %s %d times, want %d", token, n, want)
				}
			}
			review, err := s.Client.AuthenticationV1().TokenReviews().Create(t.Context(), &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: "open"}}, metav1.CreateOptions{})
			if err != nil || !review.Status.Authenticated || review.Status.User.Username != "eve" {
				t.Errorf("a review of the token: %+v, %v", review, err)
			}
		})
	}
}
