package kubelet

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"

	"github.com/godbus/dbus/v5"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
	v1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	internalapi "k8s.io/cri-api/pkg/apis"
	kubeletv1beta1 "k8s.io/kubelet/config/v1beta1"
	"k8s.io/mount-utils"

	"skiff/kubelet/config"
	"skiff/kubelet/topology"
)

// Paths are the kubelet's places on the node.
type Paths struct {
	// Root is the kubelet's folder, /var/lib/kubelet.
	Root string
	// PodLogs and ContainerLogs are /var/log/pods and /var/log/containers.
	PodLogs, ContainerLogs string
	// Logs is what /logs/ serves, /var/log; empty serves nothing.
	Logs string
	// Manifests holds static pods; empty means none.
	Manifests string
	// CgroupRoot is the cgroup that kubepods is below, "/" by default.
	CgroupRoot string
}

// Config configures a Kubelet.
type Config struct {
	Client kubernetes.Interface
	// NodeName and NodeIPs name the node; Hostname defaults to NodeName.
	NodeName, Hostname string
	NodeIPs            []string
	Runtime            internalapi.RuntimeService
	Images             internalapi.ImageManagerService
	// Streaming serves the paths of the URLs that Runtime's Exec, Attach and
	// PortForward answer; nil means that the URLs are dialled.
	Streaming http.Handler
	Paths     Paths
	// Kubelet is the configuration file's content; nil means defaults.
	Kubelet *kubeletv1beta1.KubeletConfiguration
	// GetCertificate, when set, is used in place of Kubelet's TLSCertFile. With neither
	// the server makes a certificate of its own.
	GetCertificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	// NodeLabels and Taints are those the node registers with.
	NodeLabels map[string]string
	Taints     []v1.Taint
	ProviderID string
	// External says that a cloud controller fills in the node's addresses.
	External bool
	// CredentialFiles are config.json files with registry credentials.
	CredentialFiles []string
	// CredentialProviders is a CredentialProviderConfig, whose programs are in
	// CredentialPlugins; empty for none.
	CredentialProviders, CredentialPlugins string
	// OnNode is told of every version of the node's object, for its addresses and
	// pod CIDRs. It must not change it.
	OnNode func(*v1.Node)
	// Guard, when set, is asked before containers of a pod with addresses of its own
	// start, so that the rules that guard it are there before it runs.
	Guard func(ctx context.Context, pod *v1.Pod, ips []string) error
	// Version is the kubelet's version, v1.37.2.
	Version string
	// Listener, when set, is what the server listens on instead of the
	// configuration's address and port.
	Listener net.Listener
	// Machine is what the processors and memory are like; nil means that the kernel
	// is asked.
	Machine *topology.Machine
	// DisableCgroups keeps the kubelet from making cgroups.
	DisableCgroups bool
	// Bus reaches the bus on which logind tells of shutdowns, and LogindConfDir is
	// the folder of its further configuration; nil and empty are the machine's.
	Bus           func(context.Context) (*dbus.Conn, error)
	LogindConfDir string
	// Flags are what /flagz shows. They hold no secrets.
	Flags map[string]string
	// Tracing gets a span for each step of a pod; nil means none.
	Tracing trace.TracerProvider
	// Mounter is the machine's; nil means the real one.
	Mounter mount.Interface
	// shareMounts lets containers mount for the node: the mounts are real.
	shareMounts bool
}

func (c *Config) validate() error {
	switch {
	case c.Client == nil:
		return errors.New("kubelet: Client is required")
	case c.Runtime == nil || c.Images == nil:
		return errors.New("kubelet: Runtime and Images are required")
	case c.NodeName == "":
		return errors.New("kubelet: NodeName is required")
	case c.Paths.Root == "" || c.Paths.PodLogs == "":
		return errors.New("kubelet: Paths.Root and Paths.PodLogs are required")
	case len(c.NodeIPs) == 0:
		return errors.New("kubelet: NodeIPs is empty; give the address that other nodes reach this one by")
	}
	for _, ip := range c.NodeIPs {
		if net.ParseIP(ip) == nil {
			return fmt.Errorf("kubelet: NodeIPs: %q is not an IP address", ip)
		}
	}
	if c.Tracing == nil {
		c.Tracing = noop.NewTracerProvider()
	}
	if c.Hostname == "" {
		c.Hostname = c.NodeName
	}
	if c.Paths.CgroupRoot == "" {
		c.Paths.CgroupRoot = "/"
	}
	if c.Version == "" {
		c.Version = "v1.37.2"
	}
	if c.Kubelet == nil {
		c.Kubelet = config.Default()
	} else {
		c.Kubelet = c.Kubelet.DeepCopy()
		config.SetDefaults(c.Kubelet)
	}
	if c.Mounter == nil {
		c.Mounter, c.shareMounts = mount.NewWithoutSystemd(""), true
	}
	return config.Validate(c.Kubelet)
}
