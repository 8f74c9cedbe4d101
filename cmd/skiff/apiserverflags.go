package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	apiserverapi "k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/pkg/authentication/user"

	"skiff/apiserver"
	"skiff/apiserver/audit"
	"skiff/apiserver/authn"
	"skiff/apiserver/authz"
	"skiff/cluster/featuregates"
	"skiff/kine/history"
)

// apiserverFlags are kube-apiserver's flags that skiff's server has.
type apiserverFlags struct {
	apiserverOwn
	servingFlags

	bind                                  string
	authorization, enable, disable, apis  []string
	admissionConfig                       string
	anonymous, fairness, reload           bool
	inflight, mutating                    int
	timeout                               time.Duration
	nodePorts                             string
	tokenFile, authentication, encryption string
	allowedNames                          []string
	webhookConfig, webhookVersion         string
	webhookTTL                            time.Duration
	authzConfig                           string
	authzHook                             authz.WebhookConfig
	auditPolicy, hookMode                 string
	auditLog                              audit.LogConfig
	auditHook                             audit.WebhookConfig
	throttle, logTruncate, hookTruncate   bool
	issuers                               []string
	tracing                               string
	goaway                                float64
	cors                                  []string
	keyFiles                              []string
	kubeletCA, kubeletCert, kubeletKey    string
	kubeletAddresses                      []string
	oidcURL, oidcClient, oidcCA, oidcUser string
	oidcUserPrefix, oidcGroups            string
	oidcGroupsPrefix                      string
	oidcRequired                          map[string]string
	oidcAlgs                              []string
	gates                                 featuregates.Gates
	keep                                  history.Retention
	quota                                 int64
}

// apiserverOwn are flags of a server that runs alone; in a cluster init and join
// decide them.
type apiserverOwn struct {
	store, certDir, clientCA, cert, key, signingKey, serviceCIDR, advertise string
	etcdCA, etcdCert, etcdKey                                               string
	frontCA, proxyCert, proxyKey                                            string
	port                                                                    int
}

func (o *apiserverOwn) add(f *pflag.FlagSet) {
	f.StringVar(&o.store, "etcd-servers", "sqlite:///var/lib/skiff/store/state.db", "where the state is: sqlite://PATH, postgres://…, or http(s)://… of an etcd")
	// The address of a database may hold a password.
	if store := f.Lookup("etcd-servers"); store != nil {
		store.Annotations = map[string][]string{classified: {"true"}}
	}
	f.StringVar(&o.etcdCA, "etcd-cafile", "", "the authority of an etcd's certificates")
	f.StringVar(&o.etcdCert, "etcd-certfile", "", "what an etcd knows the server by")
	f.StringVar(&o.etcdKey, "etcd-keyfile", "", "its key")
	f.StringVar(&o.frontCA, "requestheader-client-ca-file", "", "the authority of front proxies' certificates: what they say of the user is believed")
	f.StringVar(&o.proxyCert, "proxy-client-cert-file", "", "what aggregated servers know this one by")
	f.StringVar(&o.proxyKey, "proxy-client-key-file", "", "its key")
	f.IntVar(&o.port, "secure-port", 6443, "the port to serve on")
	f.StringVar(&o.advertise, "advertise-address", "", "the address that others reach this server by")
	f.StringVar(&o.certDir, "cert-dir", "/var/run/kubernetes", "where certificates are made when none are given")
	f.StringVar(&o.clientCA, "client-ca-file", "", "the authority of client certificates")
	f.StringVar(&o.cert, "tls-cert-file", "", "the serving certificate")
	f.StringVar(&o.key, "tls-private-key-file", "", "its key")
	f.StringVar(&o.signingKey, "service-account-signing-key-file", "", "the key that signs service-account tokens")
	f.StringVar(&o.serviceCIDR, "service-cluster-ip-range", "10.96.0.0/12", "the range of cluster IPs")
}

