package config

import (
	"net"
	"net/netip"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Defaults that kubeadm documents. PodSubnet is skiff's own: the built-in pod
// network needs one.
const (
	DefaultServiceSubnet = "10.96.0.0/12"
	DefaultPodSubnet     = "10.244.0.0/16"
	DefaultDNSDomain     = "cluster.local"
	DefaultClusterName   = "kubernetes"
	DefaultBindPort      = 6443
	DefaultTokenTTL      = 24 * time.Hour
)

// The ranges of a cluster whose first node has an address within the usual ones.
const (
	otherServiceSubnet = "10.160.0.0/12"
	otherPodSubnet     = "10.245.0.0/16"
)

// Facts about the machine that defaults depend on.
type Facts struct {
	NodeName string
	// Address is the node's address on its default route; nil when it has none.
	Address   net.IP
	CRISocket string
	// StateDir is the folder of the embedded store's file.
	StateDir string
	PKI      string
	Version  string
}

// NewInit is an empty configuration with every default.
func NewInit(f Facts) *Init {
	c := &Init{}
	DefaultInit(c, f)
	return c
}

// DefaultInit fills what is not set.
func DefaultInit(c *Init, f Facts) {
	defaultNode(&c.NodeRegistration, f)
	defaultEndpoint(&c.LocalAPIEndpoint, f)
	for i := range c.BootstrapTokens {
		t := &c.BootstrapTokens[i]
		if t.TTL == nil && t.Expires == nil {
			t.TTL = &metav1.Duration{Duration: DefaultTokenTTL}
		}
		if t.Usages == nil {
			t.Usages = []string{"signing", "authentication"}
		}
		if t.Groups == nil {
			t.Groups = []string{"system:bootstrappers:kubeadm:default-node-token"}
		}
	}
	c.Timeouts = defaultTimeouts(c.Timeouts)
	set(&c.Cluster.Networking.ServiceSubnet, apart(c.LocalAPIEndpoint.AdvertiseAddress, DefaultServiceSubnet, otherServiceSubnet))
	set(&c.Cluster.Networking.PodSubnet, apart(c.LocalAPIEndpoint.AdvertiseAddress, DefaultPodSubnet, otherPodSubnet))
	DefaultCluster(&c.Cluster, f)
}

// apart is a default range that the node's address does not lie in.
func apart(address, subnet, other string) string {
	if a, err := netip.ParseAddr(address); err == nil && netip.MustParsePrefix(subnet).Contains(a.Unmap()) {
		return other
	}
	return subnet
}

// DefaultCluster fills what is not set.
func DefaultCluster(c *Cluster, f Facts) {
	set(&c.Networking.ServiceSubnet, DefaultServiceSubnet)
	set(&c.Networking.PodSubnet, DefaultPodSubnet)
	set(&c.Networking.DNSDomain, DefaultDNSDomain)
	set(&c.ClusterName, DefaultClusterName)
	set(&c.CertificatesDir, f.PKI)
	set(&c.KubernetesVersion, f.Version)
	set(&c.EncryptionAlgorithm, "ECDSA-P256")
	if c.Etcd.Local == nil && c.Etcd.External == nil {
		c.Etcd.Local = &LocalEtcd{}
	}
	if c.Etcd.Local != nil {
		set(&c.Etcd.Local.DataDir, f.StateDir)
	}
}

// DefaultJoin fills what is not set.
func DefaultJoin(c *Join, f Facts) {
	defaultNode(&c.NodeRegistration, f)
	set(&c.CACertPath, f.PKI+"/ca.crt")
	if bt := c.Discovery.BootstrapToken; bt != nil {
		set(&c.Discovery.TLSBootstrapToken, bt.Token)
	}
	if c.ControlPlane != nil {
		defaultEndpoint(&c.ControlPlane.LocalAPIEndpoint, f)
	}
	c.Timeouts = defaultTimeouts(c.Timeouts)
}

func defaultNode(n *NodeRegistration, f Facts) {
	set(&n.Name, f.NodeName)
	set(&n.CRISocket, "unix://"+f.CRISocket)
}

func defaultEndpoint(e *APIEndpoint, f Facts) {
	if e.AdvertiseAddress == "" && f.Address != nil {
		e.AdvertiseAddress = f.Address.String()
	}
	if e.BindPort == 0 {
		e.BindPort = DefaultBindPort
	}
}

func defaultTimeouts(t *Timeouts) *Timeouts {
	if t == nil {
		t = &Timeouts{}
	}
	for _, d := range []struct {
		at    **metav1.Duration
		value time.Duration
	}{
		{&t.ControlPlaneComponentHealthCheck, 4 * time.Minute},
		{&t.KubeletHealthCheck, 4 * time.Minute},
		{&t.KubernetesAPICall, time.Minute},
		{&t.EtcdAPICall, 2 * time.Minute},
		{&t.TLSBootstrap, 5 * time.Minute},
		{&t.Discovery, 5 * time.Minute},
		{&t.UpgradeManifests, 5 * time.Minute},
	} {
		if *d.at == nil {
			*d.at = &metav1.Duration{Duration: d.value}
		}
	}
	return t
}

func set(at *string, value string) {
	if *at == "" {
		*at = value
	}
}
