// Command skiff is Kubernetes in one binary: see README.md.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"skiff/cluster/logging"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := root().ExecuteContext(ctx); err != nil {
		if !errors.Is(err, context.Canceled) {
			fmt.Fprintln(os.Stderr, "error:", err)
		}
		os.Exit(1)
	}
}

func root() *cobra.Command {
	verbosity, format := 0, "text"
	cmd := &cobra.Command{
		Use:           "skiff",
		Short:         "Kubernetes in one binary",
		SilenceUsage:  true,
		SilenceErrors: true,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			return logging.Set(os.Stderr, format, verbosity)
		},
	}
	cmd.PersistentFlags().IntVarP(&verbosity, "v", "v", 0, "how much is logged: 0 is what an operator needs, 4 is for debugging, 6 has every request; what requests say is never logged")
	cmd.PersistentFlags().StringVar(&format, "logging-format", format, "how it is logged: text or json")
	cmd.AddCommand(
		upCommand(),
		downCommand(),
		runCommand(),
		initCommand(),
		joinCommand(),
		resetCommand(),
		tokenCommand(),
		certsCommand(),
		kubeconfigCommand(),
		configCommand(),
		imagesCommand(),
		kubectlCommand(),
		versionCommand(),
		backupCommand(),
		restoreCommand(),
		upgradeCommand(),
		apiserverCommand(),
		schedulerCommand(),
		controllersCommand(),
		kubeletCommand(),
		cloudCommand(),
		proxyCommand(),
		dnsCommand(),
		kineCommand(),
		benchCommand(),
		migrateCommand(),
		historyCommand(),
		diffCommand(),
		undeleteCommand(),
		rewindCommand(),
	)
	// Called by the name of a part, through a link, the binary is that part.
	names := map[string]string{
		"kube-apiserver": "apiserver", "kube-scheduler": "scheduler", "kube-controller-manager": "controllers", "kubectl": "kubectl",
		"cloud-controller-manager": "cloud", "kube-proxy": "proxy", "kubelet": "kubelet",
	}
	if part, ok := names[filepath.Base(os.Args[0])]; ok {
		cmd.SetArgs(append([]string{part}, os.Args[1:]...))
	}
	return cmd
}
