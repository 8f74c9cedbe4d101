package main

import (
	"errors"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"skiff/cluster/layout"
	"skiff/cluster/node"
	"skiff/cluster/setup"
	"skiff/kubelet/certificates"
)

// kubeletCommand runs the kubelet with the runtime and the pod network, without
// proxy and DNS.
func kubeletCommand() *cobra.Command {
	var rootDir string
	var own kubeletOwn
	var o kubeletFlags
	cmd := &cobra.Command{
		Use: "kubelet", Short: "Run the kubelet alone, with its runtime and pod network", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := layout.New(rootDir)
			if err != nil {
				return err
			}
			if own.name == "" {
				if own.name, err = os.Hostname(); err != nil {
					return err
				}
			}
			if own.ip == "" {
				ip := setup.DefaultAddress()
				if ip == nil {
					return errors.New("--node-ip is empty and the machine has no address: give the one that other nodes reach this one by")
				}
				own.ip = ip.String()
			}
			c := &node.Config{Name: strings.ToLower(own.name), IP: own.ip}
			c.Cluster.Networking.PodSubnet = own.podCIDR
			c.Cluster.Proxy.Disabled, c.Cluster.DNS.Disabled = true, true
			if own.bootstrap != "" {
				err := certificates.Bootstrap(cmd.Context(), certificates.BootstrapConfig{
					Bootstrap: own.bootstrap, Kubeconfig: own.kubeconfig, Dir: l.Kubelet() + "/pki", NodeName: c.Name,
				})
				if err != nil {
					return err
				}
			}
			api, err := workerConfig(own.kubeconfig)
			if err != nil {
				return err
			}
			o.file = own.file
			open := make(chan struct{})
			close(open)
			parts, err := nodeParts(l, c, &o, api, open)
			if err != nil {
				return err
			}
			return supervise(cmd.Context(), parts)
		},
	}
	addRoot(cmd, &rootDir)
	own.add(cmd.Flags())
	o.add(cmd.Flags())
	return cmd
}
