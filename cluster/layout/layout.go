// Package layout says where a node keeps what: kubeadm's paths, all of them
// below one root, so that several nodes can live on one machine.
package layout

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
)

// Layout is the set of paths of one node. The zero value is the machine's own node.
type Layout struct {
	// root is "" for the machine's own node, else an absolute folder.
	root string
}

// New makes the layout below root; "" and "/" mean the machine itself. A
// relative root is taken from the working directory.
func New(root string) (Layout, error) {
	if root == "" || root == "/" {
		return Layout{}, nil
	}
	abs, err := filepath.Abs(root)
	if err != nil {
		return Layout{}, fmt.Errorf("--root %q: %w", root, err)
	}
	return Layout{root: abs}, nil
}

// Root is the folder everything is below; "/" for the machine's own node.
func (l Layout) Root() string {
	if l.root == "" {
		return "/"
	}
	return l.root
}

// IsHost tells whether this is the machine's own node.
func (l Layout) IsHost() bool { return l.root == "" }

// ID is a short name that tells this layout from others on the machine, fit for
// cgroups, network namespaces and interfaces; "" for the machine's own node.
func (l Layout) ID() string {
	if l.root == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(l.root))
	return hex.EncodeToString(sum[:3])
}

// Path is a path of the machine, moved below the root.
func (l Layout) Path(elem ...string) string {
	return filepath.Join(append([]string{l.Root()}, elem...)...)
}

// Kubernetes is kubeadm's configuration folder.
func (l Layout) Kubernetes() string { return l.Path("etc/kubernetes") }

// PKI holds the certificates and keys.
func (l Layout) PKI() string { return l.Path("etc/kubernetes/pki") }

// Manifests is the static pod folder.
func (l Layout) Manifests() string { return l.Path("etc/kubernetes/manifests") }

// Kubeconfig is the path of one of kubeadm's kubeconfigs, such as "admin.conf".
func (l Layout) Kubeconfig(name string) string { return filepath.Join(l.Kubernetes(), name) }

// AdminConf is the cluster administrator's kubeconfig.
func (l Layout) AdminConf() string { return l.Kubeconfig("admin.conf") }

// Registries is the image registry configuration.
func (l Layout) Registries() string { return l.Path("etc/skiff/registries.yaml") }

// State is skiff's own state: the store, images, containers, volumes.
func (l Layout) State() string { return l.Path("var/lib/skiff") }

// NodeConfig is what `skiff run` runs.
func (l Layout) NodeConfig() string { return filepath.Join(l.State(), "node.yaml") }

// CRI is the folder of the container runtime's state.
func (l Layout) CRI() string { return filepath.Join(l.State(), "cri") }

// Database is the SQLite store.
func (l Layout) Database() string { return filepath.Join(l.State(), "store", "state.db") }

// Kubelet is the kubelet's folder.
func (l Layout) Kubelet() string { return l.Path("var/lib/kubelet") }

// PodLogs is where container logs are.
func (l Layout) PodLogs() string { return l.Path("var/log/pods") }

// ContainerLogs holds the links by container.
func (l Layout) ContainerLogs() string { return l.Path("var/log/containers") }

// ProcessLog is the log of a skiff process that was started in the background.
func (l Layout) ProcessLog() string { return l.Path("var/log/skiff.log") }

// CNIConfig and CNIBin are where a CNI plugin's files are looked for.
func (l Layout) CNIConfig() string { return l.Path("etc/cni/net.d") }

// CNIBin is where CNI plugin binaries are.
func (l Layout) CNIBin() string { return l.Path("opt/cni/bin") }

// Run is the folder of sockets and of state that does not outlive a boot. It is
// short for every root, because a socket's path has 108 bytes at most.
func (l Layout) Run() string {
	if l.root == "" {
		return "/run/skiff"
	}
	return "/run/skiff-" + l.ID()
}

// PIDFile names the background process.
func (l Layout) PIDFile() string { return filepath.Join(l.Run(), "skiff.pid") }

// CRISocket is where the container runtime listens.
func (l Layout) CRISocket() string { return filepath.Join(l.Run(), "cri.sock") }

// CgroupRoot is the cgroup that "kubepods" is below: the top for the machine's
// own node, as upstream, else a cgroup of this root's own.
func (l Layout) CgroupRoot() string {
	if l.root == "" {
		return "/"
	}
	return "/skiff-" + l.ID()
}

// NodeName is the default name of the node.
func (l Layout) NodeName() (string, error) {
	host, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("read the host name: %w", err)
	}
	if l.root == "" {
		return host, nil
	}
	return host + "-" + l.ID(), nil
}
