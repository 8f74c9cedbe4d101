package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"skiff/cluster/config"
	"skiff/cluster/layout"
	"skiff/cluster/node"
	"skiff/kine"
	"skiff/kine/backend"
)

// kineStatusCommand says how a store is, whether a server uses it or not.
func kineStatusCommand() *cobra.Command {
	var rootDir, endpoint string
	cmd := &cobra.Command{
		Use: "status", Short: "Show a store's revision, size, free space, oldest revision, and what is still to be compacted", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var tlsOf *config.ExternalEtcd
			if endpoint == "" {
				l, err := layout.New(rootDir)
				if err != nil {
					return err
				}
				c, err := node.Load(l)
				if err != nil {
					return fmt.Errorf("%w; or name the store with --endpoint", err)
				}
				endpoint, tlsOf = strings.Join(c.StoreURLs(l), ","), c.Cluster.Etcd.External
			}
			opts, err := storeOptions(tlsOf)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), 30*time.Second)
			defer cancel()
			st, err := backend.Inspect(ctx, endpoint, opts)
			if err != nil {
				return err
			}
			return printStatus(cmd.OutOrStdout(), endpoint, st)
		},
	}
	addRoot(cmd, &rootDir)
	cmd.Flags().StringVar(&endpoint, "endpoint", "", "the store; default the one of the node below --root")
	return cmd
}

func printStatus(out io.Writer, endpoint string, st kine.Status) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, line := range []struct {
		name  string
		value any
		note  string
	}{
		{"store", backend.Redact(endpoint), st.Backend},
		{"revision", st.Revision, ""},
		{"compact revision", st.CompactRevision, "clients read from here on"},
		{"oldest revision", st.OldestRevision, "the history commands read from here on"},
		{"compaction lag", st.PendingRevisions, "revisions whose space is still to be returned"},
		{"keys", st.Keys, ""},
		{"size", size(st.SizeBytes), "on disk"},
		{"free", size(st.FreeBytes), "of it, used again or returned"},
	} {
		fmt.Fprintf(w, "%s:\t%v\t%s\n", line.name, line.value, line.note)
	}
	return w.Flush()
}

func size(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }
