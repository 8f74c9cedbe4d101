package setup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"skiff/cluster/config"
	"skiff/cluster/kubeconfig"
	"skiff/cluster/node"
	"skiff/cluster/pki"
	"skiff/cluster/workflow"
)

// Join is the data of `skiff join`.
type Join struct {
	Machine
	Config *config.Join
	// Ignore are the preflight checks that only warn.
	Ignore []string
	// Quiet leaves out the closing words.
	Quiet bool
	// IP is the node's address; empty is the one on the default route.
	IP string
	// CloudProvider and ProxyMode are written to the node's configuration.
	CloudProvider, ProxyMode string

	trust   trust
	cluster *config.Cluster
	kubelet []byte
	// proxy is the KubeProxyConfiguration of the cluster.
	proxy  string
	client kubernetes.Interface
}

// Run executes the workflow without the phases in skip, or only one of them.
func (d *Join) Run(ctx context.Context, skip []string, only string) error {
	if errs := config.ValidateJoin(d.Config); len(errs) > 0 {
		return errs.ToAggregate()
	}
	d.Config.Timeouts = timeouts(d.Config.Timeouts)
	steps, err := workflow.Steps(JoinPhases(), append(slices.Clone(d.Config.SkipPhases), skip...), only)
	if err != nil {
		return err
	}
	return workflow.Run(ctx, steps, d)
}

// JoinPhases is kubeadm's workflow.
func JoinPhases() []workflow.Phase[*Join] {
	type phase = workflow.Phase[*Join]
	return []phase{
		{Name: "preflight", Short: "Run pre-flight checks", Run: method((*Join).preflight)},
		{Name: "discovery", Short: "Learn whom to trust and the cluster's configuration", Run: method((*Join).discovery)},
		{Name: "control-plane-prepare", Short: "Fetch the authorities and write what a master runs with", Run: method((*Join).prepare)},
		{Name: "kubelet-start", Short: "Write the kubelet's configuration and start the node", Run: method((*Join).kubeletStart)},
		{Name: "kubelet-wait-bootstrap", Short: "Wait for the node's certificate and registration", Run: method((*Join).waitBootstrap)},
		{Name: "control-plane-join", Short: "Mark the node as control-plane", Run: method((*Join).markControlPlane)},
	}
}

// address is what others reach the node by; a master's is the one that it advertises.
func (d *Join) address() string {
	if cp := d.Config.ControlPlane; cp != nil {
		return cp.LocalAPIEndpoint.AdvertiseAddress
	}
	return d.IP
}

