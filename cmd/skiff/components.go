package main

import (
	"context"
	"crypto"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"skiff/apiserver"
	"skiff/apiserver/audit"
	"skiff/apiserver/authn"
	"skiff/cluster/pki"
	"skiff/controllers"
	"skiff/kine/backend"
	"skiff/kine/etcdserver"
)

type apiserverFlags struct {
	store, bind, certDir, tokenFile, clientCA, cert, key, issuer, signingKey, serviceCIDR, advertise string
	keyFiles, authorization, enable, disable, runtimeConfig                                          []string
	port, inflight, mutating                                                                         int
	anonymous                                                                                        bool
	auditPolicy, auditLog, encryption                                                                string
}

func apiserverCommand() *cobra.Command {
	var o apiserverFlags
	cmd := &cobra.Command{
		Use: "apiserver", Short: "Run the API server alone", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runAPIServer(cmd.Context(), o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.store, "etcd-servers", "sqlite:///var/lib/skiff/store/state.db", "where the state is: sqlite://PATH, postgres://…, or http(s)://… of an etcd")
	f.IntVar(&o.port, "secure-port", 6443, "the port to serve on")
	f.StringVar(&o.bind, "bind-address", "0.0.0.0", "the address to serve on")
	f.StringVar(&o.advertise, "advertise-address", "", "the address that others reach this server by")
	f.StringVar(&o.certDir, "cert-dir", "/var/run/kubernetes", "where certificates are made when none are given")
	f.StringVar(&o.tokenFile, "token-auth-file", "", "a CSV of token,user,uid,\"group,group\"")
	f.StringVar(&o.clientCA, "client-ca-file", "", "the authority of client certificates")
	f.StringVar(&o.cert, "tls-cert-file", "", "the serving certificate")
	f.StringVar(&o.key, "tls-private-key-file", "", "its key")
	f.StringSliceVar(&o.authorization, "authorization-mode", []string{"Node", "RBAC"}, "Node, RBAC, AlwaysAllow or AlwaysDeny, in order")
	f.BoolVar(&o.anonymous, "anonymous-auth", true, "let requests without credentials through as system:anonymous")
	f.StringVar(&o.issuer, "service-account-issuer", "https://kubernetes.default.svc.cluster.local", "the issuer of service-account tokens")
	f.StringSliceVar(&o.keyFiles, "service-account-key-file", nil, "keys that verify service-account tokens")
	f.StringVar(&o.signingKey, "service-account-signing-key-file", "", "the key that signs service-account tokens")
	f.StringVar(&o.serviceCIDR, "service-cluster-ip-range", "10.96.0.0/12", "the range of cluster IPs")
	f.StringSliceVar(&o.enable, "enable-admission-plugins", nil, "admission plugins to run beside the default ones")
	f.StringSliceVar(&o.disable, "disable-admission-plugins", nil, "default admission plugins not to run")
	f.StringSliceVar(&o.runtimeConfig, "runtime-config", nil, "versions to serve: api/all=true, GROUP/VERSION=false")
	f.StringVar(&o.auditPolicy, "audit-policy-file", "", "which requests are recorded; with --audit-log-path")
	f.StringVar(&o.auditLog, "audit-log-path", "", "where they are recorded; - is standard output")
	f.StringVar(&o.encryption, "encryption-provider-config", "", "an EncryptionConfiguration: what is encrypted in the store")
	f.IntVar(&o.inflight, "max-requests-inflight", 400, "how many reads are at work at once")
	f.IntVar(&o.mutating, "max-mutating-requests-inflight", 200, "how many writes are at work at once")
	return cmd
}

func runAPIServer(ctx context.Context, o apiserverFlags) error {
	store, err := backend.New(o.store, backend.Options{})
	if err != nil {
		return err
	}
	bind, err := netip.ParseAddr(o.bind)
	if err != nil {
		return fmt.Errorf("--bind-address %q: want an IP address: %w", o.bind, err)
	}
	cidrs, err := prefixes(o.serviceCIDR)
	if err != nil {
		return fmt.Errorf("--service-cluster-ip-range: %w", err)
	}
	rc, err := switches(o.runtimeConfig)
	if err != nil {
		return fmt.Errorf("--runtime-config: %w", err)
	}
	cfg := apiserver.Config{
		Store: store, BindAddress: bind, Port: o.port, TokenFile: o.tokenFile, ServiceAccountIssuer: o.issuer, AuthorizationModes: o.authorization,
		AnonymousAuth: &o.anonymous, ServiceCIDRs: cidrs, Admission: admissionChain(o.enable, o.disable), RuntimeConfig: rc,
		MaxRequestsInFlight: o.inflight, MaxMutatingInFlight: o.mutating,
		AuditPolicyFile: o.auditPolicy, AuditLog: audit.LogConfig{Path: o.auditLog}, EncryptionConfigFile: o.encryption,
	}
	if o.advertise != "" {
		if cfg.AdvertiseAddress, err = netip.ParseAddr(o.advertise); err != nil {
			return fmt.Errorf("--advertise-address %q: want an IP address: %w", o.advertise, err)
		}
	}
	if err := credentials(&cfg, o); err != nil {
		return err
	}
	server, err := apiserver.New(cfg)
	if err != nil {
		return err
	}
	return supervise(ctx, []part{
		{"store", true, store.Run},
		{"apiserver", true, func(ctx context.Context) error {
			select {
			case <-store.Ready():
				return server.Run(ctx)
			case <-ctx.Done():
				return nil
			}
		}},
		{"ready", false, func(ctx context.Context) error {
			select {
			case <-server.Ready():
				slog.Info("apiserver is ready", "address", server.Addr().String())
			case <-ctx.Done():
			}
			<-ctx.Done()
			return nil
		}},
	})
}

// credentials reads the certificates and keys, and makes in --cert-dir those
// that are not given.
func credentials(cfg *apiserver.Config, o apiserverFlags) error {
	cert, key, signing := o.cert, o.key, o.signingKey
	if cert == "" || signing == "" {
		names := []string{"localhost"}
		if host, err := os.Hostname(); err == nil {
			names = append(names, host)
		}
		if o.advertise != "" {
			names = append(names, o.advertise)
		}
		if err := pki.Ensure(o.certDir, pki.Config{APIServerNames: names}, time.Now()); err != nil {
			return fmt.Errorf("--cert-dir: %w", err)
		}
		if cert == "" {
			cert, key = filepath.Join(o.certDir, "apiserver.crt"), filepath.Join(o.certDir, "apiserver.key")
		}
		if signing == "" {
			signing = filepath.Join(o.certDir, "sa.key")
		}
		if o.clientCA == "" {
			o.clientCA = filepath.Join(o.certDir, "ca.crt")
		}
	}
	r, err := pki.NewReloading(cert, key)
	if err != nil {
		return err
	}
	cfg.Certificate = func(h *tls.ClientHelloInfo) (*tls.Certificate, error) { return r.GetCertificate(h) }
	var signer crypto.Signer
	if signer, err = pki.LoadKey(signing); err != nil {
		return fmt.Errorf("--service-account-signing-key-file: %w", err)
	}
	cfg.ServiceAccountKey = signer
	if o.clientCA != "" {
		if cfg.ClientCA, err = authn.NewCABundle(o.clientCA); err != nil {
			return fmt.Errorf("--client-ca-file: %w", err)
		}
	}
	return nil
}

func schedulerCommand() *cobra.Command {
	var kubeconfig string
	var elect bool
	cmd := &cobra.Command{
		Use: "scheduler", Short: "Run the scheduler alone", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			api, err := workerConfig(kubeconfig)
			if err != nil {
				return err
			}
			api.UserAgent = "kube-scheduler"
			host, err := os.Hostname()
			if err != nil {
				return err
			}
			return runScheduler(cmd.Context(), api, elect, fmt.Sprintf("%s_%d", host, os.Getpid()))
		},
	}
	cmd.Flags().StringVar(&kubeconfig, "kubeconfig", "/etc/kubernetes/scheduler.conf", "how the API is reached")
	cmd.Flags().BoolVar(&elect, "leader-elect", true, "work only while holding the Lease")
	return cmd
}

