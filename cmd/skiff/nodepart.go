package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/pflag"
	"go.opentelemetry.io/otel/attribute"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	componenttracing "k8s.io/component-base/tracing"
	kubeletv1beta1 "k8s.io/kubelet/config/v1beta1"

	"skiff/cloud/local"
	"skiff/cluster/featuregates"
	"skiff/cluster/layout"
	"skiff/cluster/node"
	"skiff/cluster/tracing"
	"skiff/cluster/version"
	"skiff/controllers/localvolume"
	"skiff/dns"
	"skiff/kubelet"
	kubeletconfig "skiff/kubelet/config"
	"skiff/kubelet/network"
	"skiff/kubelet/network/policy"
	"skiff/proxy"
	"skiff/proxy/announce"
)

// nodeParts are what every node runs: runtime, kubelet, pod network, proxy, DNS.
// wait is closed when the API can be reached; flags are the kubelet's.
func nodeParts(l layout.Layout, c *node.Config, flags *kubeletFlags, api *rest.Config, wait <-chan struct{}) ([]part, error) {
	n, err := newNodeSide(l, c, api, wait)
	if err != nil {
		return nil, err
	}
	flags.warn()
	parts, err := n.kubelet(flags)
	if err != nil {
		return nil, err
	}
	agents, err := n.agents()
	return append(parts, agents...), err
}

// mastersNodeParts are the same beside a control plane, which goes on when the kubelet
// cannot: that is made anew, from what its configuration says then, until it can.
func mastersNodeParts(l layout.Layout, c *node.Config, api *rest.Config, wait <-chan struct{}) ([]part, error) {
	n, err := newNodeSide(l, c, api, wait)
	if err != nil {
		return nil, err
	}
	agents, err := n.agents()
	if err != nil {
		return nil, err
	}
	anew := func() ([]part, error) {
		flags, err := nodeFlags(l, c)
		if err != nil {
			return nil, err
		}
		flags.warn()
		return n.kubelet(flags)
	}
	first, err := anew()
	if _, never := os.Stat(podsDir(l)); err != nil && never != nil {
		return nil, err // whoever sets the node up hears of it at once
	}
	return append(agents, together("kubelet", func() ([]part, error) {
		if parts := first; parts != nil {
			first = nil
			return parts, nil
		}
		return anew()
	})), nil
}

// podsDir is there once a kubelet has run.
func podsDir(l layout.Layout) string { return filepath.Join(l.Kubelet(), "pods") }

// nodeSide is what the parts of a node share.
type nodeSide struct {
	l        layout.Layout
	c        *node.Config
	api      *rest.Config
	kube     kubernetes.Interface
	wait     <-chan struct{}
	podCIDRs []netip.Prefix
	// ip is the node's address, and ips those of all its families.
	ip  netip.Addr
	ips []netip.Addr
	// guard keeps a pod's containers from starting before its policies are in force.
	guard    func(context.Context, *corev1.Pod, []string) error
	runGuard func(context.Context) error
}

func newNodeSide(l layout.Layout, c *node.Config, api *rest.Config, wait <-chan struct{}) (*nodeSide, error) {
	n := &nodeSide{l: l, c: c, api: api, wait: wait}
	var err error
	if n.podCIDRs, err = prefixes(c.Cluster.Networking.PodSubnet); err != nil {
		return nil, err
	}
	if n.ip, err = netip.ParseAddr(c.IP); err != nil {
		return nil, fmt.Errorf("%s: ip: %w", l.NodeConfig(), err)
	}
	n.ips = []netip.Addr{n.ip}
	if v4, v6 := families(n.podCIDRs); v4 && v6 {
		if other, ok := network.OtherFamily(n.ip); ok {
			n.ips = append(n.ips, other)
		} else {
			slog.Warn("the cluster has two address families, and the node's link but one address", "ip", n.ip)
		}
	}
	if n.kube, err = kubernetes.NewForConfig(api); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(l.Run(), 0o700); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(l.State(), 0o711); err != nil {
		return nil, err
	}
	if err := passable(l.State(), l.Root()); err != nil {
		return nil, err
	}
	n.guard, n.runGuard, err = podGuard(n.kube, c.Name, filepath.Join(l.Run(), "guarded.json"))
	return n, err
}

