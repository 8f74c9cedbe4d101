// Package featuregates reads --feature-gates. skiff has no gates of its own: what
// it does it does always, and what it lacks no gate brings. A cluster's
// configuration may name those of Kubernetes all the same; a name that none has is
// a mistake of who wrote it.
package featuregates

import (
	_ "embed" // the list of gates
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// known are the gates of Kubernetes v1.37 and its last releases, one a line.
//
//go:embed known.txt
var known string

// Gates are those that were set, as the value of a flag.
type Gates struct{ set map[string]bool }

// Set reads GATE=true,GATE=false. It adds to what was set before.
func (g *Gates) Set(text string) error {
	names := strings.Fields(known)
	next := maps.Clone(g.set)
	if next == nil {
		next = map[string]bool{}
	}
	for pair := range strings.SplitSeq(text, ",") {
		pair = strings.TrimSpace(pair)
		if pair == "" {
			continue
		}
		name, value, ok := strings.Cut(pair, "=")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		if !ok {
			return fmt.Errorf("missing bool value for %s: want %s=true or %s=false", name, name, name)
		}
		on, err := strconv.ParseBool(value)
		if err != nil {
			return fmt.Errorf("invalid value of %s=%s, err: %w", name, value, err)
		}
		if _, found := slices.BinarySearch(names, name); !found {
			return fmt.Errorf("unrecognized feature gate: %s: Kubernetes v1.37 has no such gate: correct the name or leave it out", name)
		}
		next[name] = on
	}
	g.set = next
	return nil
}

// String gives what was set, in order.
func (g *Gates) String() string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(g.set)) {
		out = append(out, fmt.Sprintf("%s=%t", name, g.set[name]))
	}
	return strings.Join(out, ",")
}

// Type is what help calls the value.
func (g *Gates) Type() string { return "mapStringBool" }

// Warn names the gates that were set, none of which changes what skiff does.
func (g *Gates) Warn(log *slog.Logger, part string) {
	for _, name := range slices.Sorted(maps.Keys(g.set)) {
		log.Warn("a feature gate changes nothing: skiff does not switch this; API versions are switched by --runtime-config", "part", part, "gate", name, "value", g.set[name])
	}
}
