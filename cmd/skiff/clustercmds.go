package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"skiff/cluster/config"
	"skiff/cluster/lan"
	"skiff/cluster/layout"
	"skiff/cluster/node"
	"skiff/cluster/pki"
	"skiff/cluster/setup"
	"skiff/cluster/token"
	"skiff/cluster/version"
	"skiff/dns"
	kubeletconfig "skiff/kubelet/config"
)

func initCommand() *cobra.Command {
	var rootDir, file, store, netns, advertise, phase, cloudProvider string
	var skip, ignore []string
	var dry, upload bool
	c := &config.Init{}
	cmd := &cobra.Command{
		Use: "init", Short: "Set up a control-plane node", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			m, err := machine(cmd, rootDir, netns)
			if err != nil {
				return err
			}
			m.DryRun = dry
			if file != "" {
				if c, err = loadInit(file); err != nil {
					return err
				}
			}
			if store != "" {
				c.Cluster.Etcd = config.Etcd{External: &config.ExternalEtcd{Endpoints: []string{store}}}
			}
			if advertise != "" {
				c.LocalAPIEndpoint.AdvertiseAddress = advertise
			}
			facts, err := m.Facts(version.Version)
			if err != nil {
				return err
			}
			config.DefaultInit(c, facts)
			d := &setup.Init{Machine: m, Config: c, UploadCerts: upload, Ignore: ignore, CloudProvider: cloudProvider, Corefile: dns.Corefile}
			return d.Run(cmd.Context(), skip, phase)
		},
	}
	addRoot(cmd, &rootDir)
	f := cmd.Flags()
	f.StringVar(&file, "config", "", "a kubeadm configuration file")
	f.StringVar(&store, "store", "", "a postgres:// or https:// (etcd) URL that all masters share; empty is SQLite on this machine")
	f.StringVar(&cloudProvider, "cloud-provider", "", "the provider of node addresses and load balancers: local, or empty for none")
	f.StringVar(&netns, "netns", "", "the network namespace the node lives in")
	f.StringVar(&advertise, "apiserver-advertise-address", "", "the address that other nodes reach the API server by")
	f.Int32Var(&c.LocalAPIEndpoint.BindPort, "apiserver-bind-port", 0, "the port of the API server (default 6443)")
	f.StringVar(&c.Cluster.ControlPlaneEndpoint, "control-plane-endpoint", "", "a stable address of all masters")
	f.StringVar(&c.Cluster.Networking.PodSubnet, "pod-network-cidr", "", "the pods' range (default 10.244.0.0/16)")
	f.StringVar(&c.Cluster.Networking.ServiceSubnet, "service-cidr", "", "the cluster IPs' range (default 10.96.0.0/12)")
	f.StringVar(&c.Cluster.Networking.DNSDomain, "service-dns-domain", "", "the cluster's domain (default cluster.local)")
	f.StringVar(&c.NodeRegistration.Name, "node-name", "", "the node's name (default the host name)")
	f.StringVar(&c.CertificateKey, "certificate-key", "", "the key that the uploaded authorities are encrypted with")
	f.StringSliceVar(&skip, "skip-phases", nil, "phases to leave out")
	f.StringVar(&phase, "only-phase", "", "run this phase alone")
	f.StringSliceVar(&ignore, "ignore-preflight-errors", nil, "checks that only warn; all for every one")
	f.BoolVar(&dry, "dry-run", false, "say what would be done, and do nothing")
	f.BoolVar(&upload, "upload-certs", false, "store the authorities, encrypted, for masters that join")
	return cmd
}

