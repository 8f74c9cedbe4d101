package main

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"

	"skiff/apiserver"
	"skiff/apiserver/apiservertest"
)

// TestOIDCFlags believes the tokens of the issuer that the --oidc flags name.
//
// Covers: api.authn-oidc
func TestOIDCFlags(t *testing.T) {
	issuer := apiservertest.StartIssuer(t)
	ca := filepath.Join(t.TempDir(), "ca.crt")
	if err := os.WriteFile(ca, issuer.CA, 0o600); err != nil {
		t.Fatal(err)
	}
	start := func(t *testing.T, args ...string) *apiservertest.Server {
		var o apiserverFlags
		flags := pflag.NewFlagSet("apiserver", pflag.ContinueOnError)
		o.add(flags)
		if err := flags.Parse(append([]string{"--oidc-issuer-url", issuer.URL, "--oidc-client-id", "skiff", "--oidc-ca-file", ca}, args...)); err != nil {
			t.Fatal(err)
		}
		var given apiserver.Config
		if err := o.apply(&given); err != nil {
			t.Fatal(err)
		}
		return apiservertest.Start(t, func(c *apiserver.Config) { c.OIDC, c.OIDCSigningAlgs = given.OIDC, given.OIDCSigningAlgs })
	}
	who := func(t *testing.T, s *apiservertest.Server, claims map[string]any) (authenticationv1.UserInfo, error) {
		c, err := kubernetes.NewForConfig(s.WithToken(issuer.Token(t, claims)))
		if err != nil {
			t.Fatal(err)
		}
		r, err := c.AuthenticationV1().SelfSubjectReviews().Create(t.Context(), &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
		if err != nil {
			return authenticationv1.UserInfo{}, err
		}
		return r.Status.UserInfo, nil
	}
	for _, tc := range []struct {
		name         string
		args         []string
		good         map[string]any
		want         authenticationv1.UserInfo
		unauthorized []map[string]any
	}{
		{"by default the subject, with the issuer", nil, map[string]any{"sub": "ali"},
			authenticationv1.UserInfo{Username: issuer.URL + "#ali", Groups: []string{"system:authenticated"}},
			[]map[string]any{{"sub": "ali", "aud": "others"}, {"sub": "ali", "exp": time.Now().Add(-time.Hour).Unix()}}},
		{"claims, prefixes and what is required",
			[]string{"--oidc-username-claim", "email", "--oidc-groups-claim", "roles", "--oidc-groups-prefix", "g:", "--oidc-username-prefix", "u:", "--oidc-required-claim", "hd=example.com"},
			map[string]any{"email": "ali@example.com", "email_verified": true, "roles": []string{"dev", "ops"}, "hd": "example.com"},
			authenticationv1.UserInfo{Username: "u:ali@example.com", Groups: []string{"g:dev", "g:ops", "system:authenticated"}},
			[]map[string]any{{"email": "ali@example.com", "email_verified": false, "hd": "example.com"}, {"email": "ali@example.com", "email_verified": true}, {"hd": "example.com"}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := start(t, tc.args...)
			var got authenticationv1.UserInfo
			// The issuer's keys are fetched when the server has started.
			err := wait.PollUntilContextTimeout(t.Context(), 20*time.Millisecond, 20*time.Second, true, func(context.Context) (ok bool, err error) {
				if got, err = who(t, s, tc.good); apierrors.IsUnauthorized(err) {
					return false, nil
				}
				return err == nil, err
			})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
			for _, claims := range tc.unauthorized {
				if got, err := who(t, s, claims); !apierrors.IsUnauthorized(err) {
					t.Errorf("claims %v: %v, %v", claims, got, err)
				}
			}
		})
	}
}

// The default prefix is the issuer as it is given: bindings that were written for
// another Kubernetes name the same users.
func TestOIDCFlagsDefaults(t *testing.T) {
	for _, tc := range []struct{ url, claim, prefix, want string }{
		{"https://issuer.example.com", "sub", "", "https://issuer.example.com#"},
		{"https://issuer.example.com/", "sub", "", "https://issuer.example.com/#"},
		{"https://issuer.example.com", "email", "", ""},
		{"https://issuer.example.com", "sub", "-", ""},
		{"https://issuer.example.com", "sub", "u:", "u:"},
	} {
		o := apiserverFlags{oidcURL: tc.url, oidcClient: "skiff", oidcUser: tc.claim, oidcUserPrefix: tc.prefix}
		j, err := o.oidc()
		if err != nil {
			t.Fatal(err)
		}
		if got := *j.ClaimMappings.Username.Prefix; got != tc.want {
			t.Errorf("%+v: prefix %q", tc, got)
		}
	}
}
