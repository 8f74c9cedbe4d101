package setup

import (
	"context"
	"path/filepath"

	"skiff/cluster/config"
	"skiff/cluster/layout"
	"skiff/cluster/preflight"
)

// ports of a node that must be free, by what listens there.
const (
	kubeletPort   = 10250
	proxyHealth   = 10256
	freeDiskBytes = 1 << 30
)

// nodeChecks hold for every node that is set up.
func nodeChecks(l layout.Layout, name string) []preflight.Check {
	checks := []preflight.Check{
		preflight.Root(),
		preflight.Cgroups(),
		preflight.Namespaces(),
		preflight.Netfilter(),
		preflight.Filesystem("overlay", "overlay"),
		preflight.HostName(name),
		preflight.Swap(),
		preflight.FreeSpace(l.State(), freeDiskBytes),
	}
	return append(checks, preflight.Executables("iptables", "iptables", "iptables-restore", "iptables-save")...)
}

// portChecks are only of use in the network namespace the node will live in.
func portChecks(m *Machine, ports ...int) []preflight.Check {
	if m.NetNS != "" {
		return nil
	}
	checks := make([]preflight.Check, len(ports))
	for i, p := range ports {
		checks[i] = preflight.Port("", p)
	}
	return checks
}

// networkChecks hold for a node with an address, in the network that the cluster has.
func networkChecks(c *config.Cluster, address string) []preflight.Check {
	checks := []preflight.Check{preflight.NodeAddress(address, c.Networking.PodSubnet, c.Networking.ServiceSubnet)}
	if c.Networking.PodBackend == config.BackendWireGuard {
		checks = append(checks, preflight.WireGuard())
	}
	return checks
}

func (d *Init) preflight(ctx context.Context) error {
	l := d.Layout
	d.say("preflight", "Running pre-flight checks")
	checks := nodeChecks(l, d.Config.NodeRegistration.Name)
	checks = append(checks, preflight.FilesAbsent(l.NodeConfig())...)
	checks = append(checks, networkChecks(&d.Config.Cluster, d.Config.LocalAPIEndpoint.AdvertiseAddress)...)
	checks = append(checks, portChecks(&d.Machine, int(d.Config.LocalAPIEndpoint.BindPort), kubeletPort, proxyHealth)...)
	return preflight.Run(ctx, d.Out, checks, append(d.Ignore, d.Config.NodeRegistration.IgnorePreflightErrors...))
}

func (d *Join) preflight(ctx context.Context) error {
	l := d.Layout
	d.say("preflight", "Running pre-flight checks")
	checks := nodeChecks(l, d.Config.NodeRegistration.Name)
	checks = append(checks, preflight.FilesAbsent(l.NodeConfig(), l.Kubeconfig("kubelet.conf"), l.Kubeconfig("bootstrap-kubelet.conf"))...)
	if d.Config.ControlPlane == nil {
		checks = append(checks, preflight.FilesAbsent(filepath.Join(l.PKI(), "ca.crt"))...)
	}
	ports := []int{kubeletPort, proxyHealth}
	if cp := d.Config.ControlPlane; cp != nil {
		ports = append(ports, int(cp.LocalAPIEndpoint.BindPort))
	}
	return d.check(ctx, append(checks, portChecks(&d.Machine, ports...)...))
}

func (d *Join) check(ctx context.Context, checks []preflight.Check) error {
	return preflight.Run(ctx, d.Out, checks, append(d.Ignore, d.Config.NodeRegistration.IgnorePreflightErrors...))
}

// timeouts are set by the defaults; a configuration built by hand may lack them.
func timeouts(t *config.Timeouts) *config.Timeouts {
	if t != nil && t.KubernetesAPICall != nil {
		return t
	}
	c := &config.Init{Timeouts: t}
	config.DefaultInit(c, config.Facts{})
	return c.Timeouts
}