// add declares the flags that a cluster's apiServer.extraArgs may set as well.
func (o *apiserverFlags) add(f *pflag.FlagSet) {
	o.servingFlags.add(f)
	f.StringVar(&o.bind, "bind-address", "0.0.0.0", "the address to serve on")
	f.StringVar(&o.tokenFile, "token-auth-file", "", "a CSV of token,user,uid,\"group,group\"")
	f.StringSliceVar(&o.authorization, "authorization-mode", nil, "Node, RBAC, Webhook, AlwaysAllow or AlwaysDeny, in order; default Node,RBAC")
	f.StringVar(&o.authzConfig, "authorization-config", "", "an AuthorizationConfiguration: the authorizers in order, in the place of the other --authorization flags")
	f.StringVar(&o.authzHook.KubeconfigFile, "authorization-webhook-config-file", "", "a kubeconfig of the service that the mode Webhook asks")
	f.StringVar(&o.authzHook.Version, "authorization-webhook-version", "v1beta1", "the version of authorization.k8s.io that it speaks")
	f.DurationVar(&o.authzHook.AuthorizedTTL, "authorization-webhook-cache-authorized-ttl", 5*time.Minute, "how long its yes holds")
	f.DurationVar(&o.authzHook.UnauthorizedTTL, "authorization-webhook-cache-unauthorized-ttl", 30*time.Second, "how long its no holds")
	f.BoolVar(&o.anonymous, "anonymous-auth", true, "let requests without credentials through as system:anonymous")
	f.StringVar(&o.authentication, "authentication-config", "", "an AuthenticationConfiguration: issuers of tokens, and who may be anonymous")
	f.StringVar(&o.webhookConfig, "authentication-token-webhook-config-file", "", "a kubeconfig of the service that is asked about tokens")
	f.StringVar(&o.webhookVersion, "authentication-token-webhook-version", "v1beta1", "the version of authentication.k8s.io that it speaks")
	f.DurationVar(&o.webhookTTL, "authentication-token-webhook-cache-ttl", 2*time.Minute, "how long its answers hold")
	f.StringSliceVar(&o.allowedNames, "requestheader-allowed-names", nil, "common names of front proxies; default front-proxy-client")
	f.StringArrayVar(&o.issuers, "service-account-issuer", nil, "the issuer of service-account tokens; given again, one whose tokens are accepted as well")
	f.StringSliceVar(&o.keyFiles, "service-account-key-file", nil, "keys that verify service-account tokens")
	f.StringVar(&o.nodePorts, "service-node-port-range", "30000-32767", "the range of node ports: FIRST-LAST or FIRST+COUNT")
	f.StringSliceVar(&o.enable, "enable-admission-plugins", nil, "admission plugins to run beside the default ones")
	f.StringSliceVar(&o.disable, "disable-admission-plugins", nil, "default admission plugins not to run")
	f.StringVar(&o.admissionConfig, "admission-control-config-file", "", "an AdmissionConfiguration: the configurations of admission plugins")
	f.StringSliceVar(&o.apis, "runtime-config", nil, "versions to serve: api/all=true, GROUP/VERSION=false")
	f.StringVar(&o.auditPolicy, "audit-policy-file", "", "which requests are recorded; with --audit-log-path")
	f.StringVar(&o.auditLog.Path, "audit-log-path", "", "where they are recorded; - is standard output")
	f.IntVar(&o.auditLog.MaxAge, "audit-log-maxage", 0, "how many days old records are kept; 0 is for ever")
	f.IntVar(&o.auditLog.MaxBackups, "audit-log-maxbackup", 0, "how many old files of records are kept; 0 is all")
	f.IntVar(&o.auditLog.MaxSize, "audit-log-maxsize", 0, "the size in MiB at which the file is put aside; 0 is never")
	f.BoolVar(&o.auditLog.Compress, "audit-log-compress", false, "pack the old files of records with gzip")
	truncation(f, "audit-log", &o.logTruncate, &o.auditLog.Truncate)
	f.StringVar(&o.auditHook.KubeconfigFile, "audit-webhook-config-file", "", "a kubeconfig of the service that they are sent to")
	f.StringVar(&o.hookMode, "audit-webhook-mode", string(audit.Batch), "batch sends records together; blocking sends each before its request goes on, and blocking-strict refuses requests that cannot be recorded")
	f.IntVar(&o.auditHook.Buffer, "audit-webhook-batch-buffer-size", 10000, "how many records wait; more are lost")
	f.IntVar(&o.auditHook.MaxSize, "audit-webhook-batch-max-size", 400, "how many are sent at once")
	f.DurationVar(&o.auditHook.MaxWait, "audit-webhook-batch-max-wait", 30*time.Second, "how long the first of a batch waits")
	f.BoolVar(&o.throttle, "audit-webhook-batch-throttle-enable", true, "bound the batches")
	f.Float32Var(&o.auditHook.QPS, "audit-webhook-batch-throttle-qps", 10, "how many batches a second")
	f.IntVar(&o.auditHook.Burst, "audit-webhook-batch-throttle-burst", 15, "how many at once when there were few")
	f.DurationVar(&o.auditHook.Backoff, "audit-webhook-initial-backoff", 10*time.Second, "the wait before a batch is sent again")
	truncation(f, "audit-webhook", &o.hookTruncate, &o.auditHook.Truncate)
	f.StringVar(&o.tracing, "tracing-config-file", "", "a TracingConfiguration: which OpenTelemetry collector is told of requests, and of how many")
	f.StringSliceVar(&o.cors, "cors-allowed-origins", nil, "expressions of the origins whose pages may read answers, bound to both ends of the host, as //example\\.com(:|$)")
	f.Float64Var(&o.goaway, "goaway-chance", 0, "the part of HTTP/2 requests, up to 0.02, after which clients connect again")
	f.StringVar(&o.encryption, "encryption-provider-config", "", "an EncryptionConfiguration: what is encrypted in the store")
	f.BoolVar(&o.reload, "encryption-provider-config-automatic-reload", false, "read it again when it changes")
	f.IntVar(&o.inflight, "max-requests-inflight", 400, "how many reads are at work at once")
	f.IntVar(&o.mutating, "max-mutating-requests-inflight", 200, "how many writes are at work at once")
	f.DurationVar(&o.timeout, "request-timeout", time.Minute, "when a request that is no stream ends")
	f.BoolVar(&o.fairness, "enable-priority-and-fairness", true, "share the requests at work out by FlowSchemas")
	f.StringVar(&o.kubeletCA, "kubelet-certificate-authority", "", "the authority of kubelets' serving certificates; in a cluster its own, and empty turns the check off")
	f.StringVar(&o.kubeletCert, "kubelet-client-certificate", "", "what kubelets know the server by")
	f.StringVar(&o.kubeletKey, "kubelet-client-key", "", "its key")
	f.StringSliceVar(&o.kubeletAddresses, "kubelet-preferred-address-types", nil, "which of a node's addresses are dialled, in order")
	f.StringVar(&o.oidcURL, "oidc-issuer-url", "", "an issuer of tokens")
	f.StringVar(&o.oidcClient, "oidc-client-id", "", "the audience that they must be for")
	f.StringVar(&o.oidcCA, "oidc-ca-file", "", "the authority of the issuer's certificate")
	f.StringVar(&o.oidcUser, "oidc-username-claim", "sub", "the claim that names the user")
	f.StringVar(&o.oidcUserPrefix, "oidc-username-prefix", "", "what is put before the name; - is nothing")
	f.StringVar(&o.oidcGroups, "oidc-groups-claim", "", "the claim that lists the groups")
	f.StringVar(&o.oidcGroupsPrefix, "oidc-groups-prefix", "", "what is put before each group")
	f.StringSliceVar(&o.oidcAlgs, "oidc-signing-algs", []string{"RS256"}, "the algorithms that it signs with")
	addGates(f, &o.gates)
	o.keep = keepByDefault()
	addKeep(f, &o.keep, &o.quota)
	f.StringToStringVar(&o.oidcRequired, "oidc-required-claim", nil, "claims that a token must have: CLAIM=VALUE")
	addInert(f, inertOfAPIServer())
}

