package main

import (
	"fmt"
	"log/slog"

	"github.com/spf13/pflag"

	"skiff/cluster/config"
)

// extraArgs sets the flags of a part that a ClusterConfiguration names. Those that
// the cluster's own configuration decides, or that skiff does not have, are named
// in the log and left out.
func extraArgs(flags *pflag.FlagSet, args []config.Arg, part string, own func(*pflag.FlagSet), log *slog.Logger) error {
	decided := pflag.NewFlagSet(part, pflag.ContinueOnError)
	own(decided)
	for _, arg := range args {
		switch {
		case flags.Lookup(arg.Name) != nil:
			if err := flags.Set(arg.Name, arg.Value); err != nil {
				return fmt.Errorf("%s.extraArgs: %s: %w", part, arg.Name, err)
			}
		case decided.Lookup(arg.Name) != nil:
			log.Warn("an extra argument is left out: the cluster's own configuration decides it", "part", part, "name", arg.Name)
		default:
			log.Warn("an extra argument is left out: skiff has no such setting", "part", part, "name", arg.Name)
		}
	}
	return nil
}
