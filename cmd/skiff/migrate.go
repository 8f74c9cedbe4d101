package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/spf13/cobra"

	"skiff/cluster/config"
	"skiff/cluster/layout"
	"skiff/cluster/node"
	"skiff/cluster/process"
	"skiff/kine/backend"
	"skiff/kine/transfer"
)

type migrateFlags struct {
	root, from, to            string
	fromCA, fromCert, fromKey string
	toCA, toCert, toKey       string
	warm, anyway              bool
	gap                       int64
}

func migrateCommand() *cobra.Command {
	var o migrateFlags
	cmd := &cobra.Command{
		Use: "migrate --to URL", Short: "Move the cluster's state to another store: SQLite, Postgres, etcd, or k3s' kine", Args: cobra.NoArgs,
		Long: `Move the cluster's state to another store.

Without --from it is the store of the node below --root, which then uses the new
one from its next start. The store may be in use: --warm copies it while the node
runs, and after "skiff down" the same command without --warm copies what has
changed since. What was interrupted goes on where it was.

URLs:
  sqlite:///PATH                     skiff's database file; as a source k3s' too
  kine-sqlite:///PATH                the database file of k3s' kine
  postgres://USER:PASSWORD@HOST/DB   skiff's database; as a source k3s' too
  kine-postgres://USER:PASSWORD@…    the database of k3s' kine
  https://HOST:2379,…                an etcd cluster
  etcd-snapshot:///PATH              a file of "etcdctl snapshot save"`,
		RunE: func(cmd *cobra.Command, _ []string) error { return migrate(cmd.Context(), cmd.OutOrStdout(), o) },
	}
	f := cmd.Flags()
	addRoot(cmd, &o.root)
	f.StringVar(&o.from, "from", "", "the store to read; default the node's own")
	f.StringVar(&o.to, "to", "", "the store to fill, which must be empty")
	f.BoolVar(&o.warm, "warm", false, "copy what there is and leave the target unfinished, to copy the rest later")
	f.BoolVar(&o.anyway, "while-running", false, "copy the store of a node that runs and finish: what is written meanwhile stays behind")
	f.Int64Var(&o.gap, "revision-gap", -1, "how far the revision moves on: more than the old store still writes; default none for a file that nobody uses, else 1000000")
	f.StringVar(&o.fromCA, "from-cafile", "", "the authority of the etcd to read")
	f.StringVar(&o.fromCert, "from-certfile", "", "the client certificate for it")
	f.StringVar(&o.fromKey, "from-keyfile", "", "its key")
	f.StringVar(&o.toCA, "to-cafile", "", "the authority of the etcd to fill")
	f.StringVar(&o.toCert, "to-certfile", "", "the client certificate for it")
	f.StringVar(&o.toKey, "to-keyfile", "", "its key")
	if err := cmd.MarkFlagRequired("to"); err != nil {
		cobra.CheckErr(err)
	}
	return cmd
}

func migrate(ctx context.Context, out io.Writer, o migrateFlags) error {
	l, err := layout.New(o.root)
	if err != nil {
		return err
	}
	from, fromTLS := o.from, &config.ExternalEtcd{CAFile: o.fromCA, CertFile: o.fromCert, KeyFile: o.fromKey}
	var own *node.Config
	if from == "" {
		if own, err = stoppedOwner(l, o.warm || o.anyway); err != nil {
			return err
		}
		from = strings.Join(own.StoreURLs(l), ",")
		if own.Cluster.Etcd.External != nil {
			fromTLS = own.Cluster.Etcd.External
		}
	}
	toTLS := &config.ExternalEtcd{Endpoints: backend.Endpoints(o.to), CAFile: o.toCA, CertFile: o.toCert, KeyFile: o.toKey}
	report, err := move(ctx, out, from, fromTLS, o.to, toTLS, transfer.Options{Gap: o.gap, Warm: o.warm})
	if err != nil {
		return err
	}
	switch {
	case o.warm:
		fmt.Fprintf(out, "Copied %d keys at revision %d to %s, which is not a store yet: stop what writes, and run the same command without --warm\n",
			report.Keys, report.Source, backend.Redact(o.to))
		return nil
	case report.KeptRevisions:
		fmt.Fprintf(out, "Moved %d keys at revision %d to %s; each kept its revisions", report.Keys, report.Source, backend.Redact(o.to))
	default:
		fmt.Fprintf(out, "Moved %d keys at revision %d to %s", report.Keys, report.Source, backend.Redact(o.to))
	}
	fmt.Fprintf(out, "\nVerified: sha256 %s of all keys and values on both sides; %d were written in this run, %d removed\n", report.Hash, report.Written, report.Removed)
	if own == nil || o.anyway {
		return nil
	}
	return use(out, l, own, toTLS)
}

