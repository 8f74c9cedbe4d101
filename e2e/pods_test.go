package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// pod makes the manifest of a pod of the probe image; extra is the rest of its
// container, indented by six.
func pod(name, args, extra string) string {
	return fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata: {name: %s, labels: {app: %s}}
spec:
  terminationGracePeriodSeconds: 5
  containers:
    - name: main
      image: probe
      args: [%s]
%s`, name, name, args, extra)
}

// ready waits for a pod.
func (s *space) ready(what ...string) {
	s.t.Helper()
	s.run(append([]string{"wait", "--for=condition=Ready", "--timeout=60s"}, what...)...)
}

// Covers: image.pull, image.missing, kubectl.describe
func podFromRegistry(s *space) {
	s.run("run", "web", "--image=nginx")
	s.ready("pod/web")
	s.says([]string{"web", "1/1", "Running"}, "get", "pods", "-o", "wide")
	s.says([]string{"Welcome to nginx!"}, "exec", "web", "--", "wget", "-qO-", "http://127.0.0.1/")
	s.says([]string{"Pulled", "Created", "Started", "Scheduled"}, "get", "events", "--field-selector", "involvedObject.name=web", "-o", "custom-columns=R:.reason")
	s.says([]string{"Image:", "nginx", "Conditions:", "QoS Class:"}, "describe", "pod", "web")
	if id := s.field("pod/web", ".status.containerStatuses[0].imageID"); !strings.Contains(id, "sha256:") {
		s.t.Errorf("the image ID is %q, want a digest", id)
	}
	s.run("run", "missing", "--image=127.0.0.1:1/there-is-no-such-image")
	s.until(60*time.Second, "ErrImagePull", "get", "events", "--field-selector", "involvedObject.name=missing", "-o", "custom-columns=M:.message")
	s.run("delete", "pod", "missing", "--force", "--grace-period=0")
}

// Covers: kubectl.logs, kubectl.exec
func podLogsExecCopy(s *space) {
	s.apply(pod("tool", `"count", "100000", "200ms"`, ""))
	s.ready("pod/tool")
	s.until(20*time.Second, "line 3", "logs", "tool")
	if got := strings.TrimSpace(s.run("logs", "tool", "--limit-bytes=6")); got != "line 1" {
		s.t.Errorf("the first bytes of the log are %q, want line 1", got)
	}
	if got := strings.Count(s.run("logs", "tool", "--tail=2", "-c", "main"), "\n"); got != 2 {
		s.t.Errorf("--tail=2 gave %d lines", got)
	}
	s.says([]string{"Z line 1\n"}, "logs", "tool", "--timestamps")
	s.follows("tool")

	s.says([]string{"hello there"}, "exec", "tool", "--", "/probe", "echo", "hello", "there")
	out, err := s.try("from the input", "exec", "-i", "tool", "--", "/probe", "copy")
	if err != nil || !strings.Contains(out, "from the input") {
		s.t.Errorf("exec -i: %v: %s", err, out)
	}
	s.refused("exit code 7", "exec", "tool", "--", "/probe", "exit", "7")
	s.refused("no such file or directory", "exec", "tool", "--", "/no-such-program")

	s.apply(strings.Replace(pod("shell", `"sleep", "1h"`, "      command: [/bin/busybox]\n"), "image: probe", "image: busybox", 1))
	s.ready("pod/shell")
	local := filepath.Join(s.t.TempDir(), "sent")
	text := strings.Repeat("some text\n", 10000)
	if err := os.WriteFile(local, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	s.run("cp", local, s.name+"/shell:/tmp/there")
	s.run("cp", s.name+"/shell:/tmp/there", local+".back")
	back, err := os.ReadFile(local + ".back")
	if err != nil || string(back) != text {
		s.t.Errorf("the copy came back with %d bytes, want %d: %v", len(back), len(text), err)
	}
	s.says([]string{"text"}, "exec", "shell", "--", "sh", "-c", "grep -m1 text /tmp/there")
}

// follows reads three lines of logs -f.
func (s *space) follows(pod string) {
	s.t.Helper()
	lines, stop := s.stream(30*time.Second, "logs", "-f", pod, "--tail=1")
	defer stop()
	for i := range 3 {
		if !lines.Scan() || !strings.HasPrefix(lines.Text(), "line ") {
			s.t.Fatalf("logs -f: line %d is %q", i, lines.Text())
		}
	}
}

// podTerminalAttach needs a terminal, which script(1) gives to kubectl.
//
// Covers: kubectl.exec
func podTerminalAttach(s *space) {
	s.apply(strings.Replace(pod("shell", `"sleep", "1h"`, "      command: [/bin/busybox]\n"), "image: probe", "image: busybox", 1))
	s.apply(pod("talks", `"count", "100000", "100ms"`, ""))
	s.ready("pod/shell", "pod/talks")
	script, err := exec.LookPath("script")
	if err != nil {
		s.t.Skip("want script of bsdutils in PATH")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	kubectl := s.command(ctx)
	cmd := exec.CommandContext(ctx, script, "-qec", strings.Join(kubectl.Args, " ")+" exec -it shell -- sh -c 'test -t 0 && test -t 1 && echo has a terminal'", "/dev/null")
	cmd.Env, cmd.WaitDelay = kubectl.Env, time.Second
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "has a terminal") {
		s.t.Errorf("exec -it: %v: %s", err, out)
	}
	lines, stop := s.stream(30*time.Second, "attach", "talks")
	defer stop()
	for range 3 {
		if !lines.Scan() || !strings.HasPrefix(lines.Text(), "line ") {
			s.t.Fatalf("attach showed %q", lines.Text())
		}
	}
}

// Covers: kubectl.port-forward
func podPortForward(s *space) {
	s.apply(pod("web", "", ""))
	s.ready("pod/web")
	lines, stop := s.stream(30*time.Second, "port-forward", "pod/web", ":8080")
	defer stop()
	// Forwarding from 127.0.0.1:40123 -> 8080
	if !lines.Scan() {
		s.t.Fatal("port-forward said nothing")
	}
	f := strings.Fields(lines.Text())
	if len(f) < 3 {
		s.t.Fatalf("port-forward said %q", lines.Text())
	}
	for range 3 {
		body, err := fetch("http://" + f[2] + "/hostname")
		if err != nil || strings.TrimSpace(body) != "web" {
			s.t.Errorf("through the forwarded port: %q, %v; want web", body, err)
		}
	}
}

// fetch gets a URL from the machine.
func fetch(url string) (string, error) {
	c := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := c.Get(url)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New(resp.Status)
	}
	return string(b), err
}

// Covers: workload.deployment, node.volumes
func podConfigMapSecret(s *space) {
	s.run("create", "configmap", "settings", "--from-literal=colour=blue", "--from-literal=file.txt=from the map")
	s.run("create", "secret", "generic", "keys", "--from-literal=password=hush")
	s.apply(`apiVersion: v1
kind: Pod
metadata: {name: reader, labels: {app: reader}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
    - name: main
      image: probe
      envFrom: [{configMapRef: {name: settings}, prefix: MAP_}]
      env:
        - {name: PASSWORD, valueFrom: {secretKeyRef: {name: keys, key: password}}}
        - {name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
        - {name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
        - {name: CPU, valueFrom: {resourceFieldRef: {resource: limits.cpu, divisor: 1m}}}
      resources: {limits: {cpu: 200m, memory: 64Mi}, requests: {cpu: 10m}}
      volumeMounts:
        - {name: map, mountPath: /map}
        - {name: secret, mountPath: /secret, readOnly: true}
        - {name: scratch, mountPath: /scratch}
        - {name: info, mountPath: /info}
  volumes:
    - {name: map, configMap: {name: settings}}
    - {name: secret, secret: {secretName: keys, defaultMode: 0400}}
    - {name: scratch, emptyDir: {medium: Memory, sizeLimit: 8Mi}}
    - {name: info, downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}}
`)
	s.ready("pod/reader")
	ip := s.field("pod/reader", ".status.podIP")
	s.says([]string{"blue\nhush\n" + s.field("pod/reader", ".spec.nodeName") + "\n" + ip + "\n200\n"},
		"exec", "reader", "--", "/probe", "env", "MAP_colour", "PASSWORD", "NODE", "POD_IP", "CPU")
	s.says([]string{"from the map"}, "exec", "reader", "--", "/probe", "cat", "/map/file.txt")
	s.says([]string{"hush"}, "exec", "reader", "--", "/probe", "cat", "/secret/password")
	s.says([]string{`app="reader"`}, "exec", "reader", "--", "/probe", "cat", "/info/labels")
	s.run("exec", "reader", "--", "/probe", "write", "/scratch/file", "text")
	s.says([]string{"text"}, "exec", "reader", "--", "/probe", "cat", "/scratch/file")
	s.refused("read-only file system", "exec", "reader", "--", "/probe", "write", "/secret/password", "x")
	if got := s.field("pod/reader", ".status.qosClass"); got != "Burstable" {
		s.t.Errorf("the QoS class is %q, want Burstable", got)
	}
}

// Covers: pod.restart, kubectl.logs
func podRestart(s *space) {
	s.apply(pod("web", "", ""))
	s.ready("pod/web")
	_, err := s.try("", "exec", "web", "--", "/probe", "get", "http://127.0.0.1:8080/exit?code=3")
	if err == nil {
		s.t.Error("the server answered, want it to end")
	}
	s.until(30*time.Second, "1", "get", "pod", "web", "-o", "jsonpath={.status.containerStatuses[0].restartCount}")
	s.ready("pod/web")
	if code := s.field("pod/web", ".status.containerStatuses[0].lastState.terminated.exitCode"); code != "3" {
		s.t.Errorf("the last exit code is %q, want 3", code)
	}
	s.says([]string{"asked to exit with 3"}, "logs", "web", "--previous")
	s.apply(pod("crash", `"exit", "5", "goodbye"`, ""))
	s.until(60*time.Second, "CrashLoopBackOff", "get", "pod", "crash")
	s.until(20*time.Second, "Back-off restarting failed container", "get", "events", "--field-selector", "involvedObject.name=crash")
	s.apply(strings.Replace(pod("done", `"exit", "0"`, ""), "spec:\n", "spec:\n  restartPolicy: Never\n", 1))
	s.run("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/done", "--timeout=30s")
}

// Covers: pod.readiness, node.probes
func podProbes(s *space) {
	s.apply(pod("web", "", `      livenessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1, failureThreshold: 2}
      readinessProbe: {httpGet: {path: /readyz, port: 8080}, periodSeconds: 1, failureThreshold: 1}
      startupProbe: {tcpSocket: {port: 8082}, periodSeconds: 1, failureThreshold: 30}
`))
	s.run("expose", "pod", "web", "--port=80", "--target-port=8080")
	s.ready("pod/web")
	s.endpoints("web", 1)
	put := func(path string) {
		s.t.Helper()
		s.run("create", "--raw", "/api/v1/namespaces/"+s.name+"/pods/web:8080/proxy"+path, "-f", "/dev/null")
	}
	put("/readyz?ok=false")
	s.run("wait", "--for=condition=Ready=false", "pod/web", "--timeout=30s")
	s.endpoints("web", 0)
	put("/readyz?ok=true")
	s.ready("pod/web")
	s.endpoints("web", 1)
	put("/healthz?ok=false")
	s.until(30*time.Second, "1", "get", "pod", "web", "-o", "jsonpath={.status.containerStatuses[0].restartCount}")
	s.until(20*time.Second, "Liveness probe failed: HTTP probe failed with statuscode: 503", "get", "events", "--field-selector", "involvedObject.name=web")
	s.ready("pod/web")
}

// endpoints waits until a Service has n ready endpoints.
func (s *space) endpoints(service string, n int) {
	s.t.Helper()
	s.eventually(20*time.Second, fmt.Sprintf("%d ready endpoints of %s", n, service), func() error {
		out, err := s.try("", "get", "endpointslices", "-l", "kubernetes.io/service-name="+service,
			"-o", `jsonpath={range .items[*].endpoints[?(@.conditions.ready==true)]}{.addresses[0]}{" "}{end}`)
		if err != nil {
			return err
		}
		if got := len(strings.Fields(out)); got != n {
			return fmt.Errorf("%d are ready: %s", got, out)
		}
		return nil
	})
}

// Covers: kubectl.delete, node.hooks
func podGracefulEnd(s *space) {
	s.apply(pod("polite", `"sleep", "1h"`, ""))
	s.apply(strings.Replace(pod("stubborn", `"stubborn"`, ""), "Seconds: 5", "Seconds: 1", 1))
	s.ready("pod/polite", "pod/stubborn")
	s.run("delete", "pod", "polite", "stubborn", "--timeout=30s")
	s.gone(5*time.Second, "pod/polite")
	s.gone(5*time.Second, "pod/stubborn")
	s.apply(pod("forced", `"stubborn"`, ""))
	s.ready("pod/forced")
	s.run("delete", "pod", "forced", "--force", "--grace-period=0")
	s.gone(5*time.Second, "pod/forced")
}
