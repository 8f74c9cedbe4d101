// Package node is the file that says what a node is: init and join write it,
// `skiff run` runs it.
package node

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"sigs.k8s.io/yaml"

	"skiff/cluster/backup"
	"skiff/cluster/config"
	"skiff/cluster/layout"
)

// APIVersion of the file.
const APIVersion = "node.skiff/v1"

// Config is one node.
type Config struct {
	APIVersion string `json:"apiVersion"`
	// Name is the node's name in the cluster; IP the address other nodes and
	// the API server reach it by.
	Name string `json:"name"`
	IP   string `json:"ip"`
	// ControlPlane nodes run the API server, the scheduler and the controllers.
	ControlPlane bool `json:"controlPlane"`
	// Endpoint is where this node's API server listens; for control-plane nodes.
	Endpoint config.APIEndpoint `json:"endpoint,omitempty"`
	// Server is the URL by which workers reach the API.
	Server string `json:"server"`
	// Registration is how the kubelet registers the node.
	Registration config.NodeRegistration `json:"registration"`
	// Cluster is the cluster's own configuration.
	Cluster config.Cluster `json:"cluster"`
	// NetNS is the name of the network namespace the process enters; empty is
	// the one it is started in.
	NetNS string `json:"netns,omitempty"`
	// CloudProvider starts the cloud controllers with this provider; empty is none.
	CloudProvider string `json:"cloudProvider,omitempty"`
	// ProxyMode is iptables, nftables or ipvs; empty is iptables.
	ProxyMode string `json:"proxyMode,omitempty"`
	// Backup is the schedule of a control-plane node's backups; empty is none.
	Backup *backup.Schedule `json:"backup,omitempty"`
	// Kubelet and Proxy are the component configurations as YAML; empty is defaults.
	Kubelet string `json:"kubelet,omitempty"`
	Proxy   string `json:"proxy,omitempty"`
}

// ErrNone tells that no node was set up below a root.
var ErrNone = errors.New("no node is set up here")

// Load reads the node below l.
func Load(l layout.Layout) (*Config, error) {
	data, err := os.ReadFile(l.NodeConfig())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s does not exist; run `skiff up`, `skiff init` or `skiff join` first", ErrNone, l.NodeConfig())
	}
	if err != nil {
		return nil, err
	}
	c := &Config{}
	if err := yaml.UnmarshalStrict(data, c); err != nil {
		return nil, fmt.Errorf("%s: %w", l.NodeConfig(), err)
	}
	if c.APIVersion != APIVersion {
		return nil, fmt.Errorf("%s: apiVersion %q: want %s; it was written by another version of skiff", l.NodeConfig(), c.APIVersion, APIVersion)
	}
	return c, nil
}

// Save writes the node below l, as a whole.
func Save(l layout.Layout, c *Config) error {
	c.APIVersion = APIVersion
	data, err := yaml.Marshal(c)
	if err != nil {
		return err
	}
	path := l.NodeConfig()
	// Searchable: the roots of containers are below it, and those of pods with a
	// user namespace belong to others.
	if err := os.MkdirAll(filepath.Dir(path), 0o711); err != nil {
		return err
	}
	tmp := path + ".new"
	// 0600: the store's URL may hold a password.
	if err := os.WriteFile(tmp, data, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

// StoreURLs are the --etcd-servers of the node's API server.
func (c *Config) StoreURLs(l layout.Layout) []string {
	if e := c.Cluster.Etcd.External; e != nil {
		return e.Endpoints
	}
	return []string{"sqlite://" + l.Database()}
}

// UsesSQLite tells whether the store is the embedded one: one process, no
// leader election.
func (c *Config) UsesSQLite() bool { return c.Cluster.Etcd.External == nil }

// LocalServer is the URL of the node's own API server.
func (c *Config) LocalServer() string {
	return "https://" + net.JoinHostPort(c.Endpoint.AdvertiseAddress, strconv.Itoa(int(c.Endpoint.BindPort)))
}
