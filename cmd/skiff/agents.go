package main

import (
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/yaml"

	"skiff/cloud"
	"skiff/cloud/local"
	"skiff/dns"
	"skiff/e2e/bench"
	kubeletconfig "skiff/kubelet/config"
	"skiff/proxy"
)

// cloudCommand runs the cloud controllers alone.
func cloudCommand() *cobra.Command {
	var kubeconfig, provider, region, zone string
	var elect bool
	var names, pool []string
	cmd := &cobra.Command{
		Use: "cloud", Short: "Run the cloud controller manager alone", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			api, err := workerConfig(kubeconfig)
			if err != nil {
				return err
			}
			api.UserAgent = "cloud-controller-manager"
			host, err := os.Hostname()
			if err != nil {
				return err
			}
			c := cloud.Config{ProviderName: provider, Controllers: names, Local: local.Config{Region: region, Zone: zone}}
			if c.Local.Pool, err = local.ParsePool(pool); err != nil {
				return fmt.Errorf("--load-balancer-pool: %w", err)
			}
			return runCloud(cmd.Context(), api, c, elect, fmt.Sprintf("%s_%d", host, os.Getpid()))
		},
	}
	f := cmd.Flags()
	f.StringVar(&kubeconfig, "kubeconfig", "/etc/kubernetes/admin.conf", "how the API is reached")
	f.StringVar(&provider, "cloud-provider", "local", "the provider")
	f.BoolVar(&elect, "leader-elect", true, "work only while holding the Lease")
	f.StringSliceVar(&names, "controllers", []string{"*"}, "which controllers run: *, NAME, -NAME")
	f.StringSliceVar(&pool, "load-balancer-pool", nil, "the addresses of load balancers, as prefixes or FIRST-LAST; empty: those of the nodes")
	f.StringVar(&region, "region", "", "the nodes' region")
	f.StringVar(&zone, "zone", "", "the nodes' zone")
	return cmd
}

// proxyCommand runs the service proxy alone.
func proxyCommand() *cobra.Command {
	var file, kubeconfig string
	var cleanup bool
	over := map[string]any{}
	cmd := &cobra.Command{
		Use: "proxy", Short: "Run the service proxy alone", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cleanup {
				return proxy.Clean()
			}
			warnInert(cmd.Flags(), slog.Default())
			api, err := workerConfig(kubeconfig)
			if err != nil {
				return err
			}
			api.UserAgent = "kube-proxy"
			kube, err := kubernetes.NewForConfig(api)
			if err != nil {
				return err
			}
			c, err := proxyAlone(file, over)
			if err != nil {
				return err
			}
			c.Client, c.Log, c.Flags = kube, slog.Default().With("part", "proxy"), shown(cmd.Flags())
			p, err := proxy.New(c)
			if err != nil {
				return err
			}
			return p.Run(cmd.Context())
		},
	}
	f := cmd.Flags()
	f.StringVar(&kubeconfig, "kubeconfig", "/var/lib/kube-proxy/kubeconfig.conf", "how the API is reached")
	f.BoolVar(&cleanup, "cleanup", false, "remove the rules of every mode from this machine, and end")
	f.StringVar(&file, "config", "", "a KubeProxyConfiguration, over which the flags go")
	addFields(f, proxyFields(), over)
	for _, name := range []string{"proxy-mode", "cluster-cidr", "hostname-override", "healthz-bind-address", "metrics-bind-address"} {
		f.Lookup(name).Hidden = false
	}
	addInert(f, inertOfProxy())
	return cmd
}

// proxyAlone is the configuration of a proxy that runs alone: its file with the flags'
// fields over it.
func proxyAlone(file string, over map[string]any) (proxy.Config, error) {
	name, err := os.Hostname()
	if err != nil {
		return proxy.Config{}, err
	}
	c := proxy.Config{
		NodeName: strings.ToLower(name), Mode: proxy.IPTables, ClusterCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")},
		HealthzAddress: "0.0.0.0:10256", MetricsAddress: "127.0.0.1:10249",
	}
	doc := map[string]any{"apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration"}
	if file != "" {
		raw, err := os.ReadFile(file)
		if err != nil {
			return c, fmt.Errorf("--config: %w", err)
		}
		if err := yaml.Unmarshal(raw, &doc); err != nil {
			return c, fmt.Errorf("--config %s: %w", file, err)
		}
	}
	kubeletconfig.Merge(doc, over)
	raw, err := yaml.Marshal(doc)
	if err != nil {
		return c, err
	}
	if c, err = c.With(raw); err != nil {
		return c, fmt.Errorf("--config %s: %w", file, err)
	}
	c.IPv4, c.IPv6 = families(c.ClusterCIDRs)
	return c, nil
}