func joinCommand() *cobra.Command {
	var rootDir, file, netns, tok, ip, advertise, certKey, discoveryFile, cloudProvider string
	var hashes, skip, ignore []string
	var dry, master, unsafe bool
	var port int32
	c := &config.Join{}
	cmd := &cobra.Command{
		Use: "join [API-SERVER:PORT]", Short: "Join this machine to a cluster", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			m, err := machine(cmd, rootDir, netns)
			if err != nil {
				return err
			}
			m.DryRun = dry
			if file != "" {
				if c, err = config.LoadJoin(file); err != nil {
					return err
				}
			}
			switch {
			case discoveryFile != "":
				c.Discovery.File = &config.FileDiscovery{KubeConfigPath: discoveryFile}
				c.Discovery.TLSBootstrapToken = tok
			case len(args) == 1:
				c.Discovery.BootstrapToken = &config.BootstrapTokenDiscovery{Token: tok, APIServerEndpoint: args[0], CACertHashes: hashes, UnsafeSkipCAVerification: unsafe}
			}
			if master {
				c.ControlPlane = &config.JoinControlPlane{CertificateKey: certKey, LocalAPIEndpoint: config.APIEndpoint{AdvertiseAddress: advertise, BindPort: port}}
			}
			facts, err := m.Facts(version.Version)
			if err != nil {
				return err
			}
			config.DefaultJoin(c, facts)
			if ip == "" && facts.Address != nil {
				ip = facts.Address.String()
			}
			d := &setup.Join{Machine: m, Config: c, Ignore: ignore, IP: ip, CloudProvider: cloudProvider}
			return d.Run(cmd.Context(), skip, "")
		},
	}
	addRoot(cmd, &rootDir)
	f := cmd.Flags()
	f.StringVar(&file, "config", "", "a kubeadm configuration file")
	f.StringVar(&netns, "netns", "", "the network namespace the node lives in")
	f.StringVar(&tok, "token", "", "the bootstrap token")
	f.StringSliceVar(&hashes, "discovery-token-ca-cert-hash", nil, "the hash of the cluster's authority: sha256:…")
	f.BoolVar(&unsafe, "discovery-token-unsafe-skip-ca-verification", false, "join without the hash")
	f.StringVar(&discoveryFile, "discovery-file", "", "a kubeconfig to learn the authority from")
	f.StringVar(&c.NodeRegistration.Name, "node-name", "", "the node's name (default the host name)")
	f.StringVar(&ip, "node-ip", "", "the address that other nodes reach this one by")
	f.StringVar(&cloudProvider, "cloud-provider", "", "for a master: the provider of node addresses and load balancers: local, or empty for none")
	f.BoolVar(&master, "control-plane", false, "join as another master")
	f.StringVar(&certKey, "certificate-key", "", "the key that the uploaded authorities are encrypted with")
	f.StringVar(&advertise, "apiserver-advertise-address", "", "the address of this master's API server")
	f.Int32Var(&port, "apiserver-bind-port", 0, "the port of this master's API server")
	f.StringSliceVar(&skip, "skip-phases", nil, "phases to leave out")
	f.StringSliceVar(&ignore, "ignore-preflight-errors", nil, "checks that only warn; all for every one")
	f.BoolVar(&dry, "dry-run", false, "say what would be done, and do nothing")
	return cmd
}

func resetCommand() *cobra.Command {
	var rootDir string
	var force, dry bool
	var skip []string
	cmd := &cobra.Command{
		Use: "reset", Short: "Stop the node and remove everything that it made", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := layout.New(rootDir)
			if err != nil {
				return err
			}
			var errs []error
			for _, each := range append(members(l), l) {
				m, err := machine(cmd, each.Root(), "")
				if err != nil {
					return err
				}
				m.DryRun = dry
				d := &setup.Reset{Machine: m, Cleaners: cleaners(each)}
				errs = append(errs, d.Run(cmd.Context(), skip, ""))
			}
			if !dry {
				errs = append(errs, lan.LAN{ID: lanID(l)}.Down(), os.RemoveAll(l.Path("nodes")))
			}
			return errors.Join(errs...)
		},
	}
	addRoot(cmd, &rootDir)
	cmd.Flags().BoolVarP(&force, "force", "f", false, "ask nothing (nothing is asked)")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "say what would be done, and do nothing")
	cmd.Flags().StringSliceVar(&skip, "skip-phases", nil, "phases to leave out")
	return cmd
}

