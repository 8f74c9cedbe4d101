package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestJoin sets up a control plane with init, joins a second machine to it, and
// takes it away again.
//
// Covers: join.worker, join.wrong-hash, join.expired-token, init.taint, token
func TestJoin(t *testing.T) {
	c := prepare(t)
	c.Nodes = 1
	const namespace, address = "skiff-e2e-worker", "198.19.255.20"
	worker := c.Root + "/worker"
	c.machine(t, namespace, address)
	t.Cleanup(func() { c.remove(t) })
	c.skiff(t, "init", "--root", c.Root, "--apiserver-advertise-address", hostAddress)
	t.Cleanup(func() {
		c.skiff(t, "reset", "--root", worker)
		c.Nodes = 1
	})
	registries, err := os.ReadFile(filepath.Join(c.Root, "etc/skiff/registries.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(worker, "etc/skiff"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(worker, "etc/skiff/registries.yaml"), registries, 0o600); err != nil {
		t.Fatal(err)
	}
	s := &space{cluster: c, t: t, name: "default"}
	t.Cleanup(func() {
		if t.Failed() {
			s.explain()
		}
	})
	s.run("wait", "--for=condition=Ready", "nodes", "--all", "--timeout=60s")
	s.says([]string{"node-role.kubernetes.io/control-plane"}, "get", "nodes", "-o", "jsonpath={.items[*].spec.taints[*].key}")

	line := strings.Fields(c.skiff(t, "token", "create", "--root", c.Root, "--print-join-command"))
	at := -1
	for i, word := range line {
		if word == "join" {
			at = i
		}
	}
	if at < 0 {
		t.Fatalf("the line to join with is %q", line)
	}
	arguments := append([]string{"join"}, line[at+1:]...)
	arguments = append(arguments, "--root", worker, "--netns", namespace, "--node-ip", address, "--node-name", "worker")

	wrong := append([]string(nil), arguments...)
	for i, word := range wrong {
		if _, hash, ok := strings.Cut(word, "sha256:"); ok {
			wrong[i] = strings.Replace(word, hash, strings.Repeat("0", len(hash)), 1)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if out, err := exec.CommandContext(ctx, c.Bin, wrong...).CombinedOutput(); err == nil || ctx.Err() != nil || !strings.Contains(string(out), "sha256:") {
		t.Errorf("join with a wrong hash: error %v, want one that names it:\n%s", err, out)
	}

	// A token that has no signature any more.
	expired := append([]string(nil), arguments...)
	for i, word := range expired {
		if word == "--token" {
			expired[i+1] = "abcdef.0123456789abcdef"
		}
	}
	if out, err := exec.CommandContext(ctx, c.Bin, expired...).CombinedOutput(); err == nil || ctx.Err() != nil || !strings.Contains(string(out), "it has expired") {
		t.Errorf("join with an expired token: error %v, want one that says so:\n%s", err, out)
	}

	// The script that makes a node of a fresh machine does the rest.
	install := exec.CommandContext(ctx, "../install.sh", arguments...)
	install.Env = append(os.Environ(), "SKIFF_BINARY="+c.Bin, "PREFIX="+t.TempDir())
	if out, err := install.CombinedOutput(); err != nil {
		t.Fatalf("install.sh join: %v\n%s\n%s", err, out, c.LogTail(40))
	}
	c.Nodes = 2
	s.run("wait", "--for=create", "node/worker", "--timeout=60s")
	s.run("wait", "--for=condition=Ready", "node/worker", "--timeout=60s")
	s.says([]string{"Approved,Issued"}, "get", "csr")

	// The control plane is tainted: pods go to the worker.
	s.run("create", "deployment", "web", "--image=probe", "--replicas=2", "--port=8080")
	s.run("expose", "deployment", "web", "--port=80", "--target-port=8080", "--type=NodePort")
	s.run("rollout", "status", "deployment/web", "--timeout=60s")
	if got := s.run("get", "pods", "-o", "jsonpath={.items[*].spec.nodeName}"); got != "worker worker" {
		t.Errorf("the pods are on %q, want both on worker", got)
	}
	s.says([]string{"web-"}, "exec", "deployment/web", "--", "/probe", "hostname")
	port := s.field("service/web", ".spec.ports[0].nodePort")
	for _, node := range []string{hostAddress, address} {
		s.eventually(20*time.Second, "an answer by the node port of "+node, func() error {
			_, err := fetch("http://" + node + ":" + port + "/")
			return err
		})
	}
	s.run("drain", "worker", "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=60s")
	s.run("delete", "node", "worker")
}

// machine makes a network namespace that is on the tests' bridge.
func (c *cluster) machine(t *testing.T, namespace, address string) {
	t.Helper()
	ip, err := exec.LookPath("ip")
	if err != nil {
		t.Skip("want ip of iproute2 in PATH")
	}
	run := func(args ...string) {
		t.Helper()
		if out, err := exec.Command(ip, args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
		}
	}
	run("netns", "add", namespace)
	t.Cleanup(func() { run("netns", "delete", namespace) })
	run("link", "add", "e2ew", "master", "e2e0", "up", "type", "veth", "peer", "name", "eth0", "netns", namespace)
	run("-n", namespace, "link", "set", "lo", "up")
	run("-n", namespace, "address", "add", address+"/24", "dev", "eth0")
	run("-n", namespace, "link", "set", "eth0", "up")
	run("-n", namespace, "route", "add", "default", "via", hostAddress)
}

// skiff runs the binary, which must succeed.
func (c *cluster) skiff(t *testing.T, args ...string) string {
	t.Helper()
	out, err := c.trySkiff(args...)
	if err != nil {
		t.Fatalf("skiff %s: %v\n%s\n%s", strings.Join(args, " "), err, out, c.LogTail(40))
	}
	return out
}

func (c *cluster) trySkiff(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.Bin, args...)
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	return string(out), err
}