// families tells which address families ranges are of.
func families(cidrs []netip.Prefix) (v4, v6 bool) {
	for _, c := range cidrs {
		v4 = v4 || c.Addr().Is4()
		v6 = v6 || c.Addr().Is6()
	}
	return v4 || !v6, v6
}

// dnsCommand runs the DNS server alone.
func dnsCommand() *cobra.Command {
	var kubeconfig, domain, address string
	cmd := &cobra.Command{
		Use: "dns", Short: "Run the DNS server alone", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			api, err := workerConfig(kubeconfig)
			if err != nil {
				return err
			}
			ip, err := netip.ParseAddr(address)
			if err != nil {
				return fmt.Errorf("--address %q: want an IP address: %w", address, err)
			}
			s, err := dns.New(dns.Config{Client: api, Domain: domain, Addresses: []netip.Addr{ip}, Log: slog.Default().With("part", "dns")})
			if err != nil {
				return err
			}
			return s.Run(cmd.Context())
		},
	}
	f := cmd.Flags()
	f.StringVar(&kubeconfig, "kubeconfig", "/etc/kubernetes/admin.conf", "how the API is reached")
	f.StringVar(&domain, "domain", "cluster.local", "the cluster's domain")
	f.StringVar(&address, "address", "127.0.0.1", "where to serve")
	return cmd
}

// benchCommand measures a cluster, ours or another.
func benchCommand() *cobra.Command {
	c := bench.Config{}
	cmd := &cobra.Command{
		Use: "bench", Short: "Measure an API server: a JSON line per measurement", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c.Progress = cmd.ErrOrStderr()
			return bench.Run(cmd.Context(), c, cmd.OutOrStdout())
		},
	}
	f := cmd.Flags()
	f.StringVar(&c.Kubeconfig, "kubeconfig", "/etc/kubernetes/admin.conf", "the cluster to measure")
	f.IntVar(&c.Clients, "clients", 16, "how many clients work side by side")
	f.IntVar(&c.Objects, "objects", 3000, "how many ConfigMaps are made")
	f.IntVar(&c.Size, "size", 1024, "the bytes of each")
	f.IntVar(&c.Lists, "lists", 50, "how many full lists")
	f.IntVar(&c.Watchers, "watchers", 100, "how many watches see every write")
	f.IntVar(&c.ScheduledPods, "scheduled-pods", 500, "how many pods are given a node; negative for none")
	f.StringVar(&c.Image, "image", "", "the image of the pods whose start is measured; empty for none")
	f.IntVar(&c.StartedPods, "started-pods", 20, "how many of them")
	f.IntVar(&c.PacedPods, "paced-pods", 0, "how many pods with --image come at a steady rate; 0 measures none")
	f.Float64Var(&c.PodsPerSecond, "pods-per-second", 5, "the rate of --paced-pods")
	f.IntVar(&c.BatchPods, "batch-pods", 0, "how many pods with --image are made at once; 0 measures none")
	f.IntVar(&c.IdleSeconds, "idle-seconds", 60, "how long --batch-pods are left idle to measure what they cost the process of --server-pid")
	f.IntVar(&c.Services, "services", 0, "how many Services are there while the programming of more is measured, from the node that this runs on; 0 measures none")
	f.IntVar(&c.CustomResources, "custom-resources", 0, "how many CustomResourceDefinitions are there while what they cost is measured; 0 measures none")
	f.IntVar(&c.IdleWatches, "idle-watches", 0, "how many watches of which nothing comes are open while what they cost the process of --server-pid is measured; 0 measures none")
	f.IntVar(&c.LargeLists, "large-lists", 0, "how many lists of 100 MiB are taken at once while what they cost the process of --server-pid is measured; 0 measures none")
	f.IntVar(&c.Server, "server-pid", 0, "the API server's process on this machine: its time and memory are shown")
	f.IntVar(&c.WatchedWrites, "watched-writes", 200, "how many writes they see")
	return cmd
}
