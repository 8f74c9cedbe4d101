package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"skiff/cluster/backup"
	"skiff/cluster/layout"
	"skiff/cluster/node"
	"skiff/kine/backend"
	"skiff/kine/sqlite"
	"skiff/kine/transfer"
)

func backupCommand() *cobra.Command {
	var rootDir string
	cmd := &cobra.Command{
		Use: "backup [FILE|FOLDER/|s3://BUCKET/PREFIX]", Short: "Back up a control-plane node while it runs: store, certificates, encryption keys, configuration",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := layout.New(rootDir)
			if err != nil {
				return err
			}
			out := ""
			if len(args) == 1 {
				out = args[0]
			}
			name, err := backUp(cmd.Context(), l, out)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "Backed up the node below %s to %s; it holds the cluster's keys\n", l.Root(), name)
			return nil
		},
	}
	addRoot(cmd, &rootDir)
	cmd.AddCommand(backupScheduleCommand(), backupListCommand())
	return cmd
}

// backUp puts an archive where out says: a file, a folder, or a bucket.
func backUp(ctx context.Context, l layout.Layout, out string) (string, error) {
	if out != "" && !strings.HasSuffix(out, "/") && !strings.Contains(out, "://") {
		return out, makeBackup(ctx, l, out)
	}
	if out == "" {
		out = "./"
	}
	c, err := node.Load(l)
	if err != nil {
		return "", err
	}
	place, err := backup.Open(out)
	if err != nil {
		return "", err
	}
	name := backup.Name(c.Name, time.Now())
	return backup.Archive(out, name), putBackup(ctx, l, place, name)
}

// putBackup makes an archive and stores it under a name.
func putBackup(ctx context.Context, l layout.Layout, place backup.Place, name string) error {
	dir, err := os.MkdirTemp(l.State(), "backup-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, name)
	if err := makeBackup(ctx, l, file); err != nil {
		return err
	}
	return place.Put(ctx, name, file)
}

// makeBackup writes an archive. Whatever the store is, its state is in it as a
// SQLite file.
func makeBackup(ctx context.Context, l layout.Layout, out string) error {
	c, err := node.Load(l)
	if err != nil {
		return err
	}
	if !c.ControlPlane {
		return fmt.Errorf("the node below %s is a worker: it holds no state of the cluster; back up a control-plane node", l.Root())
	}
	dir, err := os.MkdirTemp(l.State(), "backup-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	snapshot := filepath.Join(dir, "state.db")
	if c.UsesSQLite() {
		err = sqlite.Snapshot(ctx, l.Database(), snapshot)
	} else {
		_, err = move(ctx, io.Discard, strings.Join(c.StoreURLs(l), ","), c.Cluster.Etcd.External, "sqlite://"+snapshot, nil, transfer.Options{Gap: 0})
	}
	if err != nil {
		return err
	}
	if _, _, err := sqlite.Verify(ctx, snapshot); err != nil {
		return err
	}
	return backup.Write(l, snapshot, outside(l, c), out)
}

// outside are the files that the node's configuration names and that may be
// anywhere: without the encryption keys the state cannot be read.
func outside(l layout.Layout, c *node.Config) []string {
	var files []string
	for _, arg := range c.Cluster.APIServer.ExtraArgs {
		if arg.Name == "encryption-provider-config" || arg.Name == "audit-policy-file" {
			files = append(files, arg.Value)
		}
	}
	if e := c.Cluster.Etcd.External; e != nil {
		files = append(files, e.CAFile, e.CertFile, e.KeyFile)
	}
	var out []string
	for _, file := range files {
		if file != "" && !strings.HasPrefix(file, l.Kubernetes()+"/") {
			out = append(out, file)
		}
	}
	return out
}

func restoreCommand() *cobra.Command {
	var rootDir string
	var keep bool
	cmd := &cobra.Command{
		Use: "restore FILE|s3://BUCKET/KEY", Short: "Restore a backup to a machine without a node; then run `skiff up` or `skiff run`", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := layout.New(rootDir)
			if err != nil {
				return err
			}
			return restore(cmd.Context(), cmd.OutOrStdout(), l, args[0], keep)
		},
	}
	addRoot(cmd, &rootDir)
	cmd.Flags().BoolVar(&keep, "keep-store", false, "restore certificates and configuration alone; the Postgres or etcd of the node is as it should be")
	return cmd
}

func restore(ctx context.Context, out io.Writer, l layout.Layout, from string, keep bool) error {
	if strings.Contains(from, "://") {
		dir, err := os.MkdirTemp("", "skiff-restore-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		if from, err = backup.Fetch(ctx, from, dir); err != nil {
			return err
		}
	}
	if err := backup.Read(l, from); err != nil {
		return err
	}
	err := restoreStore(ctx, out, l, keep)
	if err != nil {
		// A machine on which half of a node is looks like one with a node.
		err = errors.Join(err, backup.Undo(l, from))
	}
	return err
}

// restoreStore brings the state of the archive, which is where the embedded
// store would be, to where the node's configuration has it.
func restoreStore(ctx context.Context, out io.Writer, l layout.Layout, keep bool) error {
	c, err := node.Load(l)
	if err != nil {
		return err
	}
	// The configuration has paths of the root that it was made for.
	if has := c.Registration.CRISocket; strings.HasPrefix(has, "unix:///run/skiff") && has != "unix://"+l.CRISocket() {
		return fmt.Errorf("the backup is of a node below another root, with certificates in %s: give `skiff restore` the --root of that node", c.Cluster.CertificatesDir)
	}
	keys, revision, err := sqlite.Verify(ctx, l.Database())
	if err != nil {
		return err
	}
	address := strings.Join(c.StoreURLs(l), ",")
	switch {
	case c.UsesSQLite():
		if err := sqlite.Rebase(ctx, l.Database()); err != nil {
			return err
		}
		fmt.Fprintf(out, "Restored %d keys at revision %d; clients will list anew\n", keys, revision)
		return nil
	case keep:
		fmt.Fprintf(out, "Restored the node's certificates and configuration; the store at %s is used as it is\n", backend.Redact(address))
	default:
		_, err := move(ctx, io.Discard, "sqlite://"+l.Database(), nil, address, c.Cluster.Etcd.External, transfer.Options{Gap: transfer.Gap})
		if errors.Is(err, transfer.ErrNotEmpty) {
			return fmt.Errorf("%w; or keep what it has, and restore certificates and configuration alone, with --keep-store", err)
		}
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "Restored %d keys at revision %d to %s; clients will list anew\n", keys, revision, backend.Redact(address))
	}
	return os.RemoveAll(filepath.Dir(l.Database()))
}
