package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"skiff/apiserver"
	"skiff/apiserver/admission"
	"skiff/apiserver/admission/builtin"
	"skiff/apiserver/audit"
	"skiff/apiserver/authn"
	"skiff/client"
	"skiff/cloud"
	"skiff/cluster/layout"
	"skiff/cluster/node"
	"skiff/cluster/pki"
	"skiff/controllers"
	"skiff/kine"
	"skiff/kine/backend"
	"skiff/scheduler"
)

// controlPlane is the API server with the parts beside it, in memory.
type controlPlane struct {
	store  kine.Runner
	server *apiserver.Server
}

// newControlPlane wires what a master runs.
func newControlPlane(l layout.Layout, c *node.Config) (*controlPlane, error) {
	dir := l.PKI()
	file := func(name string) string { return filepath.Join(dir, name) }
	opts, err := storeOptions(c.Cluster.Etcd.External)
	if err != nil {
		return nil, err
	}
	store, err := backend.New(strings.Join(c.StoreURLs(l), ","), opts)
	if err != nil {
		return nil, err
	}
	certificate, err := pki.NewReloading(file("apiserver.crt"), file("apiserver.key"))
	if err != nil {
		return nil, err
	}
	clientCA, err := authn.NewCABundle(file("ca.crt"))
	if err != nil {
		return nil, err
	}
	proxyCA, err := authn.NewCABundle(file("front-proxy-ca.crt"))
	if err != nil {
		return nil, err
	}
	proxyClient, err := pki.NewReloading(file("front-proxy-client.crt"), file("front-proxy-client.key"))
	if err != nil {
		return nil, err
	}
	accountKey, err := pki.LoadKey(file("sa.key"))
	if err != nil {
		return nil, err
	}
	kubelet, err := clientTLS(file("ca.crt"), file("apiserver-kubelet-client.crt"), file("apiserver-kubelet-client.key"))
	if err != nil {
		return nil, err
	}
	// A kubelet's serving certificate is its own until the cluster signs one.
	kubelet.InsecureSkipVerify = true
	serviceCIDRs, err := prefixes(c.Cluster.Networking.ServiceSubnet)
	if err != nil {
		return nil, err
	}
	advertise, err := netip.ParseAddr(c.Endpoint.AdvertiseAddress)
	if err != nil {
		return nil, fmt.Errorf("%s: endpoint.advertiseAddress: %w", l.NodeConfig(), err)
	}
	extra, err := extraArgs(c.Cluster.APIServer.ExtraArgs, slog.Default())
	if err != nil {
		return nil, fmt.Errorf("%s: apiServer.extraArgs: %w", l.NodeConfig(), err)
	}
	server, err := apiserver.New(apiserver.Config{
		Store: store, Port: int(c.Endpoint.BindPort), Certificate: certificate.GetCertificate, AdvertiseAddress: advertise,
		ClientCA: clientCA, FrontProxyCA: proxyCA, ProxyClientCertificate: proxyClient.GetClientCertificate, ServiceAccountKey: accountKey,
		ServiceAccountIssuer: "https://kubernetes.default.svc." + c.Cluster.Networking.DNSDomain,
		ServiceCIDRs:         serviceCIDRs, KubeletTLS: kubelet, Admission: admissionChain(extra.enable, extra.disable),
		AuditPolicyFile: extra.auditPolicy, AuditLog: audit.LogConfig{Path: extra.auditLog}, EncryptionConfigFile: extra.encryption,
		MaxRequestsInFlight: extra.inflight, MaxMutatingInFlight: extra.mutating,
		Log: slog.Default().With("part", "apiserver"),
	})
	if err != nil {
		return nil, err
	}
	return &controlPlane{store: store, server: server}, nil
}

// admissionChain is the factory of the built-in chain.
func admissionChain(enable, disable []string) func(apiserver.Deps) (admission.Chain, error) {
	return func(d apiserver.Deps) (admission.Chain, error) {
		c, err := kubernetes.NewForConfig(d.Config)
		if err != nil {
			return admission.Chain{}, err
		}
		dyn, err := dynamic.NewForConfig(dynamicConfig(d.Config))
		if err != nil {
			return admission.Chain{}, err
		}
		return builtin.New(builtin.Deps{Client: c, Dynamic: dyn, Informers: d.Core.Informers, Authorizer: d.Core.Authorizer}, enable, disable)
	}
}