// truncation declares the bounds of a back end's events.
func truncation(f *pflag.FlagSet, backend string, on *bool, c *audit.TruncateConfig) {
	f.BoolVar(on, backend+"-truncate-enabled", false, "cut records that are too large")
	f.IntVar(&c.MaxEventSize, backend+"-truncate-max-event-size", 102400, "the most bytes of a record")
	f.IntVar(&c.MaxBatchSize, backend+"-truncate-max-batch-size", 10485760, "the most bytes that go out at once")
}

// apply gives a server's configuration what the flags say.
func (o *apiserverFlags) apply(c *apiserver.Config) error {
	err := o.servingFlags.apply(c)
	if err != nil {
		return err
	}
	if c.BindAddress, err = netip.ParseAddr(o.bind); err != nil {
		return fmt.Errorf("--bind-address %q: want an IP address: %w", o.bind, err)
	}
	if c.RuntimeConfig, err = switches(o.apis); err != nil {
		return fmt.Errorf("--runtime-config: %w", err)
	}
	var ports utilnet.PortRange
	if err := ports.Set(o.nodePorts); err != nil {
		return fmt.Errorf("--service-node-port-range %q: want FIRST-LAST: %w", o.nodePorts, err)
	}
	c.NodePortMin, c.NodePortMax = ports.Base, ports.Base+ports.Size-1
	c.TokenFile, c.AuthorizationModes, c.AnonymousAuth = o.tokenFile, o.authorization, &o.anonymous
	c.AuthenticationConfigFile, c.RequestHeader.AllowedNames = o.authentication, o.allowedNames
	if len(o.issuers) > 0 {
		c.ServiceAccountIssuer, c.ServiceAccountIssuers = o.issuers[0], o.issuers[1:]
	}
	if o.webhookConfig != "" {
		c.TokenWebhook = &authn.WebhookConfig{KubeconfigFile: o.webhookConfig, Version: o.webhookVersion, CacheTTL: o.webhookTTL}
	}
	c.AuthorizationConfigFile = o.authzConfig
	if o.authzHook.KubeconfigFile != "" {
		c.AuthorizationWebhook = &o.authzHook
	}
	c.Admission = admissionChain(o.admissionConfig, o.enable, o.disable)
	c.MaxRequestsInFlight, c.MaxMutatingInFlight, c.RequestTimeout, c.PriorityAndFairness = o.inflight, o.mutating, o.timeout, &o.fairness
	c.AuditPolicyFile, c.AuditLog, c.EncryptionConfigFile, c.EncryptionReload = o.auditPolicy, o.auditLog, o.encryption, o.reload
	c.AuditWebhook = o.auditHook
	c.TracingConfigFile, c.GoawayChance, c.CORSAllowedOrigins = o.tracing, o.goaway, o.cors
	c.AuditWebhook.Mode = audit.Mode(o.hookMode)
	c.AuditWebhook.Unthrottled = !o.throttle
	if !o.logTruncate {
		c.AuditLog.Truncate = audit.TruncateConfig{}
	}
	if !o.hookTruncate {
		c.AuditWebhook.Truncate = audit.TruncateConfig{}
	}
	for _, text := range o.kubeletAddresses {
		c.KubeletAddressTypes = append(c.KubeletAddressTypes, corev1.NodeAddressType(text))
	}
	if c.OIDC, err = o.oidc(); err != nil {
		return err
	}
	c.OIDCSigningAlgs = o.oidcAlgs
	if c.ServiceAccountKeys, err = publicKeys(o.keyFiles); err != nil {
		return fmt.Errorf("--service-account-key-file: %w", err)
	}
	return nil
}

