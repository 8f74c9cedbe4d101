package e2e

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestUpgrade takes a node from an older build to the one under test. Its
// containers may not notice.
//
// Covers: upgrade, down
func TestUpgrade(t *testing.T) {
	c := prepare(t)
	c.Nodes = 1
	newer, older := c.Bin, filepath.Join(t.TempDir(), "skiff")
	build := exec.Command("go", "build", "-ldflags", "-s -w -X skiff/cluster/version.Version=v1.36.9+skiff.1", "-o", older, "../cmd/skiff")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the older skiff: %v\n%s", err, out)
	}
	t.Cleanup(func() { c.remove(t) })
	c.Bin = older
	c.up(t)
	s := &space{cluster: c, t: t, name: "default"}
	s.run("create", "deployment", "web", "--image=probe", "--replicas=2")
	s.run("rollout", "status", "deployment/web", "--timeout=60s")
	started := func() string {
		return s.run("get", "pods", "-l", "app=web", "--sort-by=.metadata.name", "-o",
			`jsonpath={range .items[*]}{.metadata.name} {.status.containerStatuses[0].restartCount} {.status.containerStatuses[0].containerID}{"\n"}{end}`)
	}
	before := started()

	c.Bin = newer
	if plan := c.skiff(t, "upgrade", "plan", "--root", c.Root); !strings.Contains(plan, "v1.36.9+skiff.1") {
		t.Errorf("the plan does not name the version that runs:\n%s", plan)
	}
	c.skiff(t, "upgrade", "apply", "--root", c.Root)
	s.eventually(60*time.Second, "the new version in the node's status", func() error {
		out, err := s.try("", "get", "nodes", "-o", "jsonpath={.items[0].status.nodeInfo.kubeletVersion}")
		if err == nil && (out == "" || out == "v1.36.9+skiff.1") {
			err = fmt.Errorf("it is %q", out)
		}
		return err
	})
	s.run("wait", "--for=condition=Ready", "nodes", "--all", "--timeout=60s")
	if after := started(); after != before {
		t.Errorf("the containers before:\n%safter:\n%s", before, after)
	}
	backups, err := filepath.Glob(filepath.Join(c.Root, "var/lib/skiff/backups/*.tar.gz"))
	if err != nil || len(backups) != 1 {
		t.Errorf("backups %v, want one (%v)", backups, err)
	}
	s.run("scale", "deployment/web", "--replicas=3")
	s.run("rollout", "status", "deployment/web", "--timeout=60s")
}