func controllersCommand() *cobra.Command {
	var kubeconfig, clusterCIDR, serviceCIDR, rootCA, signCert, signKey, saKey string
	var elect, allocate bool
	var names []string
	cmd := &cobra.Command{
		Use: "controllers", Short: "Run the controllers alone", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			api, err := workerConfig(kubeconfig)
			if err != nil {
				return err
			}
			api.UserAgent = "kube-controller-manager"
			host, err := os.Hostname()
			if err != nil {
				return err
			}
			pods, err := prefixes(clusterCIDR)
			if err != nil {
				return fmt.Errorf("--cluster-cidr: %w", err)
			}
			services, err := prefixes(serviceCIDR)
			if err != nil {
				return fmt.Errorf("--service-cluster-ip-range: %w", err)
			}
			m, err := controllers.New(controllers.Config{
				RESTFor: same(api), Controllers: names, LeaderElect: elect, Lease: controllers.Lease{Identity: fmt.Sprintf("%s_%d", host, os.Getpid())},
				AllocateNodeCIDRs: allocate, ClusterCIDRs: pods, ServiceCIDRs: services, RootCAFile: rootCA,
				ClusterSigningCertFile: signCert, ClusterSigningKeyFile: signKey, ServiceAccountKeyFile: saKey,
			})
			if err != nil {
				return err
			}
			return m.Run(cmd.Context())
		},
	}
	f := cmd.Flags()
	f.StringVar(&kubeconfig, "kubeconfig", "/etc/kubernetes/controller-manager.conf", "how the API is reached")
	f.BoolVar(&elect, "leader-elect", true, "work only while holding the Lease")
	f.StringSliceVar(&names, "controllers", []string{"*"}, "which controllers run: *, NAME, -NAME")
	f.BoolVar(&allocate, "allocate-node-cidrs", false, "give each node a part of --cluster-cidr")
	f.StringVar(&clusterCIDR, "cluster-cidr", "", "the pods' range")
	f.StringVar(&serviceCIDR, "service-cluster-ip-range", "", "the cluster IPs' range")
	f.StringVar(&rootCA, "root-ca-file", "", "published to every namespace")
	f.StringVar(&signCert, "cluster-signing-cert-file", "", "the authority that signs certificates")
	f.StringVar(&signKey, "cluster-signing-key-file", "", "its key")
	f.StringVar(&saKey, "service-account-private-key-file", "", "signs tokens that are kept in Secrets")
	return cmd
}

