package main

import (
	"errors"
	"log/slog"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"skiff/cluster/featuregates"
	"skiff/cluster/layout"
	"skiff/cluster/node"
	"skiff/kubelet/certificates"
)

// kubeletCommand runs the kubelet with the runtime and the pod network, without
// proxy and DNS.
func kubeletCommand() *cobra.Command {
	var rootDir, file, kubeconfig, bootstrap, name, ip, podCIDR, runtime string
	var gates featuregates.Gates
	cmd := &cobra.Command{
		Use: "kubelet", Short: "Run the kubelet alone, with its runtime and pod network", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := layout.New(rootDir)
			if err != nil {
				return err
			}
			gates.Warn(slog.Default(), "kubelet")
			if name == "" {
				if name, err = os.Hostname(); err != nil {
					return err
				}
			}
			if ip == "" {
				return errors.New("--node-ip is empty: give the address that other nodes reach this one by")
			}
			c := &node.Config{Name: strings.ToLower(name), IP: ip}
			c.Cluster.Networking.PodSubnet = podCIDR
			c.Registration.CRISocket = runtime
			c.Cluster.Proxy.Disabled, c.Cluster.DNS.Disabled = true, true
			if bootstrap != "" {
				err := certificates.Bootstrap(cmd.Context(), certificates.BootstrapConfig{
					Bootstrap: bootstrap, Kubeconfig: kubeconfig, Dir: l.Kubelet() + "/pki", NodeName: c.Name,
				})
				if err != nil {
					return err
				}
			}
			api, err := workerConfig(kubeconfig)
			if err != nil {
				return err
			}
			open := make(chan struct{})
			close(open)
			parts, err := nodeParts(l, c, file, api, open)
			if err != nil {
				return err
			}
			return supervise(cmd.Context(), parts)
		},
	}
	addRoot(cmd, &rootDir)
	f := cmd.Flags()
	f.StringVar(&kubeconfig, "kubeconfig", "/etc/kubernetes/kubelet.conf", "how the API is reached")
	addGates(f, &gates)
	f.StringVar(&file, "config", "", "a KubeletConfiguration; empty is its defaults")
	f.StringVar(&bootstrap, "bootstrap-kubeconfig", "", "with what a first certificate is asked for, where --kubeconfig does not exist")
	f.StringVar(&name, "hostname-override", "", "the node's name (default the host name)")
	f.StringVar(&ip, "node-ip", "", "the node's address")
	f.StringVar(&runtime, "container-runtime-endpoint", "", "another container runtime than skiff's own, such as unix:///run/containerd/containerd.sock; --config's containerRuntimeEndpoint goes first")
	f.StringVar(&podCIDR, "cluster-cidr", "10.244.0.0/16", "the pods' range")
	return cmd
}
