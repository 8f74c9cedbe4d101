package conformance

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"

	"skiff/e2e/harness"
)

// shared is the cluster of all tests, nil where there can be none; why says so.
var (
	shared *harness.Cluster
	why    error
)

func TestMain(m *testing.M) {
	os.Exit(harness.Main(func() int { return run(m) }))
}

// run runs the tests against one cluster.
func run(m *testing.M) int {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	c, err := harness.Prepare(ctx)
	if errors.Is(err, harness.ErrSkip) {
		why = err
		return m.Run()
	}
	if err == nil {
		err = c.Up()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		if c != nil {
			_ = c.Remove() // the first error says more
		}
		return 1
	}
	shared = c
	code := m.Run()
	if code != 0 {
		fmt.Fprintln(os.Stderr, c.LogTail(60))
	}
	if err := c.Remove(); err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		return 1
	}
	return code
}
