package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	schedulerv1 "k8s.io/kube-scheduler/config/v1"

	"skiff/apiserver"
	"skiff/apiserver/admission"
	"skiff/apiserver/admission/builtin"
	"skiff/apiserver/authn"
	"skiff/client"
	"skiff/cloud"
	"skiff/cloud/local"
	"skiff/cluster/layout"
	"skiff/cluster/node"
	"skiff/cluster/pki"
	"skiff/cluster/setup"
	"skiff/controllers"
	"skiff/kine"
	"skiff/kine/backend"
	"skiff/scheduler"
	schedulerconfig "skiff/scheduler/config"
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
	var o apiserverFlags
	flags := pflag.NewFlagSet("apiServer", pflag.ContinueOnError)
	o.add(flags)
	if err := extraArgs(flags, c.Cluster.APIServer.ExtraArgs, "apiServer", o.apiserverOwn.add, slog.Default()); err != nil {
		return nil, fmt.Errorf("%s: %w", l.NodeConfig(), err)
	}
	o.gates.Warn(slog.Default(), "apiServer")
	warnInert(flags, slog.Default())
	opts, err := storeOptions(c.Cluster.Etcd.External)
	if err != nil {
		return nil, err
	}
	opts.Keep, opts.QuotaBytes = o.keep, o.quota
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
	serviceCIDRs, err := prefixes(c.Cluster.Networking.ServiceSubnet)
	if err != nil {
		return nil, err
	}
	advertise, err := netip.ParseAddr(c.Endpoint.AdvertiseAddress)
	if err != nil {
		return nil, fmt.Errorf("%s: endpoint.advertiseAddress: %w", l.NodeConfig(), err)
	}
	cfg := apiserver.Config{
		Store: store, Port: int(c.Endpoint.BindPort), Certificate: certificate.GetCertificate, AdvertiseAddress: advertise,
		ClientCA: clientCA, FrontProxyCA: proxyCA, ProxyClientCertificate: proxyClient.GetClientCertificate, ServiceAccountKey: accountKey,
		ServiceAccountIssuer: "https://kubernetes.default.svc." + c.Cluster.Networking.DNSDomain,
		ServiceCIDRs:         serviceCIDRs, Flags: shown(flags), Log: slog.Default().With("part", "apiserver"),
	}
	if err := o.apply(&cfg); err != nil {
		return nil, fmt.Errorf("%s: apiServer.extraArgs: %w", l.NodeConfig(), err)
	}
	if !flags.Changed("bind-address") {
		cfg.BindAddress = netip.Addr{} // every address of both families
	}
	// The cluster's authority signs kubelets' serving certificates, but not in
	// clusters that were made before it did.
	checked := true
	if conf, err := nodeKubelet(l, c); err == nil { // what is wrong with it the kubelet's part says
		checked = conf.ServerTLSBootstrap
	}
	if !checked {
		slog.Warn("kubelets' serving certificates are not checked: set serverTLSBootstrap in the kubelets' configuration and in ConfigMap kube-system/kubelet-config", "file", kubeletFile(l))
	}
	cfg.KubeletTLS, err = o.kubeletTLS(flags, file("ca.crt"), file("apiserver-kubelet-client.crt"), file("apiserver-kubelet-client.key"), checked)
	if err != nil {
		return nil, fmt.Errorf("%s: apiServer.extraArgs: %w", l.NodeConfig(), err)
	}
	server, err := apiserver.New(cfg)
	if err != nil {
		return nil, err
	}
	return &controlPlane{store: store, server: server}, nil
}

