// Package featuregates reads --feature-gates and the field of that name. Most of what
// skiff does it does always, and what it lacks no gate brings. A cluster's
// configuration may name the gates of Kubernetes all the same; a name that none has, or
// a value that a gate no longer takes, is a mistake of who wrote it.
package featuregates

import (
	_ "embed" // the list of gates
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// known are the gates of Kubernetes v1.37 and its last releases, one a line, with the
// value of those that take no other.
//
//go:embed known.txt
var known string

// locks are the known gates, with the value of those that take no other.
var locks = sync.OnceValue(func() map[string]string {
	out := map[string]string{}
	for line := range strings.FieldsSeq(known) {
		name, only, _ := strings.Cut(line, "=")
		out[name] = only
	}
	return out
})

// Check reports the gates that Kubernetes does not know or does not let be set so.
func Check(set map[string]bool) error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(set)) {
		only, found := locks()[name]
		switch {
		case !found:
			errs = append(errs, fmt.Errorf("unrecognized feature gate: %s: Kubernetes v1.37 has no such gate: correct the name or leave it out", name))
		case only != "" && only != strconv.FormatBool(set[name]):
			errs = append(errs, fmt.Errorf("cannot set feature gate %s to %t, feature is locked to %s", name, set[name], only))
		}
	}
	return errors.Join(errs...)
}

// Gates are those that were set, as the value of a flag.
type Gates struct{ set map[string]bool }

// Set reads GATE=true,GATE=false. It adds to what was set before.
func (g *Gates) Set(text string) error {
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
		next[name] = on
	}
	if err := Check(next); err != nil {
		return err
	}
	g.set = next
	return nil
}

// Map is what was set.
func (g *Gates) Map() map[string]bool { return maps.Clone(g.set) }

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
func (g *Gates) Warn(log *slog.Logger, part string) { Warn(log, part, g.set) }

// Warn names gates that were set and change nothing.
func Warn(log *slog.Logger, part string, set map[string]bool) {
	for _, name := range slices.Sorted(maps.Keys(set)) {
		log.Warn("a feature gate changes nothing: skiff does not switch this; API versions are switched by --runtime-config", "part", part, "gate", name, "value", set[name])
	}
}