// kubelet are the kubelet, its runtime and the pod network.
func (n *nodeSide) kubelet(flags *kubeletFlags) ([]part, error) {
	l, c := n.l, n.c
	conf, err := flags.load()
	if err != nil {
		return nil, err
	}
	unused, err := kubeletconfig.UnusedOf(conf)
	if err != nil {
		return nil, err
	}
	for _, u := range unused {
		slog.Warn("a field of the kubelet's configuration is taken and changes nothing", "field", u.Field, "why", u.Why)
	}
	featuregates.Warn(slog.Default(), "kubelet", kubeletconfig.UnusedGates(conf))
	addresses := newNodeAddresses(texts(n.ips))
	serving, err := servingCertificate(l, c, conf, n.kube, addresses)
	if err != nil {
		return nil, err
	}
	cfg := kubelet.Config{
		Client: n.kube, NodeName: c.Name, NodeIPs: texts(n.ips),
		Paths: kubelet.Paths{Root: l.Kubelet(), PodLogs: l.PodLogs(), ContainerLogs: l.ContainerLogs(), Logs: l.Path("var/log"),
			Manifests: l.Manifests(), CgroupRoot: l.CgroupRoot()},
		Kubelet: conf, Taints: append(slices.Clone(c.Registration.Taints), flags.taints...), NodeLabels: flags.labels, Version: version.Version,
		GetCertificate: serving.get, CredentialFiles: credentialFiles(l), CredentialProviders: flags.providers, CredentialPlugins: flags.plugins,
		OnNode: addresses.set, Flags: shown(flags.set), Guard: n.guard,
	}
	var spans componenttracing.TracerProvider
	if conf.Tracing != nil {
		if spans, err = tracing.New(context.Background(), conf.Tracing, "kubelet", attribute.String("host.name", c.Name)); err != nil {
			return nil, err
		}
		cfg.Tracing = spans
		if cfg.Client, err = kubernetes.NewForConfig(tracing.Client(n.api, spans)); err != nil {
			return nil, err
		}
	}
	var parts []part
	if e := externalRuntime(l, c, conf); e != (endpoints{}) {
		parts = externalParts(e, cfg, n.wait)
	} else if parts, err = builtInParts(l, cfg, n.podCIDRs, network.Backend(c.Cluster.Networking.PodBackend), n.ip, n.wait); err != nil {
		return nil, err
	}
	if spans != nil {
		parts = append(parts, part{"tracing", false, func(ctx context.Context) error {
			<-ctx.Done()
			return tracing.Finish(ctx, spans)
		}})
	}
	return append(parts, part{"serving certificate", false, after(n.wait, serving.run)}), nil
}

// agents are what a node runs beside its kubelet: local volumes, network policies, proxy,
// announcements, DNS.
func (n *nodeSide) agents() ([]part, error) {
	l, c := n.l, n.c
	v4, v6 := families(n.podCIDRs)
	proxyConfig, err := proxy.Config{
		Client: n.kube, NodeName: c.Name, Mode: proxy.Mode(c.ProxyMode), ClusterCIDRs: n.podCIDRs, IPv4: v4, IPv6: v6, NodeIPs: n.ips,
		HealthzAddress: "0.0.0.0:10256", MetricsAddress: "127.0.0.1:10249", Log: slog.Default().With("part", "proxy"),
	}.With([]byte(c.Proxy))
	if err != nil {
		return nil, fmt.Errorf("%s: proxy: %w", l.NodeConfig(), err)
	}
	parts := []part{{"local volumes", false, after(n.wait, func(ctx context.Context) error {
		k, err := localvolume.New(localvolume.Config{Client: n.kube, NodeName: c.Name, Directory: volumesDir(l)})
		if err != nil {
			return err
		}
		return k.Run(ctx)
	})}}
	parts = append(parts, part{"network policy", false, after(n.wait, n.runGuard)})
	if !c.Cluster.Proxy.Disabled {
		parts = append(parts, part{"proxy", false, after(n.wait, func(ctx context.Context) error {
			p, err := proxy.New(proxyConfig)
			if err != nil {
				return err
			}
			return p.Run(ctx)
		})})
	}
	pool, err := local.ParsePool(c.Cluster.Networking.LoadBalancerPool)
	if err != nil {
		return nil, fmt.Errorf("%s: networking.loadBalancerPool: %w", l.NodeConfig(), err)
	}
	if len(pool) > 0 {
		parts = append(parts, part{"announcements", false, after(n.wait, func(ctx context.Context) error {
			a, err := announce.New(announce.Config{
				Client: n.kube, NodeName: c.Name, HealthPort: healthPort(c, proxyConfig.HealthzAddress),
				Ours: func(ip netip.Addr) bool { return local.InPool(pool, ip) }, Log: slog.Default().With("part", "announcements"),
			})
			if err != nil {
				return err
			}
			return a.Run(ctx)
		})})
	}
	if !c.Cluster.DNS.Disabled {
		parts = append(parts, part{"dns", false, after(n.wait, func(ctx context.Context) error {
			s, err := dns.New(dns.Config{Client: n.api, Domain: c.Cluster.Networking.DNSDomain, Addresses: n.ips,
				Log: slog.Default().With("part", "dns")})
			if err != nil {
				return err
			}
			return s.Run(ctx)
		})})
	}
	return parts, nil
}

