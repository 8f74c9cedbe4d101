package authn

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"time"

	"k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/group"
	"k8s.io/apiserver/pkg/authentication/request/anonymous"
	"k8s.io/apiserver/pkg/authentication/request/bearertoken"
	"k8s.io/apiserver/pkg/authentication/request/headerrequest"
	"k8s.io/apiserver/pkg/authentication/request/union"
	"k8s.io/apiserver/pkg/authentication/request/websocket"
	"k8s.io/apiserver/pkg/authentication/token/tokenfile"
	"k8s.io/apiserver/pkg/authentication/user"
	corev1listers "k8s.io/client-go/listers/core/v1"

	"skiff/apiserver/request"
	"skiff/apiserver/serviceaccount"
)

// Roots are the certificates that sign client certificates; CABundle is one.
type Roots interface {
	VerifyOptions() (x509.VerifyOptions, bool)
}

// RequestHeaderConfig is the front proxy whose headers are believed.
type RequestHeaderConfig struct {
	// ClientCA signs the proxy's client certificate. Required.
	ClientCA Roots
	// AllowedNames are its common names; empty is any.
	AllowedNames []string
	// Header names; defaults X-Remote-User, X-Remote-Group, X-Remote-Extra-, and none for UIDs.
	UsernameHeaders, UIDHeaders, GroupHeaders, ExtraHeaderPrefixes []string
}

// Config of authentication. Every field may be left out.
type Config struct {
	// ClientCA turns on client certificates.
	ClientCA Roots
	// RequestHeader turns on an authenticating front proxy.
	RequestHeader *RequestHeaderConfig
	// TokenFile is a CSV of token,user,uid,"group,group".
	TokenFile string
	// ServiceAccounts validates service-account tokens.
	ServiceAccounts *serviceaccount.ValidatorConfig
	// BootstrapTokens lists the Secrets of kube-system.
	BootstrapTokens corev1listers.SecretNamespaceLister
	// ConfigFile is a structured AuthenticationConfiguration; it is reloaded.
	ConfigFile string
	// JWT is one issuer given by the --oidc-* flags; not with ConfigFile.
	JWT *apiserver.JWTAuthenticator
	// SigningAlgs of JWT; nil is RS256.
	SigningAlgs []string
	// Webhook asks a remote TokenReview service.
	Webhook *WebhookConfig
	// APIAudiences are the audiences of this server; the first service-account issuer when empty.
	APIAudiences []string
	// Anonymous lets requests without credentials through as system:anonymous;
	// ConfigFile may say more. Nil is off.
	Anonymous *apiserver.AnonymousAuthConfig
}

// Authenticator answers who makes a request.
type Authenticator struct {
	request authenticator.Request
	tokens  []authenticator.Token
	jwt     *jwtIssuers
	// audiences of this server.
	audiences authenticator.Audiences
}

// New wires the authenticators in upstream's order: in-process identity, front
// proxy, client certificate, bearer tokens, anonymous.
func New(c Config) (*Authenticator, error) {
	a := &Authenticator{audiences: c.APIAudiences}
	if len(a.audiences) == 0 && c.ServiceAccounts != nil {
		a.audiences = c.ServiceAccounts.Audiences
		if len(a.audiences) == 0 && len(c.ServiceAccounts.Issuers) > 0 {
			a.audiences = c.ServiceAccounts.Issuers[:1]
		}
	}
	var requests []authenticator.Request
	if c.RequestHeader != nil {
		r, err := requestHeader(*c.RequestHeader)
		if err != nil {
			return nil, err
		}
		requests = append(requests, authenticator.WrapAudienceAgnosticRequest(a.audiences, r))
	}
	if c.ClientCA != nil {
		requests = append(requests, newCertificates(c.ClientCA))
	}
	anon := c.Anonymous
	if err := a.addTokens(&c, &anon); err != nil {
		return nil, err
	}
	// A review of a token says the same of its user as the request that brings it.
	for i, t := range a.tokens {
		a.tokens[i] = group.NewTokenGroupAdder(t, []string{user.AllAuthenticated})
	}
	if len(a.tokens) > 0 {
		t := authenticator.TokenFunc(a.AuthenticateToken)
		requests = append(requests, bearertoken.New(t), websocket.NewProtocolAuthenticator(t))
	}
	// Certificates and tokens put their user into system:authenticated; anonymous stays outside.
	a.request = group.NewAuthenticatedGroupAdder(union.New(requests...))
	if anon != nil && anon.Enabled {
		a.request = union.NewFailOnError(a.request, anonymous.NewAuthenticator(anon.Conditions))
	}
	return a, nil
}

