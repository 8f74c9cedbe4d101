package serviceaccount

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/utils/ptr"

	"skiff/apiserver/request"
)

const issuer = "https://kubernetes.default.svc.cluster.local"

func meta(ns, name, uid string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: ns, Name: name, UID: types.UID("uid-" + uid)}
}

func ecKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// Covers: api.authn-tokens
func TestTokens(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range []struct {
		name string
		key  crypto.Signer
	}{{"ecdsa", ecKey(t)}, {"rsa", rsaKey}} {
		t.Run(k.name, func(t *testing.T) { testTokens(t, k.key) })
	}
}

func testTokens(t *testing.T, key crypto.Signer) {
	start := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	sa := &corev1.ServiceAccount{ObjectMeta: meta("ns", "sa", "sa")}
	pod := &corev1.Pod{ObjectMeta: meta("ns", "pod", "pod"), Spec: corev1.PodSpec{ServiceAccountName: "sa", NodeName: "n1"}}
	foreign := &corev1.Pod{ObjectMeta: meta("ns", "foreign", "foreign"), Spec: corev1.PodSpec{ServiceAccountName: "else"}}
	node := &corev1.Node{ObjectMeta: meta("", "n1", "n1")}
	secret := &corev1.Secret{ObjectMeta: meta("ns", "sec", "sec")}
	signer, err := NewSigner(key, issuer)
	if err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		name      string
		spec      authenticationv1.TokenRequestSpec
		audiences []string
		after     time.Duration
		drop      string // object removed before use
		wantErr   string // of the request
		authErr   string
		noOpinion bool
		extra     map[string][]string
	}{
		{name: "plain"},
		{name: "bound to a pod", spec: authenticationv1.TokenRequestSpec{BoundObjectRef: &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: "pod", UID: "uid-pod"}},
			extra: map[string][]string{
				"authentication.kubernetes.io/pod-name": {"pod"}, "authentication.kubernetes.io/pod-uid": {"uid-pod"},
				"authentication.kubernetes.io/node-name": {"n1"}, "authentication.kubernetes.io/node-uid": {"uid-n1"},
			}},
		{name: "bound to a pod that has gone", spec: authenticationv1.TokenRequestSpec{BoundObjectRef: &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: "pod"}}, drop: "pod", authErr: "service account token has been invalidated"},
		{name: "bound to a node", spec: authenticationv1.TokenRequestSpec{BoundObjectRef: &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Node", Name: "n1"}},
			extra: map[string][]string{"authentication.kubernetes.io/node-name": {"n1"}, "authentication.kubernetes.io/node-uid": {"uid-n1"}}},
		{name: "bound to a node that has gone", spec: authenticationv1.TokenRequestSpec{BoundObjectRef: &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Node", Name: "n1"}}, drop: "node", authErr: "service account token has been invalidated"},
		{name: "bound to a secret that has gone", spec: authenticationv1.TokenRequestSpec{BoundObjectRef: &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Secret", Name: "sec"}}, drop: "secret", authErr: "service account token has been invalidated"},
		{name: "another account's pod", spec: authenticationv1.TokenRequestSpec{BoundObjectRef: &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: "foreign"}}, wantErr: `cannot bind token for serviceaccount "sa" to pod running with different serviceaccount name.`},
		{name: "wrong uid", spec: authenticationv1.TokenRequestSpec{BoundObjectRef: &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: "pod", UID: "x"}}, wantErr: "does not match the UID in record"},
		{name: "no name", spec: authenticationv1.TokenRequestSpec{BoundObjectRef: &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod"}}, wantErr: "Name parameter required."},
		{name: "unknown kind", spec: authenticationv1.TokenRequestSpec{BoundObjectRef: &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "ConfigMap", Name: "x"}}, wantErr: "cannot bind token to object of type /v1, Kind=ConfigMap"},
		{name: "too short", spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: ptr.To[int64](10)}, wantErr: "spec.expirationSeconds: Invalid value: 10: may not specify a duration less than 10 minutes"},
		{name: "expired", after: time.Hour + time.Minute, authErr: "service account token has expired"},
		{name: "account has gone", drop: "sa", authErr: `serviceaccounts "sa" not found`},
		{name: "other audience", spec: authenticationv1.TokenRequestSpec{Audiences: []string{"vault"}}, authErr: "is invalid for the target audiences"},
		{name: "other audience asked for", spec: authenticationv1.TokenRequestSpec{Audiences: []string{"vault"}}, audiences: []string{"vault"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			ctx := context.Background()
			objs := []runtime.Object{sa, pod, foreign, node, secret}
			client := fake.NewSimpleClientset(objs...)
			get := NewGetter(client, informers.NewSharedInformerFactory(client, 0))
			clock := start
			now := func() time.Time { return clock }
			iss, err := NewIssuer(IssuerConfig{Signer: signer, Getter: get, Now: now, ExtendExpiration: true})
			if err != nil {
				t.Fatal(err)
			}
			tr, err := iss.TokenRequest(ctx, "ns", "sa", &authenticationv1.TokenRequest{Spec: c.spec})
			if c.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), c.wantErr) {
					t.Fatalf("error %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := tr.Status.ExpirationTimestamp.Sub(start); got != time.Hour {
				t.Errorf("expires after %s", got)
			}
			var uses Uses
			v, err := NewValidator(ValidatorConfig{Issuers: []string{issuer}, Keys: []PublicKey{signer.PublicKey()}, Getter: get, Lookup: true, Now: now, Uses: &uses})
			if err != nil {
				t.Fatal(err)
			}
			switch c.drop {
			case "pod":
				err = client.CoreV1().Pods("ns").Delete(ctx, "pod", metav1.DeleteOptions{})
			case "node":
				err = client.CoreV1().Nodes().Delete(ctx, "n1", metav1.DeleteOptions{})
			case "secret":
				err = client.CoreV1().Secrets("ns").Delete(ctx, "sec", metav1.DeleteOptions{})
			case "sa":
				err = client.CoreV1().ServiceAccounts("ns").Delete(ctx, "sa", metav1.DeleteOptions{})
			}
			if err != nil {
				t.Fatal(err)
			}
			clock = start.Add(c.after)
			if c.audiences != nil {
				ctx = authenticator.WithAudiences(ctx, c.audiences)
			}
			resp, ok, err := v.AuthenticateToken(ctx, tr.Status.Token)
			if c.authErr != "" {
				if ok || err == nil || !strings.Contains(err.Error(), c.authErr) {
					t.Fatalf("ok %v, error %v", ok, err)
				}
				return
			}
			if err != nil || !ok {
				t.Fatalf("refused: %v", err)
			}
			// The clock is within an hour of the token's making, or past its warning.
			stale, valid := uint64(0), uint64(1)
			if c.after > time.Hour {
				stale, valid = 1, 0
			}
			if diff := cmp.Diff([]uint64{stale, valid, 0}, []uint64{uses.Stale.Load(), uses.Valid.Load(), uses.Legacy.Load()}); diff != "" {
				t.Error("uses of stale, valid and legacy tokens", diff)
			}
			extra := resp.User.GetExtra()
			if id := extra["authentication.kubernetes.io/credential-id"]; len(id) != 1 || !strings.HasPrefix(id[0], "JTI=") {
				t.Errorf("credential id %v", id)
			}
			delete(extra, "authentication.kubernetes.io/credential-id")
			if len(extra) == 0 {
				extra = nil
			}
			want := []any{"system:serviceaccount:ns:sa", "uid-sa", []string{"system:serviceaccounts", "system:serviceaccounts:ns"}, c.extra}
			if diff := cmp.Diff(want, []any{resp.User.GetName(), resp.User.GetUID(), resp.User.GetGroups(), extra}); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Covers: api.authn-tokens
func TestForgedTokens(t *testing.T) {
	ours, theirs := ecKey(t), ecKey(t)
	sa := &corev1.ServiceAccount{ObjectMeta: meta("ns", "sa", "sa")}
	client := fake.NewSimpleClientset(sa)
	s, _ := NewSigner(ours, issuer)
	forger, _ := NewSigner(theirs, issuer)
	stranger, _ := NewSigner(ours, "https://example.com")
	v, err := NewValidator(ValidatorConfig{Issuers: []string{issuer}, Keys: []PublicKey{s.PublicKey()}, Getter: NewGetter(client, informers.NewSharedInformerFactory(client, 0)), Lookup: true})
	if err != nil {
		t.Fatal(err)
	}
	claims := NewClaims(time.Now(), sa, Binding{}, 3600, 0, []string{issuer})
	good, _ := s.Sign(claims)
	forged, _ := forger.Sign(claims)
	foreign, _ := stranger.Sign(claims)
	parts := strings.Split(good, ".")
	cases := []struct {
		name, token string
		ok, err     bool
	}{
		{"good", good, true, false},
		{"signed by another key", forged, false, true},
		{"another issuer", foreign, false, false},
		{"not a token", "abc", false, false},
		{"no signature", parts[0] + "." + parts[1] + ".", false, true},
		{"alg none", "eyJhbGciOiJub25lIn0." + parts[1] + ".", false, true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, ok, err := v.AuthenticateToken(context.Background(), c.token)
			if ok != c.ok || (err != nil) != c.err {
				t.Errorf("ok %v, err %v", ok, err)
			}
		})
	}
}

func TestLegacyTokens(t *testing.T) {
	now := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	signer, _ := NewSigner(ecKey(t), issuer)
	sa := &corev1.ServiceAccount{ObjectMeta: meta("ns", "sa", "sa")}
	cases := []struct {
		name   string
		change func(*corev1.Secret)
		err    string
		note   notes
	}{
		{name: "good", change: func(*corev1.Secret) {}, note: notes{"authentication.k8s.io/legacy-token": "system:serviceaccount:ns:sa", "authentication.k8s.io/legacy-token-manual-secret": "sa-token"}},
		{name: "other content", note: notes{"authentication.k8s.io/legacy-token": "system:serviceaccount:ns:sa"}, change: func(s *corev1.Secret) { s.Data["token"] = []byte("x") }, err: "token does not match server's copy"},
		{name: "marked invalid", change: func(s *corev1.Secret) { s.Labels = map[string]string{InvalidSinceLabel: "2026-01-01"} }, err: "has been marked invalid",
			note: notes{"authentication.k8s.io/legacy-token": "system:serviceaccount:ns:sa", "authentication.k8s.io/legacy-token-invalidated": "sa-token/ns"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			secret := &corev1.Secret{ObjectMeta: meta("ns", "sa-token", "s"), Type: corev1.SecretTypeServiceAccountToken, Data: map[string][]byte{}}
			token, err := signer.SignLegacy(sa, secret)
			if err != nil {
				t.Fatal(err)
			}
			secret.Data["token"] = []byte(token)
			c.change(secret)
			client := fake.NewSimpleClientset(sa, secret)
			var uses Uses
			v, err := NewValidator(ValidatorConfig{Issuers: []string{issuer}, Keys: []PublicKey{signer.PublicKey()}, Lookup: true, Uses: &uses,
				Getter:         NewGetter(client, informers.NewSharedInformerFactory(client, 0)),
				TrackLegacyUse: UseTracker(client, func() time.Time { return now })})
			if err != nil {
				t.Fatal(err)
			}
			noted := notes{}
			_, ok, err := v.AuthenticateToken(request.WithRecord(context.Background(), noted), token)
			if d := cmp.Diff(c.note, noted); d != "" {
				t.Errorf("audit annotations (-want +got):\n%s", d)
			}
			if n := uses.Legacy.Load(); n != 1 {
				t.Errorf("%d uses of legacy tokens, want 1", n)
			}
			if got, _ := client.CoreV1().Secrets("ns").Get(context.Background(), secret.Name, metav1.GetOptions{}); c.name != "other content" && got.Labels[LastUsedLabel] != "2026-05-01" {
				t.Errorf("labels %v do not tell of the use", got.Labels)
			}
			if c.err != "" {
				if ok || err == nil || !strings.Contains(err.Error(), c.err) {
					t.Fatalf("ok %v, err %v", ok, err)
				}
				return
			}
			if !ok || err != nil {
				t.Fatalf("refused: %v", err)
			}
		})
	}
}

// notes are the audit annotations of a request.
type notes map[string]string

func (n notes) Annotate(key, value string)       { n[key] = value }
func (notes) AnnotateBody(string, func() string) {}
func (notes) About(metav1.Object)                {}

// A token that lives on for clients that do not read it anew tells who they are.
func TestStaleTokensAreNoted(t *testing.T) {
	begin := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	signer, _ := NewSigner(ecKey(t), issuer)
	sa := &corev1.ServiceAccount{ObjectMeta: meta("ns", "sa", "sa")}
	pod := &corev1.Pod{ObjectMeta: meta("ns", "p", "p")}
	token, err := signer.Sign(NewClaims(begin, sa, Binding{Pod: pod}, WarnOnlyBoundTokenExpiration, 3607, []string{issuer}))
	if err != nil {
		t.Fatal(err)
	}
	client := fake.NewSimpleClientset(sa, pod)
	for name, tc := range map[string]struct {
		after time.Duration
		want  notes
	}{
		"fresh": {3607 * time.Second, notes{}},
		"stale": {3610 * time.Second, notes{"authentication.k8s.io/stale-token": "subject: system:serviceaccount:ns:sa, seconds after warning threshold: 3"}},
	} {
		v, err := NewValidator(ValidatorConfig{Issuers: []string{issuer}, Keys: []PublicKey{signer.PublicKey()}, Lookup: true,
			Getter: NewGetter(client, informers.NewSharedInformerFactory(client, 0)), Now: func() time.Time { return begin.Add(tc.after) }})
		if err != nil {
			t.Fatal(err)
		}
		got := notes{}
		if _, ok, err := v.AuthenticateToken(request.WithRecord(t.Context(), got), token); !ok || err != nil {
			t.Fatalf("%s: refused: %v", name, err)
		}
		if d := cmp.Diff(tc.want, got); d != "" {
			t.Errorf("%s: audit annotations (-want +got):\n%s", name, d)
		}
	}
}

func TestClaimLayout(t *testing.T) {
	now := time.Unix(1000, 0)
	c := NewClaims(now, &corev1.ServiceAccount{ObjectMeta: meta("ns", "sa", "sa")},
		Binding{Pod: &corev1.Pod{ObjectMeta: meta("ns", "p", "p")}, PodNodeName: "n1"}, 7200, 3607, []string{"a"})
	c.ID = "id"
	got, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"sub":"system:serviceaccount:ns:sa","aud":["a"],"exp":8200,"nbf":1000,"iat":1000,"jti":"id","kubernetes.io":{"namespace":"ns","node":{"name":"n1"},"pod":{"name":"p","uid":"uid-p"},"serviceaccount":{"name":"sa","uid":"uid-sa"},"warnafter":4607}}`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Error(diff)
	}
}

func TestDiscovery(t *testing.T) {
	signer, _ := NewSigner(ecKey(t), issuer)
	d, err := NewDiscovery(issuer, "", "10.0.0.1:6443", []PublicKey{signer.PublicKey()})
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	d.ServeConfig(w, nil)
	want := `{"issuer":"` + issuer + `","jwks_uri":"https://10.0.0.1:6443/openid/v1/jwks","response_types_supported":["id_token"],"subject_types_supported":["public"],"id_token_signing_alg_values_supported":["ES256"]}`
	if diff := cmp.Diff(want, w.Body.String()); diff != "" {
		t.Error(diff)
	}
	w = httptest.NewRecorder()
	d.ServeJWKS(w, nil)
	if !strings.Contains(w.Body.String(), signer.PublicKey().ID) || strings.Contains(w.Body.String(), `"d":`) {
		t.Errorf("jwks %s", w.Body)
	}
	if _, err := NewDiscovery("http://x", "", "", nil); err == nil {
		t.Error("an http issuer was taken")
	}
}
