package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"skiff/cloud/local"
	"skiff/cluster/config"
	"skiff/cluster/lan"
	"skiff/cluster/layout"
	"skiff/cluster/node"
	"skiff/cluster/process"
	"skiff/cluster/setup"
	"skiff/cluster/token"
	"skiff/cluster/version"
	"skiff/dns"
	"skiff/proxy"
)

type upOptions struct {
	root    string
	nodes   int
	store   string
	timeout time.Duration
	config  string
	cloud   string
	ignore  []string
}

func upCommand() *cobra.Command {
	var o upOptions
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Set up a cluster on this machine, start it and wait until its nodes are Ready",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return up(cmd, o) },
	}
	addRoot(cmd, &o.root)
	f := cmd.Flags()
	f.IntVar(&o.nodes, "nodes", 1, "how many nodes; with more than one each lives in a network namespace of its own")
	f.StringVar(&o.store, "store", "", "where the cluster's state is: sqlite (default), or a postgres:// or https:// URL")
	f.StringVar(&o.config, "config", "", "a file with InitConfiguration, ClusterConfiguration and component configurations")
	f.StringVar(&o.cloud, "cloud-provider", "local", "the provider of node addresses and load balancers; empty for none")
	f.StringSliceVar(&o.ignore, "ignore-preflight-errors", nil, "checks that only warn; all for every one")
	f.DurationVar(&o.timeout, "timeout", 3*time.Minute, "how long to wait for the nodes")
	return cmd
}

func up(cmd *cobra.Command, o upOptions) error {
	if os.Geteuid() != 0 {
		return errors.New("user is not running as root: run it with sudo")
	}
	if o.nodes < 1 || o.nodes > 50 {
		return fmt.Errorf("--nodes %d: want 1 to 50", o.nodes)
	}
	m, err := machine(cmd, o.root, "")
	if err != nil {
		return err
	}
	if pid, err := process.Find(m.Layout); err != nil {
		return err
	} else if pid != 0 {
		return fmt.Errorf("the node below %s runs already, as process %d: `skiff down` stops it, `skiff reset` removes it", m.Layout.Root(), pid)
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), o.timeout)
	defer cancel()
	if _, err := node.Load(m.Layout); err == nil {
		// It was set up before: start it again.
		ctx, ended := context.WithCancelCause(ctx)
		defer ended(nil)
		if err := restart(ctx, m, ended); err != nil {
			return err
		}
		return done(ctx, cmd, m, o.nodes)
	} else if !errors.Is(err, node.ErrNone) {
		return err
	}
	if o.nodes > 1 {
		net := lan.LAN{ID: lanID(m.Layout)}
		if err := net.Up(o.nodes); err != nil {
			return err
		}
		m.NetNS = net.Namespace(1)
	}
	tok, err := firstMaster(ctx, cmd, m, o)
	if err != nil {
		return err
	}
	for i := 2; i <= o.nodes; i++ {
		if err := member(ctx, cmd, m, i, tok, o.ignore); err != nil {
			return fmt.Errorf("node %d: %w", i, err)
		}
	}
	return done(ctx, cmd, m, o.nodes)
}

// lanID names the network of a root's nodes.
func lanID(l layout.Layout) string {
	if id := l.ID(); id != "" {
		return id
	}
	return "host"
}

// firstMaster sets up the control plane; its node takes pods.
func firstMaster(ctx context.Context, cmd *cobra.Command, m setup.Machine, o upOptions) (string, error) {
	facts, err := m.Facts(version.Version)
	if err != nil {
		return "", err
	}
	c := &config.Init{ComponentConfigs: map[string][]byte{}}
	if o.config != "" {
		if c, err = loadInit(o.config); err != nil {
			return "", err
		}
	}
	if m.NetNS != "" {
		facts.Address = lan.LAN{ID: lanID(m.Layout)}.Node(1).AsSlice()
	}
	if o.store != "" && o.store != "sqlite" {
		c.Cluster.Etcd = config.Etcd{External: &config.ExternalEtcd{Endpoints: []string{o.store}}}
	}
	config.DefaultInit(c, facts)
	if c.NodeRegistration.Taints == nil {
		c.NodeRegistration.Taints = []corev1.Taint{}
	}
	t, err := token.New(time.Now(), time.Hour)
	if err != nil {
		return "", err
	}
	if len(c.BootstrapTokens) == 0 {
		c.BootstrapTokens = []config.BootstrapToken{{Token: t.String(), TTL: &metav1.Duration{Duration: time.Hour}, Usages: t.Usages, Groups: t.Groups}}
	}
	init := &setup.Init{Machine: m, Config: c, Quiet: true, Ignore: o.ignore, CloudProvider: o.cloud, Corefile: dns.Corefile}
	return c.BootstrapTokens[0].Token, init.Run(ctx, nil, "")
}

