package main

import (
	"context"
	"crypto"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"skiff/apiserver"
	"skiff/apiserver/authn"
	"skiff/cluster/pki"
	"skiff/cluster/setup"
	"skiff/controllers"
	"skiff/kine/backend"
	"skiff/kine/etcdserver"
)

func apiserverCommand() *cobra.Command {
	var o apiserverFlags
	cmd := &cobra.Command{
		Use: "apiserver", Short: "Run the API server alone", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runAPIServer(cmd.Context(), cmd.Flags(), &o) },
	}
	o.apiserverOwn.add(cmd.Flags())
	o.add(cmd.Flags())
	return cmd
}

func runAPIServer(ctx context.Context, flags *pflag.FlagSet, o *apiserverFlags) error {
	opts := backend.Options{Keep: o.keep, QuotaBytes: o.quota}
	if o.etcdCA != "" {
		var err error
		if opts.TLS, err = clientTLS(o.etcdCA, o.etcdCert, o.etcdKey); err != nil {
			return fmt.Errorf("--etcd-cafile, --etcd-certfile, --etcd-keyfile: %w", err)
		}
	}
	store, err := backend.New(o.store, opts)
	if err != nil {
		return err
	}
	o.gates.Warn(slog.Default(), "apiServer")
	warnInert(flags, slog.Default())
	cidrs, err := prefixes(o.serviceCIDR)
	if err != nil {
		return fmt.Errorf("--service-cluster-ip-range: %w", err)
	}
	cfg := apiserver.Config{Store: store, Port: o.port, ServiceAccountIssuer: "https://kubernetes.default.svc.cluster.local", ServiceCIDRs: cidrs, Flags: shown(flags)}
	if err := credentials(&cfg, &o.apiserverOwn); err != nil {
		return err
	}
	if err := o.apply(&cfg); err != nil {
		return err
	}
	if cfg.KubeletTLS, err = o.kubeletTLS(flags, "", "", "", true); err != nil {
		return err
	}
	if cfg.AdvertiseAddress, err = advertised(o.advertise, cfg.BindAddress, setup.DefaultAddress()); err != nil {
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

// advertised is where other machines reach the server: where it is told, else
// where it listens, else, with an address that only this machine has or with any,
// the machine's own, and loopback where the machine has none.
func advertised(told string, bind netip.Addr, own net.IP) (netip.Addr, error) {
	if told != "" {
		a, err := netip.ParseAddr(told)
		if err != nil {
			return a, fmt.Errorf("--advertise-address %q: want an IP address: %w", told, err)
		}
		return a, nil
	}
	if bind.IsValid() && !bind.IsUnspecified() && !bind.IsLoopback() {
		return bind, nil
	}
	if a, ok := netip.AddrFromSlice(own); ok {
		return a.Unmap(), nil
	}
	return netip.AddrFrom4([4]byte{127, 0, 0, 1}), nil
}

// credentials reads the certificates and keys, and makes in --cert-dir those
// that are not given.
func credentials(cfg *apiserver.Config, o *apiserverOwn) error {
	cert, key, signing, clientCA := o.cert, o.key, o.signingKey, o.clientCA
	if cert == "" && foreign(o.certDir) {
		cert, key = filepath.Join(o.certDir, "apiserver.crt"), filepath.Join(o.certDir, "apiserver.key")
	}
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
		if clientCA == "" {
			clientCA = filepath.Join(o.certDir, "ca.crt")
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
	if clientCA != "" {
		if cfg.ClientCA, err = authn.NewCABundle(clientCA); err != nil {
			return fmt.Errorf("--client-ca-file: %w", err)
		}
	}
	if o.frontCA != "" {
		if cfg.FrontProxyCA, err = authn.NewCABundle(o.frontCA); err != nil {
			return fmt.Errorf("--requestheader-client-ca-file: %w", err)
		}
	}
	if o.proxyCert != "" {
		proxy, err := pki.NewReloading(o.proxyCert, o.proxyKey)
		if err != nil {
			return fmt.Errorf("--proxy-client-cert-file, --proxy-client-key-file: %w", err)
		}
		cfg.ProxyClientCertificate = proxy.GetClientCertificate
	}
	return nil
}

// foreign tells whether a folder holds a serving certificate without an authority
// that could have made it here: kube-apiserver serves with what it finds there.
func foreign(dir string) bool {
	has := func(name string) bool { _, err := os.Stat(filepath.Join(dir, name)); return err == nil }
	return has("apiserver.crt") && has("apiserver.key") && !has("ca.key")
}

func schedulerCommand() *cobra.Command {
	var o schedulerFlags
	cmd := &cobra.Command{
		Use: "scheduler", Short: "Run the scheduler alone", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			api, err := workerConfig(o.kubeconfig)
			if err != nil {
				return err
			}
			o.gates.Warn(slog.Default(), "scheduler")
			warnInert(cmd.Flags(), slog.Default())
			api.UserAgent = "kube-scheduler"
			host, err := os.Hostname()
			if err != nil {
				return err
			}
			return runScheduler(cmd.Context(), api, o.config, o.elect, fmt.Sprintf("%s_%d", host, os.Getpid()))
		},
	}
	o.schedulerOwn.add(cmd.Flags())
	o.add(cmd.Flags())
	return cmd
}

func controllersCommand() *cobra.Command {
	var o controllerFlags
	cmd := &cobra.Command{
		Use: "controllers", Short: "Run the controllers alone", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			api, err := workerConfig(o.kubeconfig)
			if err != nil {
				return err
			}
			o.gates.Warn(slog.Default(), "controllerManager")
			warnInert(cmd.Flags(), slog.Default())
			api.UserAgent = "kube-controller-manager"
			host, err := os.Hostname()
			if err != nil {
				return err
			}
			pods, err := prefixes(o.clusterCIDR)
			if err != nil {
				return fmt.Errorf("--cluster-cidr: %w", err)
			}
			services, err := prefixes(o.serviceCIDR)
			if err != nil {
				return fmt.Errorf("--service-cluster-ip-range: %w", err)
			}
			cfg := controllers.Config{
				RESTFor: same(api), LeaderElect: o.elect, Lease: controllers.Lease{Identity: fmt.Sprintf("%s_%d", host, os.Getpid())},
				ClusterCIDRs: pods, ServiceCIDRs: services, RootCAFile: o.rootCA,
				ClusterSigningCertFile: o.signCert, ClusterSigningKeyFile: o.signKey, ServiceAccountKeyFile: o.accountKey,
			}
			o.apply(&cfg)
			m, err := controllers.New(cfg)
			if err != nil {
				return err
			}
			return m.Run(cmd.Context())
		},
	}
	o.controllerOwn.add(cmd.Flags())
	o.add(cmd.Flags(), false)
	return cmd
}

func kineCommand() *cobra.Command {
	var endpoint string
	var listen []string
	var certFile, keyFile, caFile string
	keep, quota := keepByDefault(), int64(0)
	cmd := &cobra.Command{
		Use: "kine", Short: "Serve the store as etcd v3", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			store, err := backend.New(endpoint, backend.Options{Keep: keep, QuotaBytes: quota})
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
	addKeep(f, &keep, &quota)
	cmd.AddCommand(kineStatusCommand())
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
