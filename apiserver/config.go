// Package apiserver is the API server: it wires authentication, authorisation,
// flow control, admission, the generic handlers, discovery and storage into one
// http.Handler and serves it over TLS.
//
// New validates and wires, and starts nothing. Run opens the port, keeps the
// caches and the objects of a fresh cluster, and blocks until its context ends.
package apiserver

import (
	"crypto"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"regexp"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/client-go/rest"

	"skiff/apiserver/admission"
	"skiff/apiserver/audit"
	"skiff/apiserver/authn"
	"skiff/apiserver/authz"
	"skiff/apiserver/encryption"
	"skiff/apiserver/store"
	"skiff/kine"
)

// Deps is what admission plugins are made with.
type Deps struct {
	// Config reaches the server itself, with every right.
	Config *rest.Config
	Core   *Core
}

// Config of a Server.
type Config struct {
	// Store keeps the objects. Required.
	Store kine.Store
	// BindAddress and Port are where it serves; default every address, 6443.
	BindAddress netip.Addr
	Port        int
	// Listener replaces BindAddress and Port.
	Listener net.Listener
	// Certificate is the serving certificate. Required to Run.
	Certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	// AdvertiseAddress is where other machines reach this server.
	AdvertiseAddress netip.Addr
	// ClientCA signs client certificates; FrontProxyCA those of aggregators.
	ClientCA, FrontProxyCA *authn.CABundle
	// TokenFile is a CSV of tokens.
	TokenFile string
	// ServiceAccountKey signs tokens of service accounts, ServiceAccountKeys
	// verify them (the first may be the signing one's public half).
	ServiceAccountKey    crypto.Signer
	ServiceAccountKeys   []any
	ServiceAccountIssuer string
	// ServiceAccountIssuers are further issuers whose tokens are accepted, as those of
	// a former name.
	ServiceAccountIssuers []string
	// APIAudiences are whom tokens for this server are for; default its issuer.
	APIAudiences []string
	// ServiceAccountMaxTokenExpiration caps the life of tokens; 0 is no cap.
	ServiceAccountMaxTokenExpiration time.Duration
	// ServiceAccountExtendTokens lets the tokens of pods that never read them anew live
	// for a year; default true.
	ServiceAccountExtendTokens *bool
	// ServiceAccountJWKSURI is where the issuer's keys are said to be; default here.
	ServiceAccountJWKSURI string
	// AuthorizationModes in order: Node, RBAC, Webhook, AlwaysAllow, AlwaysDeny.
	// Default Node, RBAC.
	AuthorizationModes []string
	// AuthorizationWebhook is the service of the mode Webhook.
	AuthorizationWebhook *authz.WebhookConfig
	// AuthorizationConfigFile is a structured AuthorizationConfiguration, in the place
	// of the two above. It is read again when it changes.
	AuthorizationConfigFile string
	// AnonymousAuth lets requests without credentials through; default true.
	AnonymousAuth *bool
	// ServiceCIDRs are the ranges of cluster IPs, the primary family first.
	ServiceCIDRs []netip.Prefix
	// NodePortMin and NodePortMax bound node ports; default 30000 to 32767.
	NodePortMin, NodePortMax int
	// Admission makes the chain once the server's client exists; nil admits all.
	Admission func(Deps) (admission.Chain, error)
	// KubeletTLS dials kubelets; nil verifies nothing and presents nothing.
	KubeletTLS *tls.Config
	// KubeletAddressTypes are the addresses of a node that are dialled, in order;
	// default InternalIP, ExternalIP, Hostname.
	KubeletAddressTypes []corev1.NodeAddressType
	// Transformer encrypts values at rest, by resource; nil leaves them.
	Transformer func(group, resource string) store.Transformer
	// EncryptionConfigFile is an EncryptionConfiguration: it makes the Transformer.
	EncryptionConfigFile string
	// EncryptionReload reads it again when it changes.
	EncryptionReload bool
	encryption       *encryption.Encryption
	// RuntimeConfig switches versions: "api/all=true", "batch/v1beta1=false".
	RuntimeConfig map[string]bool
	// MaxRequestsInFlight and MaxMutatingInFlight bound requests at work;
	// defaults 400 and 200.
	MaxRequestsInFlight, MaxMutatingInFlight int
	// RequestTimeout ends requests that are no streams; default 60 s.
	RequestTimeout time.Duration
	// MinRequestTimeout is the least time of a watch that asks for none; the longest is
	// twice as long. Default 30 min.
	MinRequestTimeout time.Duration
	// StalledClient is how long a connection may be silent, or take nothing of what
	// it is sent, before it is cut off; default 30 s. Who answers pings is not silent.
	StalledClient time.Duration
	// HeaderTimeout is how long the header of a request may take; default 32 s.
	HeaderTimeout time.Duration
	// EventTTL is how long Events are kept; default 1 h.
	EventTTL time.Duration
	// TLSMinVersion and TLSCipherSuites bound what is spoken; defaults TLS 1.2 and Go's.
	TLSMinVersion   uint16
	TLSCipherSuites []uint16
	// AuditPolicyFile says which requests are recorded, AuditLog and AuditWebhook
	// where: with a policy at least one of them is set.
	AuditPolicyFile string
	AuditLog        audit.LogConfig
	AuditWebhook    audit.WebhookConfig
	// PriorityAndFairness shares the requests at work out by FlowSchemas; default
	// true. Without it only the two bounds above hold.
	PriorityAndFairness *bool
	// RequestHeader are the front proxy's names and headers; defaults
	// front-proxy-client and X-Remote-…. Its CA is the one above.
	RequestHeader authn.RequestHeaderConfig
	// AuthenticationConfigFile is a structured AuthenticationConfiguration.
	AuthenticationConfigFile string
	// OIDC is one issuer of tokens, as the --oidc-* flags describe it.
	OIDC *apiserver.JWTAuthenticator
	// OIDCSigningAlgs are what it signs with; default RS256.
	OIDCSigningAlgs []string
	// ProxyClientCertificate is what aggregated API servers know this one by; nil
	// presents none.
	ProxyClientCertificate func(*tls.CertificateRequestInfo) (*tls.Certificate, error)
	// TokenWebhook asks another service about tokens.
	TokenWebhook *authn.WebhookConfig
	// TracingConfigFile is a TracingConfiguration; without it no span is made.
	TracingConfigFile string
	// GoawayChance is the part of HTTP/2 requests, up to 0.02, after which clients are
	// told to connect again, which spreads them over the servers of a cluster.
	GoawayChance float64
	// CORSAllowedOrigins are expressions of the origins whose pages may read answers.
	CORSAllowedOrigins []string
	corsOrigins        []*regexp.Regexp
	// Flags are what /flagz shows. They hold no secrets.
	Flags map[string]string
	Log   *slog.Logger
}

