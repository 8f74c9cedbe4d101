package setup

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/client-go/kubernetes"

	"skiff/cluster/config"
	"skiff/cluster/kubeconfig"
	"skiff/cluster/node"
	"skiff/cluster/pki"
	"skiff/cluster/workflow"
)

// Init is the data of `skiff init`: what the phases read, and what the earlier
// ones leave for the later.
type Init struct {
	Machine
	Config *config.Init
	// UploadCerts stores the authorities, encrypted, for joining masters.
	UploadCerts bool
	// Ignore are the preflight checks that only warn.
	Ignore []string
	// Quiet leaves out the closing words.
	Quiet bool
	// CloudProvider and ProxyMode are written to the node's configuration.
	CloudProvider, ProxyMode string
	// Corefile is what the cluster's DNS servers begin with, for its domain.
	Corefile func(domain string) string

	tokens []string
	client kubernetes.Interface
}

// Run executes the workflow without the phases in skip, or only one of them.
func (d *Init) Run(ctx context.Context, skip []string, only string) error {
	if errs := config.ValidateInit(d.Config); len(errs) > 0 {
		return errs.ToAggregate()
	}
	if d.Config.LocalAPIEndpoint.AdvertiseAddress == "" {
		return field.Required(field.NewPath("localAPIEndpoint", "advertiseAddress"), "this machine has no address other than loopback: give it one, or set --apiserver-advertise-address")
	}
	steps, err := workflow.Steps(InitPhases(), append(slices.Clone(d.Config.SkipPhases), skip...), only)
	if err != nil {
		return err
	}
	return workflow.Run(ctx, steps, d)
}

// InitPhases is kubeadm's workflow.
func InitPhases() []workflow.Phase[*Init] {
	type phase = workflow.Phase[*Init]
	return []phase{
		{Name: "preflight", Short: "Run pre-flight checks", Run: method((*Init).preflight)},
		{Name: "certs", Short: "Generate the certificates and keys", Run: method((*Init).certs)},
		{Name: "kubeconfig", Short: "Generate the kubeconfig files", Run: method((*Init).kubeconfig)},
		{Name: "control-plane", Short: "Write what the control plane runs with", Run: method((*Init).controlPlane)},
		{Name: "kubelet-start", Short: "Write the kubelet's configuration and start the node", Run: method((*Init).kubeletStart)},
		{Name: "wait-control-plane", Short: "Wait for the control plane to serve", Run: method((*Init).waitControlPlane)},
		{Name: "upload-config", Short: "Store the configuration in the cluster", Phases: []phase{
			{Name: "kubeadm", Short: "Store the ClusterConfiguration", Run: method((*Init).uploadCluster)},
			{Name: "kubelet", Short: "Store the KubeletConfiguration", Run: method((*Init).uploadKubelet)},
		}},
		{Name: "upload-certs", Short: "Store the authorities, encrypted", Run: method((*Init).uploadCerts)},
		{Name: "mark-control-plane", Short: "Label and taint the node", Run: method((*Init).markControlPlane)},
		{Name: "bootstrap-token", Short: "Create the token and the rules that let nodes join", Run: method((*Init).bootstrapToken)},
		{Name: "addon", Short: "Set up cluster DNS and the proxies", Phases: []phase{
			{Name: "coredns", Short: "Create the DNS Service and its Corefile", Run: method((*Init).addonDNS)},
			{Name: "kube-proxy", Short: "Store the KubeProxyConfiguration", Run: method((*Init).addonProxy)},
		}},
		{Name: "show-join-command", Short: "Show how nodes join", Run: method((*Init).showJoin)},
	}
}

// PKIConfig is what the certificates of a control-plane node depend on.
func PKIConfig(cluster *config.Cluster, nodeName string, endpoint config.APIEndpoint) (pki.Config, error) {
	serviceIP, err := serviceIP(cluster.Networking.ServiceSubnet, 1)
	if err != nil {
		return pki.Config{}, err
	}
	names := []string{nodeName, endpoint.AdvertiseAddress}
	names = append(names, serviceIP...)
	if e := cluster.ControlPlaneEndpoint; e != "" {
		host, _, err := config.SplitEndpoint(e, config.DefaultBindPort)
		if err != nil {
			return pki.Config{}, err
		}
		names = append(names, host)
	}
	cfg := pki.Config{
		Algorithm:      pki.Algorithm(cluster.EncryptionAlgorithm),
		APIServerNames: append(names, cluster.APIServer.CertSANs...),
		DNSDomain:      cluster.Networking.DNSDomain,
	}
	if p := cluster.CACertificateValidityPeriod; p != nil {
		cfg.CAValidity = p.Duration
	}
	if p := cluster.CertificateValidityPeriod; p != nil {
		cfg.LeafValidity = p.Duration
	}
	return cfg, nil
}

// ServerURL is the URL that clients reach the cluster by: the shared endpoint
// where there is one, else this node's.
func ServerURL(cluster *config.Cluster, endpoint config.APIEndpoint) (string, error) {
	host, port := endpoint.AdvertiseAddress, strconv.Itoa(int(endpoint.BindPort))
	if e := cluster.ControlPlaneEndpoint; e != "" {
		var err error
		if host, port, err = config.SplitEndpoint(e, int(endpoint.BindPort)); err != nil {
			return "", err
		}
	}
	return "https://" + net.JoinHostPort(host, port), nil
}

