package e2e

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// database is a StatefulSet of two pods that write to a volume each, and restart
// what ends.
const database = `apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  replicas: 2
  serviceName: db
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
        - name: main
          image: probe
          volumeMounts: [{name: data, mountPath: /data}, {name: scratch, mountPath: /scratch}]
      volumes: [{name: scratch, emptyDir: {medium: Memory}}]
  volumeClaimTemplates:
    - metadata: {name: data}
      spec:
        accessModes: [ReadWriteOnce]
        resources: {requests: {storage: 10Mi}}
`

// databaseKept writes to the volumes, lets something happen, and reads.
func (s *space) databaseKept(what string, happen func()) {
	s.t.Helper()
	for _, p := range []string{"db-0", "db-1"} {
		s.run("exec", p, "--", "/probe", "write", "/data/"+what, p+" before "+what)
	}
	placed := s.field("pods", `.items[*].spec.nodeName`)
	happen()
	s.eventually(90*time.Second, "both pods after "+what, func() error {
		for _, p := range []string{"db-0", "db-1"} {
			out, err := s.try("", "exec", p, "--", "/probe", "cat", "/data/"+what)
			if err != nil || out != p+" before "+what+"\n" {
				return fmt.Errorf("%s says %q: %w", p, out, err)
			}
		}
		return nil
	})
	s.run("rollout", "status", "statefulset/db", "--timeout=60s")
	if after := s.field("pods", `.items[*].spec.nodeName`); after != placed {
		s.t.Errorf("after %s the pods are on %s, their volumes on %s", what, after, placed)
	}
}

// volumesSurvive checks that what is in the volumes of a StatefulSet outlives its
// pods, the StatefulSet itself, and everything that runs.
//
// Covers: workload.statefulset, node.volumes-local
func volumesSurvive(s *space) {
	s.apply(database)
	s.run("rollout", "status", "statefulset/db", "--timeout=90s")
	s.databaseKept("pods-deleted", func() { s.run("delete", "pods", "-l", "app=db", "--wait") })
	s.databaseKept("scaled-down", func() {
		s.run("scale", "statefulset/db", "--replicas=0")
		s.gone(60*time.Second, "pod/db-0")
		s.run("scale", "statefulset/db", "--replicas=2")
	})
	s.databaseKept("made-anew", func() {
		s.run("delete", "statefulset", "db", "--cascade=foreground")
		s.gone(60*time.Second, "pod/db-0")
		s.apply(database)
	})
	s.databaseKept("down-and-up", func() {
		if err := s.Down(); err != nil {
			s.t.Fatal(err)
		}
		s.up(s.t)
	})
	s.databaseKept("power-cut", func() {
		if err := s.PowerCut(); err != nil {
			s.t.Fatal(err)
		}
		s.up(s.t)
	})
	s.run("delete", "statefulset", "db")
	s.run("delete", "pvc", "--all", "--timeout=60s")
}

// manyVolumes is a pod with a volume of each kind that the node mounts.
func manyVolumes(i int) string {
	return fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata: {name: many-%[1]d, labels: {app: many}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
    - name: main
      image: probe
      volumeMounts:
        - {name: memory, mountPath: /memory}
        - {name: memory, mountPath: /part, subPath: a/b}
        - {name: secret, mountPath: /secret}
        - {name: secret, mountPath: /key, subPath: key}
        - {name: config, mountPath: /config}
        - {name: all, mountPath: /all}
        - {name: claim, mountPath: /claim}
  volumes:
    - {name: memory, emptyDir: {medium: Memory}}
    - {name: secret, secret: {secretName: data}}
    - {name: config, configMap: {name: data}}
    - name: all
      projected:
        sources:
          - configMap: {name: data}
          - downwardAPI: {items: [{path: name, fieldRef: {fieldPath: metadata.name}}]}
          - serviceAccountToken: {path: token}
    - name: claim
      ephemeral:
        volumeClaimTemplate:
          spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Mi}}}
---
`, i)
}

// killWhileMounting ends skiff at a random moment while it mounts the volumes of
// pods, and again while it takes them down.
//
// Covers: node.restart
func killWhileMounting(s *space) {
	const pods = 6
	s.run("create", "configmap", "data", "--from-literal=config=from-config")
	s.run("create", "secret", "generic", "data", "--from-literal=key=from-secret")
	var manifest strings.Builder
	for i := range pods {
		manifest.WriteString(manyVolumes(i))
	}
	s.apply(manifest.String())
	s.killWithin(1500 * time.Millisecond)
	s.run("wait", "--for=condition=Ready", "--timeout=120s", "pods", "-l", "app=many")
	for i := range pods {
		name := fmt.Sprintf("many-%d", i)
		s.says([]string{"from-config", "from-secret", name}, "exec", name, "--", "/probe", "cat", "/config/config", "/secret/key", "/all/name", "/all/token")
		s.run("exec", name, "--", "/probe", "write", "/claim/f", "x")
		s.run("exec", name, "--", "/probe", "write", "/part/f", "x")
	}
	uids := strings.Fields(s.field("pods", ".items[*].metadata.uid"))
	s.run("delete", "pods", "-l", "app=many", "--wait=false")
	s.killWithin(1500 * time.Millisecond)
	s.run("wait", "--for=delete", "--timeout=120s", "pods", "-l", "app=many")
	s.eventually(60*time.Second, "the folders of the pods gone", func() error { return s.noFolders(uids) })
}

// killWithin kills skiff at a random moment and starts it again.
func (s *space) killWithin(limit time.Duration) {
	s.t.Helper()
	wait := time.Duration(rand.Int64N(int64(limit)))
	s.t.Logf("the kill comes after %v", wait)
	<-time.After(wait)
	s.kill(s.t)
	s.up(s.t)
}

// noFolders looks for what the nodes have of pods that are gone.
func (s *space) noFolders(uids []string) error {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	var errs []error
	for _, uid := range uids {
		if strings.Contains(string(mounts), uid) {
			errs = append(errs, fmt.Errorf("something of pod %s is mounted", uid))
		}
		for _, pattern := range []string{"var/lib/kubelet/pods", "nodes/*/var/lib/kubelet/pods"} {
			found, err := filepath.Glob(filepath.Join(s.Root, pattern, uid))
			if err != nil {
				return err
			}
			for _, f := range found {
				errs = append(errs, fmt.Errorf("%s is there", f))
			}
		}
	}
	return errors.Join(errs...)
}
