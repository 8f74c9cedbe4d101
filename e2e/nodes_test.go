package e2e

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"strings"
	"time"
)

// Covers: kubectl.top, api.metrics
func eventsAndTop(s *space) {
	s.apply(pod("busy", "", ""))
	s.ready("pod/busy")
	s.until(20*time.Second, "Started", "events", "--for", "pod/busy")
	s.until(90*time.Second, "busy", "top", "pods")
	// Of the node too two readings are needed.
	s.until(90*time.Second, "MEMORY(bytes)", "top", "nodes")
}

// Covers: kubectl.drain
func drain(s *space) {
	s.run("create", "deployment", "web", "--image=probe", "--replicas=2")
	s.run("rollout", "status", "deployment/web", "--timeout=60s")
	node := s.run("get", "pods", "-l", "app=web", "-o", "jsonpath={.items[0].spec.nodeName}")
	s.t.Cleanup(func() {
		if out, err := s.try("", "uncordon", node); err != nil {
			s.t.Errorf("uncordon: %v: %s", err, out)
		}
	})
	s.run("cordon", node)
	s.says([]string{"SchedulingDisabled"}, "get", "node", node)
	s.run("drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--force", "--pod-selector=app=web", "--timeout=90s")
	s.eventually(30*time.Second, "the node empty of web pods", func() error {
		out, err := s.try("", "get", "pods", "-l", "app=web", "--field-selector", "spec.nodeName="+node, "-o", "name")
		if err == nil && strings.TrimSpace(out) != "" {
			err = errors.New(out)
		}
		return err
	})
	if s.Nodes == 1 {
		s.until(30*time.Second, "FailedScheduling", "get", "events", "-o", "custom-columns=R:.reason")
	}
	s.run("uncordon", node)
	s.run("rollout", "status", "deployment/web", "--timeout=60s")
}

// secondUpRefused starts what runs already.
//
// Covers: up.again
func secondUpRefused(s *space) {
	out, err := exec.Command(s.Bin, "up", "--root", s.Root).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "runs already, as process") {
		s.t.Errorf("a second skiff up: error %v, want one that says that it runs already:\n%s", err, out)
	}
	s.says([]string{"ok"}, "get", "--raw", "/readyz")
}

// sigkill kills skiff itself; no container may notice.
//
// Covers: sigkill, node.restart
func sigkill(s *space) {
	s.run("create", "deployment", "web", "--image=probe", "--replicas=3")
	s.run("rollout", "status", "deployment/web", "--timeout=60s")
	started := func() string {
		s.t.Helper()
		return s.run("get", "pods", "-l", "app=web", "--sort-by=.metadata.name", "-o",
			`jsonpath={range .items[*]}{.metadata.name} {.status.containerStatuses[0].restartCount} {.status.containerStatuses[0].state.running.startedAt} {.status.containerStatuses[0].containerID}{"\n"}{end}`)
	}
	before := started()
	// Objects are made until one fails, and the kill comes at a random moment.
	acknowledged := make(chan []string, 1)
	go func() {
		var made []string
		for i := range 500 {
			name := fmt.Sprintf("configmap/made-%d", i)
			if _, err := s.try("", "create", "configmap", strings.TrimPrefix(name, "configmap/")); err != nil {
				break
			}
			made = append(made, name)
		}
		acknowledged <- made
	}()
	wait := time.Duration(rand.Int64N(int64(2 * time.Second)))
	s.t.Logf("the kill comes after %v", wait)
	<-time.After(wait)
	s.kill(s.t)
	made := <-acknowledged
	s.up(s.t)
	s.says(made, "get", "configmaps", "-o", "name")
	// A pod that starts now shows that the node agent is at work again, so that
	// the status of the old ones is fresh.
	s.apply(pod("later", "", ""))
	s.ready("pod/later")
	if after := started(); after != before {
		s.t.Errorf("the containers before:\n%safter:\n%s", before, after)
	}
	s.says([]string{"web-"}, "exec", "deployment/web", "--", "/probe", "hostname")
	s.run("scale", "deployment/web", "--replicas=4")
	s.run("rollout", "status", "deployment/web", "--timeout=60s")
}
