package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"skiff/client"
	"skiff/cluster/layout"
	"skiff/cluster/node"
	"skiff/cluster/pki"
	"skiff/cluster/process"
	"skiff/cluster/setup"
	"skiff/kubelet/certificates"
)

func runCommand() *cobra.Command {
	var rootDir string
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run the node that init, join or up have set up, in the foreground",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := layout.New(rootDir)
			if err != nil {
				return err
			}
			return runNode(cmd.Context(), l)
		},
	}
	addRoot(cmd, &rootDir)
	return cmd
}

// runNode runs what the node's file says until ctx ends.
func runNode(ctx context.Context, l layout.Layout) error {
	c, err := node.Load(l)
	if err != nil {
		return err
	}
	if pid, err := process.Find(l); err != nil {
		return err
	} else if pid != 0 && pid != os.Getpid() {
		return fmt.Errorf("the node below %s runs already, as process %d: stop it with `skiff down` first", l.Root(), pid)
	}
	if err := process.Record(l); err != nil {
		return err
	}
	slog.Info("node begins", "name", c.Name, "root", l.Root(), "controlPlane", c.ControlPlane)
	if c.ControlPlane {
		return runMaster(ctx, l, c)
	}
	return runWorker(ctx, l, c)
}

func runMaster(ctx context.Context, l layout.Layout, c *node.Config) error {
	if err := renewCertificates(l, c); err != nil {
		return err
	}
	cp, err := newControlPlane(l, c)
	if err != nil {
		return err
	}
	parts, err := cp.parts(l, c)
	if err != nil {
		return err
	}
	api := client.InProcess(cp.server.Handler(), &user.DefaultInfo{Name: "system:node:" + c.Name, Groups: []string{user.NodesGroup, user.AllAuthenticated}}, "kubelet")
	nodes, err := mastersNodeParts(l, c, api, cp.server.Ready())
	if err != nil {
		return err
	}
	parts = append(parts, nodes...)
	parts = append(parts, part{"backup", false, func(ctx context.Context) error { return scheduledBackups(ctx, l) }})
	parts = append(parts, part{"certificates", false, func(ctx context.Context) error {
		tick := time.NewTicker(12 * time.Hour)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
				if err := renewCertificates(l, c); err != nil {
					slog.Error("certificates could not be renewed; it is tried again", "err", err)
				}
			}
		}
	}})
	return supervise(ctx, parts)
}

// renewCertificates renews what has lived two thirds of its time.
func renewCertificates(l layout.Layout, c *node.Config) error {
	cfg, err := setup.PKIConfig(&c.Cluster, c.Name, c.Endpoint)
	if err != nil {
		return err
	}
	renewed, err := pki.RenewDue(l.PKI(), cfg, time.Now())
	if len(renewed) > 0 {
		slog.Info("certificates were renewed", "names", renewed)
	}
	return err
}

func runWorker(ctx context.Context, l layout.Layout, c *node.Config) error {
	conf := l.Kubeconfig("kubelet.conf")
	err := certificates.Bootstrap(ctx, certificates.BootstrapConfig{
		Bootstrap: l.Kubeconfig("bootstrap-kubelet.conf"), Kubeconfig: conf, Dir: l.Kubelet() + "/pki", NodeName: c.Name,
	})
	if err != nil {
		return err
	}
	api, err := workerConfig(conf)
	if err != nil {
		return err
	}
	kubelet, err := nodeKubelet(l, c)
	if err != nil {
		return err
	}
	api, rotation, err := rotating(l, c, kubelet, api)
	if err != nil {
		return err
	}
	open := make(chan struct{})
	close(open)
	flags, err := nodeFlags(l, c)
	if err != nil {
		return err
	}
	parts, err := nodeParts(l, c, flags, api, open)
	if err != nil {
		return err
	}
	return supervise(ctx, append(parts, rotation...))
}

func workerConfig(path string) (*rest.Config, error) {
	api, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		return nil, fmt.Errorf("kubeconfig %s: %w", path, err)
	}
	api.QPS, api.Burst = -1, -1
	api.UserAgent = "kubelet"
	api.WarningHandler = rest.NoWarnings{} // they are for people, who get them from kubectl
	api.ContentType = "application/vnd.kubernetes.protobuf"
	api.AcceptContentTypes = "application/vnd.kubernetes.protobuf,application/json"
	return api, nil
}

func downCommand() *cobra.Command {
	var rootDir string
	cmd := &cobra.Command{
		Use: "down", Short: "Stop the node; its pods keep running until reset", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := layout.New(rootDir)
			if err != nil {
				return err
			}
			return stopAll(cmd, l)
		},
	}
	addRoot(cmd, &rootDir)
	return cmd
}

const stopGrace = 20 * time.Second

// stopAll stops the node of a root, and the nodes that `up --nodes` put below it.
func stopAll(cmd *cobra.Command, l layout.Layout) error {
	var errs []error
	for _, each := range append(members(l), l) {
		was, err := process.Stop(cmd.Context(), each, stopGrace)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if was {
			fmt.Fprintf(cmd.OutOrStdout(), "Stopped the node below %s\n", each.Root())
		}
	}
	return errors.Join(errs...)
}

func kubeconfigCommand() *cobra.Command {
	var rootDir string
	cmd := &cobra.Command{
		Use: "kubeconfig", Short: "Print the administrator's kubeconfig", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := layout.New(rootDir)
			if err != nil {
				return err
			}
			b, err := os.ReadFile(l.AdminConf())
			if err != nil {
				return fmt.Errorf("%w: run `skiff up` or `skiff init` first", err)
			}
			_, err = cmd.OutOrStdout().Write(b)
			return err
		},
	}
	addRoot(cmd, &rootDir)
	return cmd
}

// same gives every controller the one identity of a kubeconfig.
func same(api *rest.Config) func(string) *rest.Config {
	return func(string) *rest.Config { return rest.CopyConfig(api) }
}