func (d *Join) discovery(ctx context.Context) error {
	d.say("discovery", "Reading the cluster's authority")
	var err error
	if d.trust, err = discover(ctx, d.Config.Discovery, d.Config.Timeouts.Discovery.Duration); err != nil {
		return err
	}
	cfg := kubeconfig.WithToken("", d.trust.server, "tls-bootstrap-token-user", d.Config.Discovery.TLSBootstrapToken, d.trust.caPEM)
	if f := d.Config.Discovery.File; f != nil && d.Config.Discovery.TLSBootstrapToken == "" {
		if cfg, err = clientcmd.LoadFromFile(f.KubeConfigPath); err != nil {
			return err
		}
	}
	rest, err := clientcmd.NewDefaultClientConfig(*cfg, nil).ClientConfig()
	if err != nil {
		return err
	}
	if d.client, err = kubernetes.NewForConfig(rest); err != nil {
		return err
	}
	timeout := d.Config.Timeouts.KubernetesAPICall.Duration
	read := func(name, key string) ([]byte, error) {
		var doc []byte
		err := retry(ctx, timeout, func(ctx context.Context) error {
			cm, err := d.client.CoreV1().ConfigMaps(metav1.NamespaceSystem).Get(ctx, name, metav1.GetOptions{})
			if err != nil {
				return err
			}
			doc = []byte(cm.Data[key])
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("read ConfigMap %s: %w", name, err)
		}
		return doc, nil
	}
	doc, err := read(clusterConfigMap, config.ClusterKind)
	if err != nil {
		return err
	}
	if d.cluster, err = config.ParseCluster(doc); err != nil {
		return err
	}
	// Only now is it known what the pod network wants; nothing is changed yet.
	if err := d.check(ctx, networkChecks(d.cluster, d.address())); err != nil {
		return err
	}
	// Paths in it are those of the node that wrote it.
	d.cluster.CertificatesDir = d.Layout.PKI()
	if d.cluster.Etcd.Local != nil {
		d.cluster.Etcd.Local.DataDir = d.Layout.State()
	}
	if d.kubelet, err = read(kubeletConfigMap, "kubelet"); err != nil || d.cluster.Proxy.Disabled {
		return err
	}
	// A cluster that was set up without it has the defaults.
	cm, err := d.client.CoreV1().ConfigMaps(metav1.NamespaceSystem).Get(ctx, proxyConfigMap, metav1.GetOptions{})
	if apierrors.IsNotFound(err) || apierrors.IsForbidden(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read ConfigMap %s: %w", proxyConfigMap, err)
	}
	d.proxy = cm.Data[proxyConfigKey]
	return nil
}

// prepare fetches the authorities and writes the certificates of a master.
func (d *Join) prepare(ctx context.Context) error {
	cp := d.Config.ControlPlane
	if cp == nil {
		return nil
	}
	if d.cluster.ControlPlaneEndpoint == "" && d.cluster.Etcd.External == nil {
		return errors.New("this cluster keeps its state in a SQLite file on its first master, so a second master cannot share it: set the cluster up with a shared store (`skiff init --store postgres://…`), or move it there with `skiff migrate`")
	}
	if d.cluster.Etcd.External == nil {
		return errors.New("the cluster's store is a SQLite file on its first master, so a second master cannot share it: move the state to Postgres with `skiff migrate` first")
	}
	if cp.CertificateKey == "" {
		return errors.New("--certificate-key is missing: `skiff init phase upload-certs --upload-certs` on a master prints one")
	}
	return d.do("control-plane-prepare", "fetch the authorities to "+d.Layout.PKI(), func() error {
		external, err := downloadCerts(ctx, d.client, d.Layout.PKI(), cp.CertificateKey)
		if err != nil {
			return err
		}
		if external != nil {
			d.cluster.Etcd.External = external
		}
		pkiConfig, err := PKIConfig(d.cluster, d.Config.NodeRegistration.Name, cp.LocalAPIEndpoint)
		if err != nil {
			return err
		}
		if err := pki.Ensure(d.cluster.CertificatesDir, pkiConfig, d.now()); err != nil {
			return err
		}
		server, err := ServerURL(d.cluster, cp.LocalAPIEndpoint)
		if err != nil {
			return err
		}
		return writeKubeconfigs(&d.Machine, d.cluster, d.Config.NodeRegistration.Name, server)
	})
}

func (d *Join) kubeletStart(ctx context.Context) error {
	l := d.Layout
	return d.do("kubelet-start", "write "+kubeletConfigFile(l)+" and start the node", func() error {
		if err := replaceFile(filepath.Join(l.PKI(), "ca.crt"), d.trust.caPEM); err != nil {
			return err
		}
		if err := writeKubeletConfig(l, d.cluster, d.kubelet); err != nil {
			return err
		}
		c := &node.Config{
			Name: d.Config.NodeRegistration.Name, IP: d.address(), Server: d.trust.server,
			Registration: d.Config.NodeRegistration, Cluster: *d.cluster, NetNS: d.NetNS, ProxyMode: d.ProxyMode, Proxy: d.proxy, CloudProvider: d.CloudProvider,
		}
		if cp := d.Config.ControlPlane; cp != nil {
			c.ControlPlane, c.Endpoint = true, cp.LocalAPIEndpoint
			if c.Registration.Taints == nil {
				c.Registration.Taints = controlPlaneTaints()
			}
		} else {
			c.Cluster = publicCluster(c.Cluster)
			boot := kubeconfig.WithToken("", d.trust.server, "tls-bootstrap-token-user", d.Config.Discovery.TLSBootstrapToken, d.trust.caPEM)
			if err := kubeconfig.Write(l.Kubeconfig("bootstrap-kubelet.conf"), boot); err != nil {
				return err
			}
		}
		if err := node.Save(l, c); err != nil {
			return err
		}
		return startNode(ctx, &d.Machine)
	})
}

// waitBootstrap waits until the kubelet has its own certificate and the node
// has registered.
func (d *Join) waitBootstrap(ctx context.Context) error {
	if d.DryRun || d.Executable == "" {
		return nil
	}
	conf := d.Layout.Kubeconfig("kubelet.conf")
	d.say("kubelet-wait-bootstrap", "Waiting for the node's certificate")
	err := retry(ctx, d.Config.Timeouts.TLSBootstrap.Duration, func(context.Context) error {
		if err := alive(&d.Machine); err != nil {
			return err
		}
		_, err := os.Stat(conf)
		return err
	})
	if err != nil {
		return fmt.Errorf("the node got no certificate; its log is %s: %w", d.Layout.ProcessLog(), err)
	}
	name := d.Config.NodeRegistration.Name
	err = retry(ctx, d.Config.Timeouts.KubeletHealthCheck.Duration, func(ctx context.Context) error {
		if err := alive(&d.Machine); err != nil {
			return err
		}
		client, _, err := clientFor(conf)
		if err != nil {
			return err
		}
		_, err = client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
		return err
	})
	if err != nil {
		return fmt.Errorf("node %s did not register; its log is %s: %w", name, d.Layout.ProcessLog(), err)
	}
	// The token has done its work.
	if err := os.Remove(d.Layout.Kubeconfig("bootstrap-kubelet.conf")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if !d.Quiet {
		fmt.Fprintf(d.Out, "\nThis node has joined the cluster. Run `kubectl get nodes` on the control-plane to see it.\n")
	}
	return nil
}

func (d *Join) markControlPlane(ctx context.Context) error {
	if d.Config.ControlPlane == nil {
		return nil
	}
	taints := d.Config.NodeRegistration.Taints
	if taints == nil {
		taints = controlPlaneTaints()
	}
	name := d.Config.NodeRegistration.Name
	return d.do("control-plane-join", "mark the node "+name+" as control-plane", func() error {
		client, _, err := clientFor(d.Layout.AdminConf())
		if err != nil {
			return err
		}
		return markControlPlane(ctx, client, name, taints, d.Config.Timeouts.KubernetesAPICall.Duration)
	})
}
