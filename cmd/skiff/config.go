package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"skiff/cluster/config"
	"skiff/cluster/layout"
	"skiff/cluster/version"
)

// configCommand is kubeadm's config, for the same files.
func configCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "config", Short: "Print, check and migrate configuration files of init, join and reset"}
	printing := &cobra.Command{Use: "print", Short: "Print configurations"}
	for _, kind := range []string{"init", "join", "reset"} {
		printing.AddCommand(&cobra.Command{
			Use: kind + "-defaults", Short: "Print the defaults of " + kind, Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error { return printDefaults(cmd.OutOrStdout(), kind) },
		})
	}
	images := &cobra.Command{Use: "images", Short: "The images that the control plane needs: none"}
	for _, verb := range []string{"list", "pull"} {
		images.AddCommand(&cobra.Command{
			Use: verb, Short: "There is none to " + verb, Args: cobra.NoArgs,
			Run: func(cmd *cobra.Command, _ []string) {
				fmt.Fprintln(cmd.ErrOrStderr(), "skiff needs no image for its own parts: they are in the binary")
			},
		})
	}
	cmd.AddCommand(printing, images, validateConfigCommand(), migrateConfigCommand())
	return cmd
}

// placeholders stand for what differs from machine to machine.
func placeholders() (config.Facts, error) {
	l, err := layout.New("")
	if err != nil {
		return config.Facts{}, err
	}
	return config.Facts{
		NodeName: "node", Address: net.IPv4(1, 2, 3, 4), CRISocket: l.CRISocket(), StateDir: l.State(), PKI: l.PKI(), Version: version.Version,
	}, nil
}

func printDefaults(out io.Writer, kind string) error {
	f, err := placeholders()
	if err != nil {
		return err
	}
	const token = "abcdef.0123456789abcdef"
	type document struct {
		kind  string
		value any
	}
	var docs []document
	switch kind {
	case "init":
		c := &config.Init{BootstrapTokens: []config.BootstrapToken{{Token: token}}}
		config.DefaultInit(c, f)
		docs = []document{{config.InitKind, c}, {config.ClusterKind, &c.Cluster}}
	case "join":
		c := &config.Join{Discovery: config.Discovery{BootstrapToken: &config.BootstrapTokenDiscovery{
			Token: token, APIServerEndpoint: "kube-apiserver:6443", UnsafeSkipCAVerification: true,
		}}}
		config.DefaultJoin(c, f)
		docs = []document{{config.JoinKind, c}}
	case "reset":
		docs = []document{{config.ResetKind, &config.Reset{
			CertificatesDir: f.PKI, CRISocket: "unix://" + f.CRISocket,
			Timeouts: &config.Timeouts{KubernetesAPICall: &metav1.Duration{Duration: time.Minute}},
		}}}
	}
	for i, d := range docs {
		b, err := config.Marshal(d.kind, d.value)
		if err != nil {
			return err
		}
		if i > 0 {
			fmt.Fprintln(out, "---")
		}
		if _, err := out.Write(b); err != nil {
			return err
		}
	}
	return nil
}

func validateConfigCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use: "validate", Short: "Check a configuration file", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f, err := placeholders()
			if err != nil {
				return err
			}
			errs, err := config.Check(file, f)
			if err == nil {
				err = errs.ToAggregate()
			}
			if err == nil {
				fmt.Fprintln(cmd.OutOrStdout(), "ok")
			}
			return err
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "the file")
	_ = cmd.MarkFlagRequired("config") // it was just defined
	return cmd
}

func migrateConfigCommand() *cobra.Command {
	var from, to string
	cmd := &cobra.Command{
		Use: "migrate", Short: "Bring a configuration file to " + config.APIVersion, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			docs, err := config.Migrate(from)
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if to != "" {
				f, e := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
				if errors.Is(e, os.ErrExist) {
					return fmt.Errorf("%s is there already: name another file with --new-config", to)
				}
				if e != nil {
					return e
				}
				defer func() { err = errors.Join(err, f.Close()) }()
				out = f
			}
			_, err = out.Write(slices.Concat(joined(docs)...))
			return err
		},
	}
	cmd.Flags().StringVar(&from, "old-config", "", "the file to read")
	cmd.Flags().StringVar(&to, "new-config", "", "the file to write; empty is the standard output")
	_ = cmd.MarkFlagRequired("old-config") // it was just defined
	return cmd
}

// joined puts the line that separates YAML documents between them.
func joined(docs [][]byte) [][]byte {
	var out [][]byte
	for i, d := range docs {
		if i > 0 {
			out = append(out, []byte("---\n"))
		}
		out = append(out, d)
	}
	return out
}
