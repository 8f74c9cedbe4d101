package e2e

import (
	"path/filepath"
	"strings"
	"testing"
)

// TestBackup brings a cluster back from the backup of one that was removed.
//
// Covers: backup, up.one-node
func TestBackup(t *testing.T) {
	c := prepare(t)
	c.Nodes = 1
	t.Cleanup(func() { c.remove(t) })
	c.up(t)
	s := &space{cluster: c, t: t, name: "default"}
	t.Cleanup(func() {
		if t.Failed() {
			s.explain()
		}
	})
	s.run("create", "deployment", "web", "--image=probe")
	s.run("rollout", "status", "deployment/web", "--timeout=60s")
	s.run("create", "configmap", "before", "--from-literal=a=1")
	file := filepath.Join(t.TempDir(), "backup.tar.gz")
	c.skiff(t, "backup", file, "--root", c.Root)
	s.run("create", "configmap", "after")
	uid := s.field("configmap/before", ".metadata.uid")

	c.skiff(t, "reset", "--root", c.Root)
	other := filepath.Join(t.TempDir(), "other")
	if out, err := c.trySkiff("restore", file, "--root", other); err == nil || !strings.Contains(out, "of a node below another root") {
		t.Errorf("restored below another root: %v, %s", err, out)
	}
	c.skiff(t, "restore", file, "--root", c.Root)
	c.up(t)
	if got := s.field("configmap/before", ".metadata.uid"); got != uid {
		t.Errorf("the restored object has the UID %s, want %s", got, uid)
	}
	s.refused(`configmaps "after" not found`, "get", "configmap", "after")
	s.run("rollout", "restart", "deployment/web")
	s.run("rollout", "status", "deployment/web", "--timeout=60s")
	s.says([]string{"web-"}, "exec", "deployment/web", "--", "/probe", "hostname")
}
