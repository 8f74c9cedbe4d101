package e2e

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"skiff/kine/postgres/pgtest"
)

// TestSecondMaster joins a second master to a cluster whose state is in
// PostgreSQL, and kills the first while objects are made through the second.
//
// Covers: join.second-master
func TestSecondMaster(t *testing.T) {
	c := prepare(t)
	store := pgtest.Start(t).Database(t)
	c.Nodes = 1
	const namespace, address = "skiff-e2e-master", "198.19.255.30"
	second := c.Root + "/second"
	c.machine(t, namespace, address)
	t.Cleanup(func() { c.remove(t) })
	out := c.skiff(t, "init", "--root", c.Root, "--node-name", "first", "--apiserver-advertise-address", hostAddress, "--store", store, "--upload-certs")
	t.Cleanup(func() {
		c.skiff(t, "reset", "--root", second)
		c.Nodes = 1
	})
	// The line that init prints for masters is the one with the key.
	var join []string
	for block := range strings.SplitSeq(strings.ReplaceAll(out, "\\\n", " "), "\n") {
		if words := strings.Fields(block); strings.Contains(block, "--certificate-key") && len(words) > 2 {
			join = words[1:]
		}
	}
	if join == nil {
		t.Fatalf("init printed no line for masters:\n%s", out)
	}
	c.skiff(t, append(join, "--root", second, "--netns", namespace, "--node-name", "second", "--node-ip", address, "--apiserver-advertise-address", address)...)
	c.Nodes = 2

	firstConf := c.Kubeconfig
	c.Kubeconfig = second + "/etc/kubernetes/admin.conf"
	s := &space{cluster: c, t: t, name: "default"}
	s.run("wait", "--for=create", "node/second", "--timeout=60s")
	s.run("wait", "--for=condition=Ready", "nodes", "--all", "--timeout=60s")
	c.Kubeconfig = firstConf
	s.run("create", "configmap", "first", "--from-literal=by=first")
	c.Kubeconfig = second + "/etc/kubernetes/admin.conf"

	var acknowledged []string
	for i := range 20 {
		if i == 5 {
			c.killRoot(t, c.Root)
		}
		name := fmt.Sprintf("c%02d", i)
		s.run("create", "configmap", name)
		acknowledged = append(acknowledged, "configmap/"+name)
	}
	s.says(append(acknowledged, "configmap/first"), "get", "configmaps", "-o", "name")
	// The second master's controllers take over, and work.
	s.run("create", "deployment", "web", "--image=probe", "--replicas=2")
	s.eventually(90*time.Second, "pods of the Deployment", func() error {
		out, err := s.try("", "get", "pods", "-l", "app=web", "-o", "name")
		if n := len(strings.Fields(out)); err == nil && n != 2 {
			err = fmt.Errorf("there are %d", n)
		}
		return err
	})
	c.skiff(t, "up", "--root", c.Root)
	c.Kubeconfig = firstConf
	s.says(acknowledged, "get", "configmaps", "-o", "name")
}

// killRoot ends the process of one node with SIGKILL.
func (c *cluster) killRoot(t *testing.T, root string) {
	t.Helper()
	for _, pid := range c.Processes() {
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err != nil || !bytes.HasSuffix(bytes.TrimRight(line, "\x00"), []byte(root)) {
			continue
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Fatalf("no process below %s", root)
}
