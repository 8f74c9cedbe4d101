package e2e

import (
	"errors"
	"os"
	"os/exec"
	"testing"
	"time"

	"skiff/e2e/harness"
)

// hostAddress is the machine's address in the tests' network namespace.
const hostAddress = harness.HostAddress

func TestMain(m *testing.M) {
	os.Exit(harness.Main(m.Run))
}

// cluster is a running cluster of the binary under test.
type cluster struct{ *harness.Cluster }

// start starts a cluster, and takes it away when the test ends.
func start(t *testing.T) *cluster {
	t.Helper()
	c := prepare(t)
	t.Cleanup(func() { c.remove(t) })
	c.up(t)
	return c
}

// prepare makes the root folder of a cluster.
func prepare(t *testing.T) *cluster {
	t.Helper()
	if _, err := exec.LookPath("kubectl"); err != nil {
		t.Skip("want kubectl in PATH")
	}
	c, err := harness.Prepare(t.Context())
	switch {
	case errors.Is(err, harness.ErrSkip):
		t.Skip(err)
	case err != nil:
		t.Fatal(err)
	}
	return &cluster{c}
}

// up starts the nodes and waits until they are Ready.
func (c *cluster) up(t *testing.T) {
	t.Helper()
	began := time.Now()
	if err := c.Up(); err != nil {
		t.Fatal(err)
	}
	t.Logf("skiff up took %v", time.Since(began).Round(time.Millisecond))
}

// kill ends every skiff process of the cluster with SIGKILL.
func (c *cluster) kill(t *testing.T) {
	t.Helper()
	if err := c.Kill(); err != nil {
		t.Fatal(err)
	}
}

// remove resets the cluster and looks for what it left.
func (c *cluster) remove(t *testing.T) {
	t.Helper()
	if err := c.Remove(); err != nil {
		t.Error(err)
	}
}
