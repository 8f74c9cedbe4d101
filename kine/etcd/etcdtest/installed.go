package etcdtest

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// StartOld runs the etcd that is installed, which must be a 3.4, until the test's
// end. It returns the URL for clients. The test is skipped where there is none.
func StartOld(t testing.TB) string {
	t.Helper()
	path, err := exec.LookPath("etcd")
	if err != nil {
		t.Skip("no etcd is installed")
	}
	version, err := exec.Command(path, "--version").Output()
	if err != nil {
		t.Fatal(err)
	}
	if first, _, _ := strings.Cut(string(version), "\n"); !strings.Contains(first, " 3.4.") {
		t.Skipf("the installed etcd is %q, not a 3.4", first)
	}
	addresses := freeAddresses(t, 2)
	client, peer := "http://"+addresses[0], "http://"+addresses[1]
	cmd := exec.Command(path, "--data-dir", filepath.Join(t.TempDir(), "data"), "--name", "old", "--log-level", "error",
		"--listen-client-urls", client, "--advertise-client-urls", client,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "old="+peer)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it runs until now
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("etcd: %s", out.String())
		}
	})
	return client
}