// dynamicConfig asks for JSON, which dynamic clients decode.
func dynamicConfig(c *rest.Config) *rest.Config {
	out := rest.CopyConfig(c)
	out.ContentConfig = rest.ContentConfig{}
	return out
}

func clientTLS(ca, cert, key string) (*tls.Config, error) {
	pem, err := os.ReadFile(ca)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate", ca)
	}
	r, err := pki.NewReloading(cert, key)
	if err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, GetClientCertificate: r.GetClientCertificate}, nil
}

// parts are what runs of the control plane.
func (p *controlPlane) parts(l layout.Layout, c *node.Config) ([]part, error) {
	serviceCIDRs, err := prefixes(c.Cluster.Networking.ServiceSubnet)
	if err != nil {
		return nil, err
	}
	podCIDRs, err := prefixes(c.Cluster.Networking.PodSubnet)
	if err != nil {
		return nil, err
	}
	elect := !c.UsesSQLite()
	// What reads the API waits until the server is ready: it would only retry.
	after := func(run func(context.Context) error) func(context.Context) error {
		return func(ctx context.Context) error {
			select {
			case <-p.server.Ready():
				return run(ctx)
			case <-ctx.Done():
				return nil
			}
		}
	}
	parts := []part{
		{"store", true, p.store.Run},
		{"apiserver", true, func(ctx context.Context) error {
			select {
			case <-p.store.Ready():
				return p.server.Run(ctx)
			case <-ctx.Done():
				return nil
			}
		}},
		{"scheduler", false, after(func(ctx context.Context) error {
			return runScheduler(ctx, p.as("system:kube-scheduler", "kube-scheduler"), elect, c.Name)
		})},
		{"controllers", false, after(func(ctx context.Context) error {
			m, err := controllers.New(controllers.Config{
				RESTFor: p.controllerIdentity, LeaderElect: elect, Lease: controllers.Lease{Identity: c.Name},
				AllocateNodeCIDRs: true, ClusterCIDRs: podCIDRs, ServiceCIDRs: serviceCIDRs,
				RootCAFile:             filepath.Join(l.PKI(), "ca.crt"),
				ClusterSigningCertFile: filepath.Join(l.PKI(), "ca.crt"), ClusterSigningKeyFile: filepath.Join(l.PKI(), "ca.key"),
				ServiceAccountKeyFile: filepath.Join(l.PKI(), "sa.key"),
				Provisioner:           controllers.Provisioner{Directory: volumesDir(l)},
			})
			if err != nil {
				return err
			}
			return m.Run(ctx)
		})},
	}
	if c.CloudProvider != "" {
		parts = append(parts, part{"cloud", false, after(func(ctx context.Context) error {
			return runCloud(ctx, p.controllerIdentity("cloud-controller-manager"), cloud.Config{ProviderName: c.CloudProvider}, elect, c.Name)
		})})
	}
	return parts, nil
}

// as reaches the server in memory under a user of a component.
func (p *controlPlane) as(name, agent string, groups ...string) *rest.Config {
	return client.InProcess(p.server.Handler(), &user.DefaultInfo{Name: name, Groups: append(groups, user.AllAuthenticated)}, agent)
}

// controllerIdentity is the access of one controller.
func (p *controlPlane) controllerIdentity(name string) *rest.Config {
	if name == "" {
		return p.as("system:kube-controller-manager", "kube-controller-manager")
	}
	return p.as("system:serviceaccount:kube-system:"+name, "kube-controller-manager", "system:serviceaccounts", "system:serviceaccounts:kube-system")
}

func runCloud(ctx context.Context, api *rest.Config, cfg cloud.Config, elect bool, identity string) error {
	c, err := kubernetes.NewForConfig(api)
	if err != nil {
		return err
	}
	cfg.Client = c
	m, err := cloud.New(cfg)
	if err != nil {
		return err
	}
	if !elect {
		return m.Run(ctx)
	}
	return controllers.Elected(ctx, c, "cloud-controller-manager", identity, m.Run)
}

func runScheduler(ctx context.Context, cfg *rest.Config, elect bool, identity string) error {
	c, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return err
	}
	run := func(ctx context.Context) error {
		f := informers.NewSharedInformerFactory(c, 0)
		s, err := scheduler.New(scheduler.Config{Client: c, Informers: f})
		if err != nil {
			return err
		}
		f.StartWithContext(ctx)
		defer f.Shutdown()
		return s.Run(ctx)
	}
	if !elect {
		return run(ctx)
	}
	return controllers.Elected(ctx, c, "kube-scheduler", identity, run)
}