func (c Config) complete() (Config, error) {
	var errs []error
	if c.Store == nil {
		errs = append(errs, errors.New("apiserver: Store is nil: give the store"))
	}
	if c.Port == 0 {
		c.Port = 6443
	}
	if !c.BindAddress.IsValid() {
		c.BindAddress = netip.IPv6Unspecified()
	}
	if len(c.ServiceCIDRs) == 0 {
		c.ServiceCIDRs = []netip.Prefix{netip.MustParsePrefix("10.96.0.0/12")}
	}
	if c.NodePortMin == 0 {
		c.NodePortMin, c.NodePortMax = 30000, 32767
	}
	if c.NodePortMin > c.NodePortMax {
		errs = append(errs, fmt.Errorf("apiserver: node ports %d to %d: the first is above the last", c.NodePortMin, c.NodePortMax))
	}
	if c.MaxRequestsInFlight == 0 {
		c.MaxRequestsInFlight = 400
	}
	if c.MaxMutatingInFlight == 0 {
		c.MaxMutatingInFlight = 200
	}
	if c.StalledClient == 0 {
		c.StalledClient = 30 * time.Second
	}
	if c.HeaderTimeout == 0 {
		c.HeaderTimeout = 32 * time.Second
	}
	if c.EventTTL == 0 {
		c.EventTTL = time.Hour
	}
	if c.EventTTL < time.Second {
		errs = append(errs, fmt.Errorf("apiserver: Events are kept for %v: give a second or more", c.EventTTL))
	}
	if c.TLSMinVersion == 0 {
		c.TLSMinVersion = tls.VersionTLS12
	}
	if c.RequestTimeout == 0 {
		c.RequestTimeout = time.Minute
	}
	var err error
	if c.corsOrigins, err = corsOrigins(c.CORSAllowedOrigins); err != nil {
		errs = append(errs, err)
	}
	if c.GoawayChance < 0 || c.GoawayChance > 0.02 {
		errs = append(errs, errors.New("apiserver: --goaway-chance can not be less than 0 or greater than 0.02"))
	}
	if (c.AuditPolicyFile == "") != (c.AuditLog.Path == "" && c.AuditWebhook.KubeconfigFile == "") {
		errs = append(errs, errors.New("apiserver: audit needs a policy and a place: give --audit-policy-file, and --audit-log-path or --audit-webhook-config-file"))
	}
	if c.EncryptionConfigFile != "" {
		log := c.Log
		if log == nil {
			log = slog.Default()
		}
		e, err := encryption.Load(c.EncryptionConfigFile, log)
		if err != nil {
			errs = append(errs, fmt.Errorf("apiserver: %w", err))
		} else {
			c.encryption, c.Transformer = e, e.For
		}
	}
	h := &c.RequestHeader
	for at, name := range map[*[]string]string{
		&h.AllowedNames: "front-proxy-client", &h.UsernameHeaders: "X-Remote-User",
		&h.GroupHeaders: "X-Remote-Group", &h.ExtraHeaderPrefixes: "X-Remote-Extra-",
	} {
		if len(*at) == 0 {
			*at = []string{name}
		}
	}
	if c.FrontProxyCA != nil {
		h.ClientCA = c.FrontProxyCA
	}
	if c.ServiceAccountIssuer == "" {
		c.ServiceAccountIssuer = "https://kubernetes.default.svc.cluster.local"
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	return c, errors.Join(errs...)
}

// Loopback is the server itself, for its own clients.
func Loopback() user.Info {
	return &user.DefaultInfo{Name: "system:apiserver", UID: "skiff", Groups: []string{user.SystemPrivilegedGroup, user.AllAuthenticated}}
}