// adminClient reaches the cluster as its administrator.
func adminClient(rootDir string) (kubernetes.Interface, layout.Layout, error) {
	l, err := layout.New(rootDir)
	if err != nil {
		return nil, l, err
	}
	path := l.AdminConf()
	if env := os.Getenv("KUBECONFIG"); env != "" {
		if _, err := os.Stat(path); err != nil {
			path = env
		}
	}
	cfg, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		return nil, l, fmt.Errorf("kubeconfig %s: %w", path, err)
	}
	c, err := kubernetes.NewForConfig(cfg)
	return c, l, err
}

func tokenCommand() *cobra.Command {
	var rootDir string
	cmd := &cobra.Command{Use: "token", Short: "Manage the tokens with which nodes join"}
	cmd.PersistentFlags().StringVar(&rootDir, "root", "", "the folder of the node; empty is the machine itself")
	var ttl time.Duration
	var printJoin bool
	var description string
	create := &cobra.Command{
		Use: "create [TOKEN]", Short: "Create a bootstrap token", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, l, err := adminClient(rootDir)
			if err != nil {
				return err
			}
			t, err := token.New(time.Now(), ttl)
			if err != nil {
				return err
			}
			if len(args) == 1 {
				expires := t.Expires
				if t, err = token.Parse(args[0]); err != nil {
					return err
				}
				t.Expires = expires
			}
			t.Description = description
			if err := token.Create(cmd.Context(), c, t); err != nil {
				return err
			}
			if !printJoin {
				fmt.Fprintln(cmd.OutOrStdout(), t)
				return nil
			}
			n, err := node.Load(l)
			if err != nil {
				return err
			}
			line, err := setup.JoinCommand(n.Cluster.CertificatesDir, n.Server, t.String())
			if err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), line)
			return nil
		},
	}
	create.Flags().DurationVar(&ttl, "ttl", token.DefaultTTL, "how long the token lives; 0 for ever")
	create.Flags().BoolVar(&printJoin, "print-join-command", false, "print the whole line with which a node joins")
	create.Flags().StringVar(&description, "description", "", "what the token is for")
	cmd.AddCommand(create,
		&cobra.Command{Use: "list", Short: "List the bootstrap tokens", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
			c, _, err := adminClient(rootDir)
			if err != nil {
				return err
			}
			list, errs := token.List(cmd.Context(), c)
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 10, 4, 3, ' ', 0)
			fmt.Fprintln(w, "TOKEN\tTTL\tEXPIRES\tUSAGES\tDESCRIPTION\tEXTRA GROUPS")
			for _, t := range list {
				left, expires := "<forever>", "<never>"
				if !t.Expires.IsZero() {
					left, expires = time.Until(t.Expires).Round(time.Second).String(), t.Expires.Format(time.RFC3339)
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", t, left, expires, strings.Join(t.Usages, ","), t.Description, strings.Join(t.Groups, ","))
			}
			return errors.Join(append(errs, w.Flush())...)
		}},
		&cobra.Command{Use: "delete TOKEN…", Short: "Delete bootstrap tokens", Args: cobra.MinimumNArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
			c, _, err := adminClient(rootDir)
			if err != nil {
				return err
			}
			for _, t := range args {
				if err := token.Delete(cmd.Context(), c, t); err != nil {
					return err
				}
				fmt.Fprintf(cmd.OutOrStdout(), "bootstrap token %q deleted\n", t)
			}
			return nil
		}},
		&cobra.Command{Use: "generate", Short: "Print a new token without storing it", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
			t, err := token.New(time.Now(), 0)
			if err == nil {
				fmt.Fprintln(cmd.OutOrStdout(), t)
			}
			return err
		}})
	return cmd
}