// kubeletTLS is how kubelets are dialled: with the certificate of the flags, or the
// given one, and checked by the authority of the flag. Where the flag was not set,
// they are checked by the given authority, if it signed their certificates.
func (o *apiserverFlags) kubeletTLS(f *pflag.FlagSet, ca, cert, key string, signed bool) (*tls.Config, error) {
	if o.kubeletCert != "" {
		cert, key = o.kubeletCert, o.kubeletKey
	}
	check := signed
	if f.Changed("kubelet-certificate-authority") {
		if check = o.kubeletCA != ""; check {
			ca = o.kubeletCA
		}
	}
	if ca == "" {
		if cert != "" {
			return nil, errors.New("--kubelet-client-certificate needs --kubelet-certificate-authority")
		}
		return nil, nil
	}
	c, err := clientTLS(ca, cert, key)
	if err != nil {
		return nil, fmt.Errorf("dialling kubelets: %w", err)
	}
	c.InsecureSkipVerify = !check
	if check && !f.Changed("kubelet-certificate-authority") {
		c.VerifyConnection = isNode
	}
	return c, nil
}

// isNode refuses what the cluster's authority signed for other than a node, such as
// an API server's certificate: a Node object can say any address, and this
// server's rights would be used there (CVE-2022-3294).
func isNode(s tls.ConnectionState) error {
	if len(s.PeerCertificates) == 0 || !slices.Contains(s.PeerCertificates[0].Subject.Organization, user.NodesGroup) {
		return fmt.Errorf("the certificate that was shown is not a node's: its organization has no %s; "+
			"where kubelets' certificates are made otherwise, name their authority with --kubelet-certificate-authority", user.NodesGroup)
	}
	return nil
}

