// Package workflow runs kubeadm's ordered, named phases: each can be skipped
// and each can be run alone.
package workflow

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// Phase is one step. D is what the steps of one workflow share.
type Phase[D any] struct {
	Name, Short string
	// Run does the step; nil for a phase that only groups others.
	Run func(ctx context.Context, data D) error
	// Phases are run after Run, in order.
	Phases []Phase[D]
}

// Step is a phase in the order of execution; Path is "certs/apiserver".
type Step[D any] struct {
	Path, Short string
	Run         func(ctx context.Context, data D) error
}

// Steps flattens phases. Without the ones that skip names: a group's name skips
// all of it. only, when not empty, keeps that phase or group alone. Names that
// no phase has are an error.
func Steps[D any](phases []Phase[D], skip []string, only string) ([]Step[D], error) {
	known := map[string]bool{}
	var out []Step[D]
	var walk func(prefix string, list []Phase[D], skipped, wanted bool)
	walk = func(prefix string, list []Phase[D], skipped, wanted bool) {
		for _, p := range list {
			path := p.Name
			if prefix != "" {
				path = prefix + "/" + p.Name
			}
			known[path] = true
			skipped := skipped || slices.Contains(skip, path)
			wanted := wanted || only == "" || only == "all" || only == path
			if p.Run != nil && !skipped && wanted {
				out = append(out, Step[D]{Path: path, Short: p.Short, Run: p.Run})
			}
			walk(path, p.Phases, skipped, wanted)
		}
	}
	walk("", phases, false, false)
	for _, name := range append(slices.Clone(skip), only) {
		if name != "" && name != "all" && !known[name] {
			return nil, fmt.Errorf("phase %q does not exist; there are: %s", name, strings.Join(names(known), ", "))
		}
	}
	return out, nil
}

// Run executes the steps in order and stops at the first error, which names
// the phase.
func Run[D any](ctx context.Context, steps []Step[D], data D) error {
	for _, step := range steps {
		if err := step.Run(ctx, data); err != nil {
			return fmt.Errorf("phase %s: %w", step.Path, err)
		}
	}
	return nil
}

func names(known map[string]bool) []string {
	out := make([]string, 0, len(known))
	for name := range known {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}
