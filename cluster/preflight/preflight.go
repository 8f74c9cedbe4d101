// Package preflight checks a machine before init or join change anything.
// Each check is a value, so that --ignore-preflight-errors can name it.
package preflight

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Check is one thing that must hold.
type Check struct {
	// Name is what --ignore-preflight-errors takes, such as "Port-6443".
	Name string
	// Run returns what is wrong: warnings, which are shown, and errors, which
	// stop. Both say what to do.
	Run func(ctx context.Context) (warnings, errs []error)
}

// Error holds every failed check.
type Error struct{ Failures []string }

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("[preflight] Some fatal errors occurred:\n")
	for _, f := range e.Failures {
		fmt.Fprintf(&b, "\t[ERROR %s\n", f)
	}
	b.WriteString("[preflight] If you know what you are doing, you can make a check non-fatal with `--ignore-preflight-errors=...`")
	return b.String()
}

// Run runs every check and returns an *Error with all that failed. Those named
// in ignore ("all" names every one) become warnings.
func Run(ctx context.Context, out io.Writer, checks []Check, ignore []string) error {
	ignored := func(name string) bool {
		return slices.ContainsFunc(ignore, func(i string) bool {
			return strings.EqualFold(i, "all") || strings.EqualFold(i, name)
		})
	}
	var failed Error
	for _, check := range checks {
		warnings, errs := check.Run(ctx)
		for _, err := range errs {
			if ignored(check.Name) {
				warnings = append(warnings, err)
				continue
			}
			failed.Failures = append(failed.Failures, fmt.Sprintf("%s]: %v", check.Name, err))
		}
		for _, w := range warnings {
			fmt.Fprintf(out, "\t[WARNING %s]: %v\n", check.Name, w)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	if len(failed.Failures) > 0 {
		return &failed
	}
	return nil
}

// fails makes the result of a check with one error, or none.
func fails(format string, args ...any) (warnings, errs []error) {
	return nil, []error{fmt.Errorf(format, args...)}
}

// IsFailed tells whether err is of checks that failed.
func IsFailed(err error) bool {
	var e *Error
	return errors.As(err, &e)
}