// healthPort is where the proxies of all nodes say whether they are well; 0 where they
// are not asked.
func healthPort(c *node.Config, address string) int {
	if c.Cluster.Proxy.Disabled {
		return 0
	}
	a, err := netip.ParseAddrPort(address)
	if err != nil || a.Addr().IsLoopback() {
		return 0
	}
	return int(a.Port())
}

func texts(ips []netip.Addr) []string {
	out := make([]string, len(ips))
	for i, ip := range ips {
		out[i] = ip.String()
	}
	return out
}

// podGuard enforces the NetworkPolicies for the node's pods: the function that the
// kubelet asks before a pod's containers start, and what runs.
func podGuard(kube kubernetes.Interface, node, file string) (func(context.Context, *corev1.Pod, []string) error, func(context.Context) error, error) {
	f := informers.NewSharedInformerFactory(kube, 0)
	e, err := policy.New(policy.Config{
		NodeName: node, File: file, Pods: f.Core().V1().Pods(), Namespaces: f.Core().V1().Namespaces(), Policies: f.Networking().V1().NetworkPolicies(),
	})
	if err != nil {
		return nil, nil, err
	}
	f.Core().V1().Pods().Informer()
	f.Core().V1().Namespaces().Informer()
	f.Networking().V1().NetworkPolicies().Informer()
	return e.Guard, func(ctx context.Context) error {
		f.StartWithContext(ctx)
		defer f.Shutdown()
		return e.Run(ctx)
	}, nil
}

// kubeletFile is the configuration that init and join write.
func kubeletFile(l layout.Layout) string { return filepath.Join(l.Kubelet(), "config.yaml") }

// volumesDir is where the built-in provisioner's volumes are.
func volumesDir(l layout.Layout) string { return filepath.Join(l.State(), "volumes") }

// nodeFlags are the kubelet's flags of a node that init or join set up: its file, and
// the extra arguments of its registration over it.
func nodeFlags(l layout.Layout, c *node.Config) (*kubeletFlags, error) {
	o := &kubeletFlags{file: kubeletFile(l)}
	f := pflag.NewFlagSet("kubelet", pflag.ContinueOnError)
	o.add(f)
	var own kubeletOwn
	if err := extraArgs(f, c.Registration.KubeletExtraArgs, "nodeRegistration.kubelet", own.add, slog.Default()); err != nil {
		return nil, fmt.Errorf("%s: %w", l.NodeConfig(), err)
	}
	return o, nil
}

// nodeKubelet is the kubelet's configuration of a node that init or join set up.
func nodeKubelet(l layout.Layout, c *node.Config) (*kubeletv1beta1.KubeletConfiguration, error) {
	o, err := nodeFlags(l, c)
	if err != nil {
		return nil, err
	}
	return o.load()
}

// credentialFiles are where a node's own credentials of registries may be: the
// kubelet's folder and, on the machine itself, the home of who runs it.
func credentialFiles(l layout.Layout) []string {
	files := []string{filepath.Join(l.Kubelet(), "config.json")}
	if l.Root() != "/" {
		return files
	}
	if home, err := os.UserHomeDir(); err == nil {
		files = append(files, filepath.Join(home, ".docker", "config.json"))
	}
	return append(files, "/.docker/config.json")
}

// passable lets all users pass through a folder and those above it, up to root, whose
// files keep their own modes: the users of pods with a user namespace reach their
// containers' roots so. What is above root is not the node's.
func passable(dir, root string) error {
	for ; dir != filepath.Dir(root) && dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil {
			return err
		}
		const search = 0o111
		if mode := info.Mode().Perm(); mode&search != search {
			if err := os.Chmod(dir, mode|search); err != nil {
				return err
			}
		}
	}
	return nil
}
