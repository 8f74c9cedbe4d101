package e2e

import (
	"strings"
	"testing"
	"time"

	"skiff/kine/postgres/pgtest"
)

// history sees, compares and brings back what was changed and deleted.
//
// Covers: store.history
func history(s *space) {
	skiff := func(args ...string) string {
		s.t.Helper()
		return s.cluster.skiff(s.t, append(args, "--namespace", s.name, "--root", s.Root)...)
	}
	want := func(out string, parts ...string) {
		s.t.Helper()
		for _, part := range parts {
			if !strings.Contains(out, part) {
				s.t.Errorf("%q is not in:\n%s", part, out)
			}
		}
	}
	s.run("create", "configmap", "conf", "--from-literal=color=red")
	s.run("create", "secret", "generic", "key", "--from-literal=k=secret")
	then := s.field("secret/key", ".metadata.resourceVersion")
	s.run("patch", "configmap", "conf", "-p", `{"data":{"color":"blue"}}`)
	s.run("delete", "secret", "key")
	s.run("create", "configmap", "later")
	want(skiff("history", "cm", "conf"), "create", "update", "kubectl-create", "kubectl-patch", "data")
	want(skiff("diff", "configmaps", "--from", then), "-  color: red", "+  color: blue", "later")
	want(skiff("history", "secrets", "--deleted"), "key", "delete")
	want(skiff("undelete", "secret", "key"), "create secrets/key")
	if got := s.field("secret/key", ".data.k"); got != "c2VjcmV0" {
		s.t.Errorf("the secret came back with %q", got)
	}
	if out, err := s.cluster.trySkiff("rewind", "configmap", "later", "--to", then, "--namespace", s.name, "--root", s.Root); err == nil || !strings.Contains(out, "--prune removes it") {
		s.t.Errorf("to a revision at which it was not there: %v, %q; want the remedy", err, out)
	}
	want(skiff("rewind", "namespace", s.name, "--to", then, "--prune"), "update configmaps/conf", "delete configmaps/later")
	if got := s.field("configmap/conf", ".data.color"); got != "red" {
		s.t.Errorf("the color is %q after the rewind", got)
	}
	s.refused(`configmaps "later" not found`, "get", "configmap", "later")
}

// TestMigration moves a cluster from SQLite to PostgreSQL and back: most of it
// while it runs.
//
// Covers: store.migrate
func TestMigration(t *testing.T) {
	c := prepare(t)
	store := pgtest.Start(t).Database(t)
	c.Nodes = 1
	t.Cleanup(func() { c.remove(t) })
	c.up(t)
	s := &space{cluster: c, t: t, name: "default"}
	s.run("create", "configmap", "one", "--from-literal=a=1")
	was := s.field("configmap/one", ".metadata.resourceVersion")
	for _, to := range []string{store, "sqlite://" + t.TempDir() + "/state.db"} {
		c.skiff(t, "migrate", "--root", c.Root, "--to", to, "--warm")
		s.run("create", "configmap", "between-"+to[:6])
		c.skiff(t, "down", "--root", c.Root)
		if out := c.skiff(t, "migrate", "--root", c.Root, "--to", to); !strings.Contains(out, "each kept its revisions") {
			t.Errorf("migrate says:\n%s", out)
		}
		c.up(t)
		if got := s.field("configmap/one", ".metadata.resourceVersion"); got != was {
			t.Errorf("the object's resourceVersion is %s on %s, and was %s", got, to[:6], was)
		}
		s.run("get", "configmap", "between-"+to[:6])
		// Who joins from now on is told of the new store.
		named, _, _ := strings.Cut(to, "?")
		s.until(30*time.Second, named, "get", "-n", "kube-system", "configmap", "kubeadm-config", "-o", "jsonpath={.data.ClusterConfiguration}")
	}
	s.says([]string{"one", "between-postgr", "between-sqlite"}, "get", "configmaps", "-o", "name")
}
