package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"skiff/cluster/backup"
	"skiff/cluster/layout"
	"skiff/cluster/node"
	"skiff/kine/sqlite"
)

func backupCommand() *cobra.Command {
	var rootDir string
	cmd := &cobra.Command{
		Use: "backup [FILE]", Short: "Back up a control-plane node while it runs: store, certificates, configuration", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := layout.New(rootDir)
			if err != nil {
				return err
			}
			out := fmt.Sprintf("skiff-%s.tar.gz", time.Now().UTC().Format("20060102T150405Z"))
			if len(args) == 1 {
				out = args[0]
			}
			if err := makeBackup(cmd.Context(), l, out); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "Backed up the node below %s to %s; it holds the cluster's keys\n", l.Root(), out)
			return nil
		},
	}
	addRoot(cmd, &rootDir)
	return cmd
}

// makeBackup writes an archive. A store that is not SQLite has tools of its own.
func makeBackup(ctx context.Context, l layout.Layout, out string) error {
	c, err := node.Load(l)
	if err != nil {
		return err
	}
	if !c.ControlPlane {
		return fmt.Errorf("the node below %s is a worker: it holds no state of the cluster; back up a control-plane node", l.Root())
	}
	snapshot := ""
	if c.UsesSQLite() {
		dir, err := os.MkdirTemp(l.State(), "backup-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		snapshot = filepath.Join(dir, "state.db")
		if err := sqlite.Snapshot(ctx, l.Database(), snapshot); err != nil {
			return err
		}
		if _, _, err := sqlite.Verify(ctx, snapshot); err != nil {
			return err
		}
	}
	return backup.Write(l, snapshot, out)
}

func restoreCommand() *cobra.Command {
	var rootDir string
	cmd := &cobra.Command{
		Use: "restore FILE", Short: "Restore a backup to a machine without a node; then run `skiff up` or `skiff run`", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := layout.New(rootDir)
			if err != nil {
				return err
			}
			has, err := backup.Read(l, args[0])
			if err != nil {
				return err
			}
			if !has {
				fmt.Fprintln(cmd.OutOrStdout(), "Restored the node's certificates and configuration; its store is kept elsewhere")
				return nil
			}
			keys, revision, err := sqlite.Verify(cmd.Context(), l.Database())
			if err == nil {
				err = sqlite.Rebase(cmd.Context(), l.Database())
			}
			if err != nil {
				return errors.Join(err, os.RemoveAll(filepath.Dir(l.Database())))
			}
			fmt.Fprintf(cmd.OutOrStdout(), "Restored %d keys at revision %d; clients will list anew\n", keys, revision)
			return nil
		},
	}
	addRoot(cmd, &rootDir)
	return cmd
}
