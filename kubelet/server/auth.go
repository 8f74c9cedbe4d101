package server

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	kubeletv1beta1 "k8s.io/kubelet/config/v1beta1"
)

// gate lets requests through that the API server vouches for. Answers are
// remembered for a while.
type gate struct {
	client   kubernetes.Interface
	kubelet  *kubeletv1beta1.KubeletConfiguration
	nodeName string
	now      func() time.Time

	mu        sync.Mutex // guards what follows
	tokens    map[[32]byte]cached[*caller]
	decisions map[string]cached[decision]
}

type cached[T any] struct {
	value T
	until time.Time
}

type decision struct {
	allowed bool
	reason  string
}

// maxCached bounds what is remembered.
const maxCached = 4096

// caller is who asks.
type caller struct {
	name   string
	uid    string
	groups []string
	extra  map[string]authenticationv1.ExtraValue
}

func newGate(cfg Config) *gate {
	return &gate{client: cfg.Client, kubelet: cfg.Kubelet, nodeName: cfg.NodeName, now: time.Now,
		tokens: map[[32]byte]cached[*caller]{}, decisions: map[string]cached[decision]{}}
}

func (g *gate) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who, err := g.authenticate(r)
		if err != nil || who == nil {
			http.Error(w, "Unauthorized", http.StatusUnauthorized)
			return
		}
		if g.kubelet.Authorization.Mode != kubeletv1beta1.KubeletAuthorizationModeAlwaysAllow {
			verb, subresources := attributes(r)
			allowed := false
			for _, sub := range subresources {
				d, err := g.authorize(r.Context(), who, verb, sub)
				if err != nil {
					http.Error(w, fmt.Sprintf("Authorization error (user=%s, verb=%s, resource=nodes, subresource(s)=%v)", who.name, verb, subresources), http.StatusInternalServerError)
					return
				}
				if allowed = d.allowed; allowed {
					break
				}
			}
			if !allowed {
				http.Error(w, fmt.Sprintf("Forbidden (user=%s, verb=%s, resource=nodes, subresource(s)=%v)", who.name, verb, subresources), http.StatusForbidden)
				return
			}
		}
		// Nothing behind this needs the caller's secret.
		r.Header.Del("Authorization")
		next.ServeHTTP(w, r)
	})
}

// authenticate tries the client's certificate, then its token, then anonymity.
func (g *gate) authenticate(r *http.Request) (*caller, error) {
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		if who, err := g.certificate(r); err == nil {
			return who, nil
		}
	}
	if token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok && *g.kubelet.Authentication.Webhook.Enabled {
		return g.token(r.Context(), strings.TrimSpace(token))
	}
	if *g.kubelet.Authentication.Anonymous.Enabled && r.Header.Get("Authorization") == "" {
		return &caller{name: "system:anonymous", groups: []string{"system:unauthenticated"}}, nil
	}
	return nil, nil
}

func (g *gate) certificate(r *http.Request) (*caller, error) {
	file := g.kubelet.Authentication.X509.ClientCAFile
	if file == "" {
		return nil, errors.New("no client CA")
	}
	// The file is read each time: authorities rotate.
	roots, err := clientCAs(file)
	if err != nil {
		return nil, err
	}
	certs := r.TLS.PeerCertificates
	intermediates := x509.NewCertPool()
	for _, c := range certs[1:] {
		intermediates.AddCert(c)
	}
	_, err = certs[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: intermediates, CurrentTime: g.now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	if err != nil {
		return nil, err
	}
	if certs[0].Subject.CommonName == "" {
		return nil, errors.New("the certificate names no user")
	}
	return &caller{name: certs[0].Subject.CommonName, groups: append(slices.Clone(certs[0].Subject.Organization), "system:authenticated")}, nil
}

func (g *gate) token(ctx context.Context, token string) (*caller, error) {
	if token == "" {
		return nil, nil
	}
	key := sha256.Sum256([]byte(token))
	g.mu.Lock()
	hit, ok := g.tokens[key]
	g.mu.Unlock()
	if ok && g.now().Before(hit.until) {
		return hit.value, nil
	}
	review, err := g.client.AuthenticationV1().TokenReviews().Create(ctx, &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token}}, metav1.CreateOptions{})
	if err != nil {
		return nil, err
	}
	var who *caller
	if review.Status.Authenticated {
		u := review.Status.User
		who = &caller{name: u.Username, uid: u.UID, groups: u.Groups, extra: u.Extra}
		if !slices.Contains(who.groups, "system:authenticated") {
			who.groups = append(slices.Clone(who.groups), "system:authenticated")
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.tokens) >= maxCached {
		clear(g.tokens)
	}
	g.tokens[key] = cached[*caller]{who, g.now().Add(g.kubelet.Authentication.Webhook.CacheTTL.Duration)}
	return who, nil
}

func (g *gate) authorize(ctx context.Context, who *caller, verb, subresource string) (decision, error) {
	key := strings.Join([]string{who.name, who.uid, strings.Join(who.groups, ","), fmt.Sprint(who.extra), verb, subresource}, "\x00")
	g.mu.Lock()
	hit, ok := g.decisions[key]
	g.mu.Unlock()
	if ok && g.now().Before(hit.until) {
		return hit.value, nil
	}
	extra := map[string]authorizationv1.ExtraValue{}
	for k, v := range who.extra {
		extra[k] = authorizationv1.ExtraValue(v)
	}
	review, err := g.client.AuthorizationV1().SubjectAccessReviews().Create(ctx, &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
		User: who.name, UID: who.uid, Groups: who.groups, Extra: extra,
		ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: verb, Version: "v1", Resource: "nodes", Subresource: subresource, Name: g.nodeName},
	}}, metav1.CreateOptions{})
	if err != nil {
		return decision{}, err
	}
	d := decision{review.Status.Allowed, review.Status.Reason}
	ttl := g.kubelet.Authorization.Webhook.CacheUnauthorizedTTL.Duration
	if d.allowed {
		ttl = g.kubelet.Authorization.Webhook.CacheAuthorizedTTL.Duration
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.decisions) >= maxCached {
		clear(g.decisions)
	}
	g.decisions[key] = cached[decision]{d, g.now().Add(ttl)}
	return d, nil
}

// attributes says which subresource of its node a request is about; any of
// those named will do.
func attributes(r *http.Request) (verb string, subresources []string) {
	switch r.Method {
	case http.MethodPost:
		verb = "create"
	case http.MethodPut:
		verb = "update"
	case http.MethodPatch:
		verb = "patch"
	case http.MethodDelete:
		verb = "delete"
	default:
		verb = "get"
	}
	below := func(root string) bool { return r.URL.Path == root || strings.HasPrefix(r.URL.Path, root+"/") }
	switch {
	case below("/stats"):
		return verb, []string{"stats"}
	case below("/metrics"):
		return verb, []string{"metrics"}
	case below("/logs"):
		return verb, []string{"log"}
	case below("/checkpoint"):
		return verb, []string{"checkpoint"}
	case below("/statusz"):
		return verb, []string{"statusz"}
	case below("/flagz"):
		return verb, []string{"flagz"}
	case below("/healthz"):
		return verb, []string{"healthz", "proxy"}
	case below("/pods"), below("/runningpods"):
		return verb, []string{"pods", "proxy"}
	case below("/configz"):
		return verb, []string{"configz", "proxy"}
	}
	return verb, []string{"proxy"}
}