func certsCommand() *cobra.Command {
	var rootDir string
	cmd := &cobra.Command{Use: "certs", Short: "Manage the cluster's certificates"}
	cmd.PersistentFlags().StringVar(&rootDir, "root", "", "the folder of the node; empty is the machine itself")
	load := func() (layout.Layout, *node.Config, pki.Config, error) {
		l, err := layout.New(rootDir)
		if err != nil {
			return l, nil, pki.Config{}, err
		}
		c, err := node.Load(l)
		if err != nil {
			return l, nil, pki.Config{}, err
		}
		cfg, err := setup.PKIConfig(&c.Cluster, c.Name, c.Endpoint)
		return l, c, cfg, err
	}
	cmd.AddCommand(
		&cobra.Command{Use: "certificate-key", Short: "Print a key for --certificate-key", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
			key, err := setup.NewCertificateKey()
			if err == nil {
				fmt.Fprintln(cmd.OutOrStdout(), key)
			}
			return err
		}},
		&cobra.Command{Use: "check-expiration", Short: "Show when certificates end", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
			l, _, cfg, err := load()
			if err != nil {
				return err
			}
			list, err := pki.Expirations(l.PKI(), cfg)
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 10, 4, 3, ' ', 0)
			fmt.Fprintln(w, "CERTIFICATE\tEXPIRES\tRESIDUAL TIME")
			for _, e := range list {
				fmt.Fprintf(w, "%s\t%s\t%s\n", e.Name, e.Expires.Format("Jan 02, 2006 15:04 MST"), time.Until(e.Expires).Round(time.Hour))
			}
			return errors.Join(err, w.Flush())
		}},
		&cobra.Command{Use: "renew NAME|all", Short: "Renew certificates", Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
			l, _, cfg, err := load()
			if err != nil {
				return err
			}
			for _, c := range pki.Plan(cfg) {
				if args[0] == "all" || args[0] == c.Name {
					if err := pki.Renew(l.PKI(), c.Name, cfg, time.Now()); err != nil {
						return err
					}
					fmt.Fprintf(cmd.OutOrStdout(), "certificate %s renewed\n", c.Name)
				}
			}
			return nil
		}})
	return cmd
}

func kubectlCommand() *cobra.Command {
	return &cobra.Command{
		Use: "kubectl", Short: "Run kubectl against this cluster", DisableFlagParsing: true,
		RunE: func(_ *cobra.Command, args []string) error {
			path, err := exec.LookPath("kubectl")
			if err != nil {
				if path, err = besideSkiff("kubectl"); err != nil {
					return fmt.Errorf("kubectl is neither in PATH nor beside skiff: install it, or build it with `make kubectl`: %w", err)
				}
			}
			env := os.Environ()
			if os.Getenv("KUBECONFIG") == "" {
				l, err := layout.New("")
				if err != nil {
					return err
				}
				env = append(env, "KUBECONFIG="+l.AdminConf())
			}
			return syscall.Exec(path, append([]string{"kubectl"}, args...), env)
		},
	}
}

// besideSkiff is a program in the folder of this one.
func besideSkiff(name string) (string, error) {
	exe, err := os.Executable()
	if err != nil {
		return "", err
	}
	path := filepath.Join(filepath.Dir(exe), name)
	_, err = os.Stat(path)
	return path, err
}

func versionCommand() *cobra.Command {
	return &cobra.Command{Use: "version", Short: "Print the version", Args: cobra.NoArgs, Run: func(cmd *cobra.Command, _ []string) {
		fmt.Fprintln(cmd.OutOrStdout(), version.Version)
	}}
}

// cleaners take away what the parts of a node left on the machine.
func cleaners(l layout.Layout) []setup.Cleaner {
	netns := ""
	var runtime endpoints
	if c, err := node.Load(l); err == nil {
		netns = c.NetNS
		// A configuration that cannot be read is no reason to leave the rest.
		conf, err := nodeKubelet(l, c)
		if err != nil {
			conf = kubeletconfig.Default()
		}
		runtime = externalRuntime(l, c, conf)
	}
	return []setup.Cleaner{
		{What: "remove the pods of the container runtime", Clean: runtime.removePods},
		{What: "end the pods and remove their cgroups and mounts", Clean: func(ctx context.Context) error { return cleanPods(ctx, l) }},
		{What: "remove the rules and links of pods and Services", Clean: func(ctx context.Context) error { return cleanNetwork(ctx, netns) }},
	}
}