func requestHeader(c RequestHeaderConfig) (authenticator.Request, error) {
	if c.ClientCA == nil {
		return nil, errors.New("request header authentication: no client CA; set --requestheader-client-ca-file")
	}
	or := func(v []string, def string) headerrequest.StaticStringSlice {
		if len(v) == 0 {
			return headerrequest.StaticStringSlice{def}
		}
		return v
	}
	names := or(c.UsernameHeaders, "X-Remote-User")
	proxy := headerrequest.NewDynamicVerifyOptionsSecure(c.ClientCA.VerifyOptions, headerrequest.StaticStringSlice(c.AllowedNames),
		names, headerrequest.StaticStringSlice(c.UIDHeaders),
		or(c.GroupHeaders, "X-Remote-Group"), or(c.ExtraHeaderPrefixes, "X-Remote-Extra-"))
	// A request that names no user comes from no proxy: its certificate need not be
	// checked against the proxies' authority.
	return authenticator.RequestFunc(func(r *http.Request) (*authenticator.Response, bool, error) {
		for _, name := range names {
			if r.Header.Get(name) != "" {
				return proxy.AuthenticateRequest(r)
			}
		}
		return nil, false, nil
	}), nil
}

// addTokens wires the token authenticators; a structured configuration may
// replace the anonymous settings.
func (a *Authenticator) addTokens(c *Config, anon **apiserver.AnonymousAuthConfig) error {
	agnostic := func(t authenticator.Token) authenticator.Token {
		return authenticator.WrapAudienceAgnosticToken(a.audiences, t)
	}
	if c.TokenFile != "" {
		t, err := tokenfile.NewCSV(c.TokenFile)
		if err != nil {
			return fmt.Errorf("token auth file %s: %w", c.TokenFile, err)
		}
		a.tokens = append(a.tokens, agnostic(t))
	}
	var issuers []string
	if c.ServiceAccounts != nil {
		cfg := *c.ServiceAccounts
		if len(cfg.Audiences) == 0 {
			cfg.Audiences = a.audiences
		}
		v, err := serviceaccount.NewValidator(cfg)
		if err != nil {
			return err
		}
		issuers = cfg.Issuers
		a.tokens = append(a.tokens, v)
	}
	if c.BootstrapTokens != nil {
		a.tokens = append(a.tokens, agnostic(&bootstrapTokens{secrets: c.BootstrapTokens, now: time.Now}))
	}
	switch {
	case c.ConfigFile != "" && c.JWT != nil:
		return errors.New("--authentication-config cannot be used together with --oidc-* flags")
	case c.ConfigFile != "":
		cfg, _, err := LoadConfiguration(c.ConfigFile)
		if err != nil {
			return err
		}
		if cfg.Anonymous != nil {
			*anon = cfg.Anonymous
		}
		a.jwt = &jwtIssuers{disallowed: issuers, load: func() (*apiserver.AuthenticationConfiguration, []byte, error) {
			return LoadConfiguration(c.ConfigFile)
		}}
	case c.JWT != nil:
		cfg := &apiserver.AuthenticationConfiguration{JWT: []apiserver.JWTAuthenticator{*c.JWT}}
		algs := c.SigningAlgs
		if len(algs) == 0 {
			algs = []string{"RS256"}
		}
		a.jwt = &jwtIssuers{disallowed: issuers, signing: algs, load: func() (*apiserver.AuthenticationConfiguration, []byte, error) {
			return cfg, nil, nil
		}}
	}
	if a.jwt != nil {
		a.tokens = append(a.tokens, agnostic(a.jwt))
	}
	if c.Webhook != nil {
		w, err := newTokenWebhook(*c.Webhook, a.audiences)
		if err != nil {
			return err
		}
		ttl := c.Webhook.CacheTTL
		if ttl == 0 {
			ttl = 2 * time.Minute
		}
		a.tokens = append(a.tokens, newCachedTokens(w, ttl, ttl))
	}
	return nil
}

// AuthenticateRequest implements authenticator.Request.
func (a *Authenticator) AuthenticateRequest(req *http.Request) (*authenticator.Response, bool, error) {
	if u, ok := request.InProcessUser(req.Context()); ok {
		return &authenticator.Response{User: u}, true, nil
	}
	if len(a.audiences) > 0 {
		if _, ok := authenticator.AudiencesFrom(req.Context()); !ok {
			req = req.WithContext(authenticator.WithAudiences(req.Context(), a.audiences))
		}
	}
	return a.request.AuthenticateRequest(req)
}

// AuthenticateToken asks every token authenticator; TokenReview uses it too,
// with the wanted audiences in the context (authenticator.WithAudiences).
func (a *Authenticator) AuthenticateToken(ctx context.Context, token string) (*authenticator.Response, bool, error) {
	var errs []error
	for _, t := range a.tokens {
		resp, ok, err := t.AuthenticateToken(ctx, token)
		if ok {
			return resp, true, nil
		}
		if err != nil {
			errs = append(errs, err)
		}
	}
	return nil, false, errors.Join(errs...)
}

// Audiences are those of this API server, for TokenReviews that name none.
func (a *Authenticator) Audiences() []string { return a.audiences }

// Run keeps the OIDC providers; it blocks until ctx ends.
func (a *Authenticator) Run(ctx context.Context) error {
	if a.jwt == nil {
		<-ctx.Done()
		return nil
	}
	return a.jwt.run(ctx)
}
