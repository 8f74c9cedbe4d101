package main

import (
	"fmt"
	"net/netip"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"skiff/cluster/featuregates"
	"skiff/cluster/layout"
	"skiff/cluster/setup"
)

// addRoot adds --root.
func addRoot(cmd *cobra.Command, at *string) {
	cmd.Flags().StringVar(at, "root", "", "put everything of the node below this folder; empty is the machine itself")
}

func machine(cmd *cobra.Command, rootDir, netns string) (setup.Machine, error) {
	l, err := layout.New(rootDir)
	if err != nil {
		return setup.Machine{}, err
	}
	exe, err := os.Executable()
	if err != nil {
		return setup.Machine{}, err
	}
	return setup.Machine{Layout: l, Out: cmd.OutOrStdout(), Executable: exe, Logging: logFlags(cmd), NetNS: netns}, nil
}

// logFlags are what cmd was told of logging, for what it starts.
func logFlags(cmd *cobra.Command) []string {
	var out []string
	for _, name := range []string{"v", "logging-format"} {
		if f := cmd.Flags().Lookup(name); f != nil && f.Changed {
			out = append(out, "--"+name+"="+f.Value.String())
		}
	}
	return out
}

// addGates adds --feature-gates, which every part of Kubernetes has.
func addGates(f *pflag.FlagSet, gates *featuregates.Gates) {
	f.Var(gates, "feature-gates", "gates of Kubernetes: GATE=true,GATE=false; checked, and named in the log where they change nothing")
}

// prefixes reads CIDRs separated by commas.
func prefixes(text string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, part := range strings.Split(text, ",") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		p, err := netip.ParsePrefix(part)
		if err != nil {
			return nil, fmt.Errorf("CIDR %q: %w", part, err)
		}
		out = append(out, p)
	}
	return out, nil
}

// switches reads key=value pairs of booleans.
func switches(list []string) (map[string]bool, error) {
	out := map[string]bool{}
	for _, pair := range list {
		key, value, ok := strings.Cut(pair, "=")
		if !ok {
			value = "true"
		}
		switch value {
		case "true", "":
			out[key] = true
		case "false":
			out[key] = false
		default:
			return nil, fmt.Errorf("%q: want KEY=true or KEY=false", pair)
		}
	}
	return out, nil
}