func (d *Init) certs(context.Context) error {
	cfg, err := PKIConfig(&d.Config.Cluster, d.Config.NodeRegistration.Name, d.Config.LocalAPIEndpoint)
	if err != nil {
		return err
	}
	dir := d.Config.Cluster.CertificatesDir
	return d.do("certs", "generate the certificates and keys in "+dir, func() error {
		if err := pki.Ensure(dir, cfg, d.now()); err != nil {
			return err
		}
		d.say("certs", "Using certificateDir folder %q", dir)
		return nil
	})
}

func (d *Init) kubeconfig(context.Context) error {
	server, err := ServerURL(&d.Config.Cluster, d.Config.LocalAPIEndpoint)
	if err != nil {
		return err
	}
	return d.do("kubeconfig", "write the kubeconfig files to "+d.Layout.Kubernetes(), func() error {
		if err := writeKubeconfigs(&d.Machine, &d.Config.Cluster, d.Config.NodeRegistration.Name, server); err != nil {
			return err
		}
		d.say("kubeconfig", "Using kubeconfig folder %q", d.Layout.Kubernetes())
		return nil
	})
}

func writeKubeconfigs(m *Machine, cluster *config.Cluster, nodeName, server string) error {
	return kubeconfig.Ensure(kubeconfig.Config{
		Dir: m.Layout.Kubernetes(), PKI: cluster.CertificatesDir, ClusterName: cluster.ClusterName,
		Server: server, Algorithm: pki.Algorithm(cluster.EncryptionAlgorithm),
	}, kubeconfig.Plan(nodeName), m.now())
}

func (d *Init) controlPlane(context.Context) error {
	server, err := ServerURL(&d.Config.Cluster, d.Config.LocalAPIEndpoint)
	if err != nil {
		return err
	}
	c := &node.Config{
		Name:          d.Config.NodeRegistration.Name,
		IP:            d.Config.LocalAPIEndpoint.AdvertiseAddress,
		ControlPlane:  true,
		Endpoint:      d.Config.LocalAPIEndpoint,
		Server:        server,
		Registration:  d.Config.NodeRegistration,
		Cluster:       d.Config.Cluster,
		NetNS:         d.NetNS,
		CloudProvider: d.CloudProvider,
		ProxyMode:     d.ProxyMode,
		Proxy:         string(d.Config.ComponentConfigs["KubeProxyConfiguration"]),
	}
	if c.Registration.Taints == nil {
		c.Registration.Taints = controlPlaneTaints()
	}
	return d.do("control-plane", "write "+d.Layout.NodeConfig(), func() error {
		return node.Save(d.Layout, c)
	})
}

func (d *Init) kubeletStart(ctx context.Context) error {
	doc := d.Config.ComponentConfigs["KubeletConfiguration"]
	return d.do("kubelet-start", "write "+kubeletConfigFile(d.Layout)+" and start the node", func() error {
		if err := writeKubeletConfig(d.Layout, &d.Config.Cluster, doc); err != nil {
			return err
		}
		return startNode(ctx, &d.Machine)
	})
}

// waitControlPlane waits for the API server and makes admin.conf an
// administrator.
func (d *Init) waitControlPlane(ctx context.Context) error {
	if d.DryRun {
		return nil
	}
	start := d.now()
	super, cfg, err := clientFor(d.Layout.Kubeconfig("super-admin.conf"))
	if err != nil {
		return err
	}
	timeout := d.Config.Timeouts.ControlPlaneComponentHealthCheck.Duration
	d.say("wait-control-plane", "Waiting for the API server at %s", cfg.Host)
	err = retry(ctx, timeout, func(ctx context.Context) error {
		if err := alive(&d.Machine); err != nil {
			return err
		}
		return super.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
	})
	if err != nil {
		return fmt.Errorf("the API server at %s did not become ready; its log is %s: %w", cfg.Host, d.Layout.ProcessLog(), err)
	}
	d.say("wait-control-plane", "The API server is ready after %s", d.now().Sub(start).Round(time.Millisecond))
	err = ensure(ctx, super.RbacV1().ClusterRoleBindings(), bindCluster(kubeconfig.AdminsGroup, "cluster-admin", group(kubeconfig.AdminsGroup)))
	if err != nil {
		return err
	}
	admin, err := d.admin()
	if err != nil {
		return err
	}
	// The authoriser reads bindings from a watch, which is behind the write.
	return retry(ctx, timeout, func(ctx context.Context) error {
		everything := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{
			ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: "*", Group: "*", Resource: "*"}}}
		review, err := admin.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, everything, metav1.CreateOptions{})
		if err == nil && !review.Status.Allowed {
			err = fmt.Errorf("%s is no administrator yet: %s", d.Layout.AdminConf(), review.Status.Reason)
		}
		return err
	})
}

// admin is the client of the phases that write to the cluster.
func (d *Init) admin() (kubernetes.Interface, error) {
	if d.client != nil {
		return d.client, nil
	}
	client, _, err := clientFor(d.Layout.AdminConf())
	d.client = client
	return client, err
}