func kineCommand() *cobra.Command {
	var endpoint string
	var listen []string
	var certFile, keyFile, caFile string
	cmd := &cobra.Command{
		Use: "kine", Short: "Serve the store as etcd v3", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			store, err := backend.New(endpoint, backend.Options{})
			if err != nil {
				return err
			}
			c := etcdserver.Config{Store: store, Listen: listen}
			if certFile != "" {
				t, err := serverTLS(certFile, keyFile, caFile)
				if err != nil {
					return err
				}
				c.TLS = t
			}
			face, err := etcdserver.New(c)
			if err != nil {
				return err
			}
			return supervise(cmd.Context(), []part{
				{"store", true, store.Run},
				{"etcd", true, func(ctx context.Context) error {
					select {
					case <-store.Ready():
						return face.Run(ctx)
					case <-ctx.Done():
						return nil
					}
				}},
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&endpoint, "endpoint", "sqlite:///var/lib/skiff/store/state.db", "the store: sqlite://PATH, postgres://…")
	f.StringSliceVar(&listen, "listen-address", []string{"http://127.0.0.1:2379"}, "where to serve: http(s)://HOST:PORT or unix://PATH")
	f.StringVar(&certFile, "server-cert-file", "", "the serving certificate")
	f.StringVar(&keyFile, "server-key-file", "", "its key")
	f.StringVar(&caFile, "client-ca-file", "", "the authority that clients must be of")
	return cmd
}

// serverTLS serves a certificate; with an authority clients must show one too.
func serverTLS(certFile, keyFile, caFile string) (*tls.Config, error) {
	r, err := pki.NewReloading(certFile, keyFile)
	if err != nil {
		return nil, err
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: r.GetCertificate}
	if caFile != "" {
		b, err := authn.NewCABundle(caFile)
		if err != nil {
			return nil, err
		}
		c.ClientCAs, c.ClientAuth = b.Pool(), tls.RequireAndVerifyClientCert
	}
	return c, nil
}
