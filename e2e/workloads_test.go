package e2e

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Covers: kubectl.scale-rollout, kubectl.expose-label
func deploymentRollout(s *space) {
	s.run("create", "deployment", "web", "--image=nginx:1.26", "--replicas=3", "--port=80")
	s.run("rollout", "status", "deployment/web", "--timeout=90s")
	s.says([]string{"web", "3/3"}, "get", "deployment", "web")
	s.run("set", "image", "deployment/web", "nginx=nginx:1.27")
	s.run("rollout", "status", "deployment/web", "--timeout=90s")
	image := func(want string) {
		s.t.Helper()
		s.eventually(30*time.Second, "pods of "+want+" only", func() error {
			out, err := s.try("", "get", "pods", "-l", "app=web", "-o", `jsonpath={.items[*].spec.containers[0].image}`)
			if err != nil {
				return err
			}
			if got := strings.Fields(out); len(got) != 3 || strings.Count(out, want) != 3 {
				return fmt.Errorf("the images are %q", got)
			}
			return nil
		})
	}
	image("nginx:1.27")
	s.says([]string{"REVISION", "1", "2"}, "rollout", "history", "deployment/web")
	s.run("rollout", "undo", "deployment/web")
	s.run("rollout", "status", "deployment/web", "--timeout=90s")
	image("nginx:1.26")
	s.run("scale", "deployment/web", "--replicas=1")
	s.until(60*time.Second, "1/1", "get", "deployment", "web")
	s.run("rollout", "restart", "deployment/web")
	s.run("rollout", "status", "deployment/web", "--timeout=90s")
	// A deleted pod is replaced.
	before := s.run("get", "pods", "-l", "app=web", "--field-selector=status.phase=Running", "-o", "name")
	s.run("delete", "pods", "-l", "app=web", "--wait=false")
	s.eventually(60*time.Second, "another pod", func() error {
		out, err := s.try("", "get", "deployment", "web", "-o", "jsonpath={.status.readyReplicas}")
		if err != nil || strings.TrimSpace(out) != "1" {
			return fmt.Errorf("ready %q: %w", out, errors.Join(err, errors.New("want 1")))
		}
		after, err := s.try("", "get", "pods", "-l", "app=web", "-o", "name")
		if err == nil && strings.Contains(after, strings.TrimSpace(before)) {
			err = errors.New("the deleted pod is still there")
		}
		return err
	})
}

// Covers: workload.job
func job(s *space) {
	s.apply(`apiVersion: batch/v1
kind: Job
metadata: {name: work}
spec:
  completions: 3
  parallelism: 2
  completionMode: Indexed
  template:
    spec:
      restartPolicy: Never
      containers: [{name: main, image: probe, args: [env, JOB_COMPLETION_INDEX]}]
---
apiVersion: batch/v1
kind: Job
metadata: {name: fails}
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      containers: [{name: main, image: probe, args: [exit, "1"]}]
`)
	s.run("wait", "--for=condition=Complete", "job/work", "--timeout=90s")
	s.run("wait", "--for=condition=Failed", "job/fails", "--timeout=90s")
	s.says([]string{"3/3"}, "get", "job", "work")
	s.says([]string{"2"}, "logs", "-l", "batch.kubernetes.io/job-completion-index=2")
	s.says([]string{"BackoffLimitExceeded"}, "get", "job", "fails", "-o", "jsonpath={.status.conditions[*].reason}")
	s.run("delete", "job", "work")
	s.eventually(30*time.Second, "the job's pods gone", func() error {
		out, err := s.try("", "get", "pods", "-l", "job-name=work", "-o", "name")
		if err == nil && strings.TrimSpace(out) != "" {
			err = errors.New(out)
		}
		return err
	})
}

// cronJob starts a job by hand from one that is never due, then waits for one
// that is due each minute.
//
// Covers: workload.job
func cronJob(s *space) {
	s.run("create", "cronjob", "tick", "--image=probe", "--schedule=* * * * *", "--", "/probe", "echo", "tick")
	s.run("create", "job", "by-hand", "--from=cronjob/tick")
	s.run("wait", "--for=condition=Complete", "job/by-hand", "--timeout=60s")
	s.until(80*time.Second, "tick-", "get", "jobs", "-o", "name")
	s.eventually(30*time.Second, "the job of the CronJob complete", func() error {
		out, err := s.try("", "get", "cronjob", "tick", "-o", "jsonpath={.status.lastSuccessfulTime}")
		if err == nil && out == "" {
			err = errors.New("no lastSuccessfulTime")
		}
		return err
	})
}

// Covers: workload.daemonset
func daemonSet(s *space) {
	s.apply(`apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent}
spec:
  selector: {matchLabels: {app: agent}}
  template:
    metadata: {labels: {app: agent}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: main, image: probe}]
`)
	s.run("rollout", "status", "daemonset/agent", "--timeout=90s")
	out := s.run("get", "pods", "-l", "app=agent", "-o", `jsonpath={range .items[*]}{.spec.nodeName}{"\n"}{end}`)
	if got := len(strings.Fields(out)); got != s.Nodes {
		s.t.Errorf("%d pods, want one on each of %d nodes:\n%s", got, s.Nodes, out)
	}
}

// Covers: workload.statefulset, node.volumes-local
func statefulSetWithVolumes(s *space) {
	s.apply(`apiVersion: v1
kind: Service
metadata: {name: db}
spec:
  clusterIP: None
  selector: {app: db}
  ports: [{port: 8080}]
---
apiVersion: apps/v1
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
          volumeMounts: [{name: data, mountPath: /data}]
  volumeClaimTemplates:
    - metadata: {name: data}
      spec:
        accessModes: [ReadWriteOnce]
        resources: {requests: {storage: 10Mi}}
`)
	s.run("rollout", "status", "statefulset/db", "--timeout=90s")
	s.says([]string{"data-db-0", "data-db-1", "Bound", "local-path"}, "get", "pvc")
	s.run("exec", "db-0", "--", "/probe", "write", "/data/file", "kept")
	uid := s.field("pod/db-0", ".metadata.uid")
	s.run("delete", "pod", "db-0")
	s.eventually(60*time.Second, "another db-0", func() error {
		out, err := s.try("", "get", "pod", "db-0", "-o", `jsonpath={.metadata.uid} {.status.conditions[?(@.type=="Ready")].status}`)
		if err != nil {
			return err
		}
		if strings.HasPrefix(out, uid) || !strings.HasSuffix(out, "True") {
			return errors.New(out)
		}
		return nil
	})
	s.says([]string{"kept"}, "exec", "db-0", "--", "/probe", "cat", "/data/file")
	s.says([]string{"db-0"}, "exec", "db-1", "--", "/probe", "get", "http://db-0.db:8080/hostname")
	s.run("delete", "statefulset", "db")
	s.run("delete", "pvc", "--all", "--timeout=60s")
	s.eventually(30*time.Second, "the volumes gone", func() error {
		out, err := s.try("", "get", "pv", "-o", "jsonpath={.items[*].spec.claimRef.namespace}")
		if err == nil && strings.Contains(out, s.name) {
			err = errors.New(out)
		}
		return err
	})
}
