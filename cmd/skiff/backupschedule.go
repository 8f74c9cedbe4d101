package main

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"skiff/cluster/backup"
	"skiff/cluster/layout"
	"skiff/cluster/node"
)

func backupScheduleCommand() *cobra.Command {
	var rootDir string
	var off bool
	s := backup.Schedule{}
	cmd := &cobra.Command{
		Use: "schedule", Short: "Back up this node from time to time, or show the schedule", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := layout.New(rootDir)
			if err != nil {
				return err
			}
			c, err := node.Load(l)
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			switch {
			case off:
				c.Backup = nil
			case s.To != "":
				if err := s.Validate(); err != nil {
					return fmt.Errorf("backup schedule: %w", err)
				}
				c.Backup = &s
			default:
				if c.Backup == nil {
					fmt.Fprintln(out, "No backups are scheduled; give --to")
					return nil
				}
				fmt.Fprintf(out, "Every %s to %s; the newest %d are kept\n", c.Backup.Every, c.Backup.To, c.Backup.Keep)
				return nil
			}
			if err := node.Save(l, c); err != nil {
				return err
			}
			fmt.Fprintln(out, "Saved; a node that runs follows within a minute")
			return nil
		},
	}
	addRoot(cmd, &rootDir)
	f := cmd.Flags()
	f.StringVar(&s.To, "to", "", "a folder, or s3://BUCKET/PREFIX?endpoint=https://HOST&region=REGION&credentials=FILE")
	f.StringVar(&s.Every, "every", "6h", "the time between two backups")
	f.IntVar(&s.Keep, "keep", 28, "how many are kept")
	f.BoolVar(&off, "off", false, "make no more backups by schedule")
	return cmd
}

func backupListCommand() *cobra.Command {
	var rootDir string
	cmd := &cobra.Command{
		Use: "list [FOLDER|s3://BUCKET/PREFIX]", Short: "List this node's backups in a place; default the schedule's", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := layout.New(rootDir)
			if err != nil {
				return err
			}
			c, err := node.Load(l)
			if err != nil {
				return err
			}
			if len(args) == 0 {
				if c.Backup == nil {
					return fmt.Errorf("no backups are scheduled: name a place")
				}
				args = []string{c.Backup.To}
			}
			place, err := backup.Open(args[0])
			if err != nil {
				return err
			}
			names, err := place.Names(cmd.Context())
			if err != nil {
				return err
			}
			times := backup.Times(c.Name, names)
			var own []string
			for name := range times {
				own = append(own, name)
			}
			slices.Sort(own)
			for _, name := range own {
				fmt.Fprintln(cmd.OutOrStdout(), name)
			}
			return nil
		},
	}
	addRoot(cmd, &rootDir)
	return cmd
}

const (
	// scheduleLook is how often the schedule is looked at, and scheduleRetry the
	// pause after a backup that failed.
	scheduleLook  = time.Minute
	scheduleRetry = 5 * time.Minute
)

// scheduledBackups makes the backups that the node's file asks for, which may
// change meanwhile.
func scheduledBackups(ctx context.Context, l layout.Layout) error {
	log := slog.Default().With("part", "backup")
	for pause := scheduleLook; ; {
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
		pause = scheduleLook
		if err := backUpWhenDue(ctx, l, log); err != nil && ctx.Err() == nil {
			pause = scheduleRetry
			log.Error("the scheduled backup failed; it is tried again", "err", err, "in", pause)
		}
	}
}

func backUpWhenDue(ctx context.Context, l layout.Layout, log *slog.Logger) error {
	c, err := node.Load(l)
	if err != nil || c.Backup == nil {
		return err
	}
	every, err := c.Backup.Interval()
	if err != nil {
		return fmt.Errorf("%s: backup: %w", l.NodeConfig(), err)
	}
	place, err := backup.Open(c.Backup.To)
	if err != nil {
		return err
	}
	names, err := place.Names(ctx)
	if err != nil {
		return fmt.Errorf("list %s: %w", c.Backup.To, err)
	}
	now := time.Now()
	if backup.Due(c.Name, names, every, now).After(now) {
		return nil
	}
	name := backup.Name(c.Name, now)
	if err := putBackup(ctx, l, place, name); err != nil {
		return err
	}
	log.Info("the node was backed up", "name", name, "to", c.Backup.To)
	for _, old := range backup.Expired(c.Name, append(names, name), c.Backup.Keep) {
		if err := place.Delete(ctx, old); err != nil {
			return fmt.Errorf("remove the old backup %s: %w", old, err)
		}
	}
	return nil
}