// oidc is the issuer of the --oidc-* flags.
func (o *apiserverFlags) oidc() (*apiserverapi.JWTAuthenticator, error) {
	if o.oidcURL == "" {
		return nil, nil
	}
	if o.oidcClient == "" {
		return nil, errors.New("--oidc-client-id is empty: give the audience of the tokens of --oidc-issuer-url")
	}
	j := &apiserverapi.JWTAuthenticator{Issuer: apiserverapi.Issuer{URL: o.oidcURL, Audiences: []string{o.oidcClient}}}
	if o.oidcCA != "" {
		pem, err := readFile(o.oidcCA)
		if err != nil {
			return nil, fmt.Errorf("--oidc-ca-file: %w", err)
		}
		j.Issuer.CertificateAuthority = pem
	}
	prefix := o.oidcUserPrefix
	switch {
	case prefix == "-":
		prefix = ""
	case prefix == "" && o.oidcUser != "email":
		// Names of two issuers must not meet.
		prefix = o.oidcURL + "#"
	}
	j.ClaimMappings.Username = apiserverapi.PrefixedClaimOrExpression{Claim: o.oidcUser, Prefix: &prefix}
	if o.oidcGroups != "" {
		j.ClaimMappings.Groups = apiserverapi.PrefixedClaimOrExpression{Claim: o.oidcGroups, Prefix: &o.oidcGroupsPrefix}
	}
	for claim, value := range o.oidcRequired {
		j.ClaimValidationRules = append(j.ClaimValidationRules, apiserverapi.ClaimValidationRule{Claim: claim, RequiredValue: value})
	}
	return j, nil
}

// keepByDefault is the history that the store keeps. What the cluster writes all
// the time has none.
func keepByDefault() history.Retention {
	return history.Retention{
		Window: 24 * time.Hour, Bytes: 1 << 30, Versions: 100,
		Skip: []string{"/registry/events/", "/registry/leases/", "/registry/masterleases/"},
	}
}

// addKeep adds the flags of what the store keeps.
func addKeep(f *pflag.FlagSet, keep *history.Retention, quota *int64) {
	f.DurationVar(&keep.Window, "history-window", keep.Window, "how long changes are kept for the history commands; 0 keeps none")
	f.Int64Var(&keep.Bytes, "history-max-bytes", keep.Bytes, "what the store may take with its history, above which the oldest goes; 0 is no bound")
	f.Int64Var(&keep.Versions, "history-max-versions", keep.Versions, "how many versions of one object are kept; 0 is no bound")
	f.Int64Var(quota, "store-quota-bytes", 0, "the size of the store at which writes are refused; 0 is none")
}