// admissionChain is the factory of the built-in chain; config is the file of the
// plugins' configurations.
func admissionChain(config string, enable, disable []string) func(apiserver.Deps) (admission.Chain, error) {
	return func(d apiserver.Deps) (admission.Chain, error) {
		c, err := kubernetes.NewForConfig(d.Config)
		if err != nil {
			return admission.Chain{}, err
		}
		dyn, err := dynamic.NewForConfig(dynamicConfig(d.Config))
		if err != nil {
			return admission.Chain{}, err
		}
		configs, err := builtin.ReadConfigs(config)
		if err != nil {
			return admission.Chain{}, err
		}
		return builtin.New(builtin.Deps{Client: c, Dynamic: dyn, Informers: d.Core.Informers, Authorizer: d.Core.Authorizer, Configs: configs}, enable, disable)
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
	c := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}
	if cert == "" {
		return c, nil
	}
	r, err := pki.NewReloading(cert, key)
	if err != nil {
		return nil, err
	}
	c.GetClientCertificate = r.GetClientCertificate
	return c, nil
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
	var sched schedulerFlags
	var ctl controllerFlags
	schedFlags, ctlFlags := pflag.NewFlagSet("scheduler", pflag.ContinueOnError), pflag.NewFlagSet("controllerManager", pflag.ContinueOnError)
	sched.add(schedFlags)
	ctl.add(ctlFlags, true)
	err = errors.Join(extraArgs(schedFlags, c.Cluster.Scheduler.ExtraArgs, "scheduler", sched.schedulerOwn.add, slog.Default()),
		extraArgs(ctlFlags, c.Cluster.ControllerManager.ExtraArgs, "controllerManager", ctl.controllerOwn.add, slog.Default()))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", l.NodeConfig(), err)
	}
	sched.gates.Warn(slog.Default(), "scheduler")
	ctl.gates.Warn(slog.Default(), "controllerManager")
	warnInert(schedFlags, slog.Default())
	warnInert(ctlFlags, slog.Default())
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
			return runScheduler(ctx, p.as("system:kube-scheduler", "kube-scheduler"), sched.config, elect, c.Name)
		})},
		{"controllers", false, after(func(ctx context.Context) error {
			cfg := controllers.Config{
				RESTFor: p.controllerIdentity, LeaderElect: elect, Lease: controllers.Lease{Identity: c.Name},
				ClusterCIDRs: podCIDRs, ServiceCIDRs: serviceCIDRs,
				RootCAFile:             filepath.Join(l.PKI(), "ca.crt"),
				ClusterSigningCertFile: filepath.Join(l.PKI(), "ca.crt"), ClusterSigningKeyFile: filepath.Join(l.PKI(), "ca.key"),
				ServiceAccountKeyFile: filepath.Join(l.PKI(), "sa.key"),
				Provisioner:           controllers.Provisioner{Directory: volumesDir(l)},
			}
			ctl.apply(&cfg)
			m, err := controllers.New(cfg)
			if err != nil {
				return err
			}
			return m.Run(ctx)
		})},
	}
	parts = append(parts, part{"cluster-configuration", false, after(func(ctx context.Context) error {
		kube, err := kubernetes.NewForConfig(p.as("kubernetes-admin", "skiff", user.SystemPrivilegedGroup))
		if err != nil {
			return err
		}
		changed, err := setup.NameStore(ctx, kube, &c.Cluster)
		if err != nil {
			return err
		}
		if changed {
			slog.Info("nodes that join are told of the store that this one uses; masters need `skiff init phase upload-certs --upload-certs` anew")
		}
		<-ctx.Done()
		return nil
	})})
	if c.CloudProvider != "" {
		pool, err := local.ParsePool(c.Cluster.Networking.LoadBalancerPool)
		if err != nil {
			return nil, fmt.Errorf("networking.loadBalancerPool: %w", err)
		}
		parts = append(parts, part{"cloud", false, after(func(ctx context.Context) error {
			return runCloud(ctx, p.controllerIdentity("cloud-controller-manager"), cloud.Config{ProviderName: c.CloudProvider, Local: local.Config{Pool: pool}}, elect, c.Name)
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

func runScheduler(ctx context.Context, cfg *rest.Config, file string, elect bool, identity string) error {
	var conf *schedulerv1.KubeSchedulerConfiguration
	if file != "" {
		raw, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("the scheduler's configuration: %w", err)
		}
		if conf, err = schedulerconfig.Load(raw); err != nil {
			return fmt.Errorf("the scheduler's configuration %s: %w", file, err)
		}
	}
	c, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return err
	}
	run := func(ctx context.Context) error {
		f := informers.NewSharedInformerFactory(c, 0)
		s, err := scheduler.New(scheduler.Config{Client: c, Informers: f, Configuration: conf})
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