// stoppedOwner is the node whose store is moved. It must not run, unless its
// store is only copied.
func stoppedOwner(l layout.Layout, running bool) (*node.Config, error) {
	c, err := node.Load(l)
	if err != nil {
		return nil, fmt.Errorf("%w; or name the store with --from", err)
	}
	if !c.ControlPlane {
		return nil, fmt.Errorf("the node below %s is a worker and has no store: run this on a control-plane node", l.Root())
	}
	pid, err := process.Find(l)
	if err != nil {
		return nil, err
	}
	if pid != 0 && !running {
		return nil, fmt.Errorf("the node below %s runs, as process %d, and what it writes meanwhile would be missing: copy with --warm while it runs, then `skiff down` and run this again", l.Root(), pid)
	}
	return c, nil
}

// use makes the node use the store from its next start.
func use(out io.Writer, l layout.Layout, c *node.Config, to *config.ExternalEtcd) error {
	scheme, _, _ := strings.Cut(to.Endpoints[0], ":")
	switch {
	case len(to.Endpoints) == 1 && to.Endpoints[0] == "sqlite://"+l.Database():
		c.Cluster.Etcd.External = nil
	case scheme == "postgres" || scheme == "postgresql" || scheme == "http" || scheme == "https" || scheme == "sqlite":
		c.Cluster.Etcd = config.Etcd{External: to}
	default:
		return nil // a file for another program
	}
	if err := node.Save(l, c); err != nil {
		return fmt.Errorf("the state is moved, but %s could not be changed: set cluster.etcd.external.endpoints in it: %w", l.NodeConfig(), err)
	}
	fmt.Fprintf(out, "The node below %s uses the new store from its next start, and tells nodes that join of it; the old one is left as it is\n", l.Root())
	return nil
}

// move runs one transfer.
func move(ctx context.Context, out io.Writer, from string, fromTLS *config.ExternalEtcd, to string, toTLS *config.ExternalEtcd, t transfer.Options) (report transfer.Report, err error) {
	fromOptions, err := storeOptions(fromTLS)
	if err != nil {
		return report, err
	}
	toOptions, err := storeOptions(toTLS)
	if err != nil {
		return report, err
	}
	src, err := backend.Source(ctx, from, fromOptions)
	if err != nil {
		return report, err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	dst, err := backend.Target(to, toOptions)
	if err != nil {
		return report, err
	}
	defer func() { err = errors.Join(err, dst.Close()) }()
	t.From = backend.Redact(from)
	t.Progress = func(keys int64) { fmt.Fprintf(out, "%d keys …\n", keys) }
	return transfer.Run(ctx, src, dst, t)
}

// storeOptions are the settings of a store; the files are for an etcd's https.
func storeOptions(e *config.ExternalEtcd) (backend.Options, error) {
	opts := backend.Options{Log: slog.Default().With("part", "store")}
	if e == nil || e.CertFile == "" {
		return opts, nil
	}
	t, err := clientTLS(e.CAFile, e.CertFile, e.KeyFile)
	opts.TLS = t
	return opts, err
}