// loadInit reads the file of a new cluster and looks into the configuration of its
// proxies and the pool of its load balancers, so that what is wrong is said before anything is made.
func loadInit(path string) (*config.Init, error) {
	c, err := config.LoadInit(path)
	if err != nil {
		return nil, err
	}
	if _, err := (proxy.Config{}).With(c.ComponentConfigs["KubeProxyConfiguration"]); err != nil {
		return nil, fmt.Errorf("configuration file %s: %w", path, err)
	}
	if _, err := local.ParsePool(c.Cluster.Networking.LoadBalancerPool); err != nil {
		return nil, fmt.Errorf("configuration file %s: networking.loadBalancerPool: %w", path, err)
	}
	return c, nil
}

// memberRoot is where the root of node i is.
func memberRoot(l layout.Layout, i int) string {
	return filepath.Join(l.Root(), "nodes", strconv.Itoa(i))
}

// members are the layouts of the nodes that up put below a root.
func members(l layout.Layout) []layout.Layout {
	var out []layout.Layout
	for i := 2; i <= 50; i++ {
		ml, err := layout.New(memberRoot(l, i))
		if err != nil {
			break
		}
		if _, err := os.Stat(ml.Root()); err != nil {
			break
		}
		out = append(out, ml)
	}
	return out
}

// member joins node i.
func member(ctx context.Context, cmd *cobra.Command, master setup.Machine, i int, tok string, ignore []string) error {
	net := lan.LAN{ID: lanID(master.Layout)}
	m, err := machine(cmd, memberRoot(master.Layout, i), net.Namespace(i))
	if err != nil {
		return err
	}
	// All nodes of the machine use one registries.yaml.
	if b, err := os.ReadFile(master.Layout.Registries()); err == nil {
		if err := os.MkdirAll(filepath.Dir(m.Layout.Registries()), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(m.Layout.Registries(), b, 0o600); err != nil {
			return err
		}
	}
	mc, err := node.Load(master.Layout)
	if err != nil {
		return err
	}
	facts, err := m.Facts(version.Version)
	if err != nil {
		return err
	}
	c := &config.Join{}
	c.Discovery.File = nil
	c.Discovery.BootstrapToken = &config.BootstrapTokenDiscovery{Token: tok, APIServerEndpoint: fmt.Sprintf("%s:%d", mc.Endpoint.AdvertiseAddress, mc.Endpoint.BindPort)}
	pin, err := setup.CAHash(mc.Cluster.CertificatesDir)
	if err != nil {
		return err
	}
	c.Discovery.BootstrapToken.CACertHashes = []string{pin}
	config.DefaultJoin(c, facts)
	if c.NodeRegistration.Taints == nil {
		c.NodeRegistration.Taints = []corev1.Taint{}
	}
	join := &setup.Join{Machine: m, Config: c, Quiet: true, Ignore: ignore, IP: net.Node(i).String()}
	return join.Run(ctx, nil, "")
}

// restart starts the nodes of a root that was set up before. ended is called with
// what a node that ends at once has said.
func restart(ctx context.Context, m setup.Machine, ended context.CancelCauseFunc) error {
	for _, l := range append([]layout.Layout{m.Layout}, members(m.Layout)...) {
		c, err := node.Load(l)
		if err != nil {
			return err
		}
		if pid, err := process.Find(l); err != nil || pid != 0 {
			if err != nil {
				return err
			}
			continue
		}
		_, exited, err := process.Start(l, c.NetNS, m.Executable, m.RunArgs(l)...)
		if err != nil {
			return err
		}
		go func() {
			select {
			case <-exited:
				ended(setup.Ended(l))
			case <-ctx.Done():
			}
		}()
	}
	return nil
}

// done waits for the nodes and says how to use the cluster.
func done(ctx context.Context, cmd *cobra.Command, m setup.Machine, nodes int) error {
	cfg, err := clientcmd.BuildConfigFromFlags("", m.Layout.AdminConf())
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return err
	}
	if err := setup.WaitReady(ctx, client, nodes); err != nil {
		if cause := context.Cause(ctx); cause != ctx.Err() {
			return cause
		}
		return fmt.Errorf("%w; the end of the node's log %s:\n%s", err, m.Layout.ProcessLog(), setup.LogTail(m.Layout))
	}
	if err := defaultStorage(ctx, client); err != nil {
		return err
	}
	fmt.Fprintf(cmd.OutOrStdout(), "\nThe cluster is up: %d node(s) Ready.\n\n  export KUBECONFIG=%s\n  kubectl get nodes\n", nodes, m.Layout.AdminConf())
	return nil
}

// defaultStorage makes the class of the built-in provisioner.
func defaultStorage(ctx context.Context, client kubernetes.Interface) error {
	wait, grows := storagev1.VolumeBindingWaitForFirstConsumer, true
	_, err := client.StorageV1().StorageClasses().Create(ctx, &storagev1.StorageClass{
		ObjectMeta:  metav1.ObjectMeta{Name: "local-path", Annotations: map[string]string{"storageclass.kubernetes.io/is-default-class": "true"}},
		Provisioner: "skiff.io/local-path", VolumeBindingMode: &wait, AllowVolumeExpansion: &grows,
	}, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}
