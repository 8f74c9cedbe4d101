package conformance

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// controllerYAML is a replication controller of probes.
const controllerYAML = `
apiVersion: v1
kind: ReplicationController
metadata:
  name: primary
  labels: {app: primary, role: primary}
spec:
  replicas: REPLICAS
  selector: {app: primary, role: primary}
  template:
    metadata:
      labels: {app: primary, role: primary}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: main
        image: probe
        args: [serve]
        ports: [{name: server, containerPort: 8080}]
`

func controllerOf(replicas string) string {
	return strings.Replace(controllerYAML, "REPLICAS", replicas, 1)
}

// runningNames waits until so many pods of an app are Ready and returns their names.
func (s *space) runningNames(app string, want int) []string {
	s.t.Helper()
	var names []string
	s.eventually(90*time.Second, fmt.Sprint(want, " running pods of ", app), func() error {
		list, err := s.client.CoreV1().Pods(s.name).List(s.ctx, metav1.ListOptions{LabelSelector: "app=" + app})
		if err != nil {
			return err
		}
		names = nil
		for _, p := range list.Items {
			for _, c := range p.Status.Conditions {
				if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue && p.DeletionTimestamp == nil {
					names = append(names, p.Name)
				}
			}
		}
		if len(names) != want || len(list.Items) != want {
			return fmt.Errorf("%d of %d run", len(names), len(list.Items))
		}
		return nil
	})
	return names
}

// Conformance: [sig-cli] Kubectl client Update Demo should create and stop a replication controller
// Conformance: [sig-cli] Kubectl client Update Demo should scale a replication controller
func TestCLIScale(t *testing.T) {
	s := parallel(t)
	s.mustKubectl(controllerOf("2"), "create", "-f", "-")
	s.runningNames("primary", 2)
	for _, n := range []int{1, 2} {
		s.says("", []string{"scale", "rc", "primary", fmt.Sprint("--replicas=", n), "--timeout=5m"}, "scaled")
		s.runningNames("primary", n)
	}
	// What the official test asks of each pod.
	out := s.says("", []string{"get", "pods", "-l", "app=primary", "-o", `template={{range.items}}{{if (exists . "status" "containerStatuses")}}{{range .status.containerStatuses}}{{if (and (eq .name "main") (exists . "state" "running"))}}true {{end}}{{end}}{{end}}{{end}}`}, "true")
	equal(s, "what the template says", "true true", strings.TrimSpace(out))
	s.mustKubectl(controllerOf("2"), "delete", "--grace-period=0", "--force", "-f", "-")
	s.says("", []string{"get", "rc,svc", "-l", "app=primary", "--no-headers"}, "No resources found")
	s.runningNames("primary", 0)
}

// Conformance: [sig-cli] Kubectl client Kubectl expose should create services for rc
// Conformance: [sig-cli] Kubectl client Kubectl patch should add annotations for pods in rc
// Conformance: [sig-cli] Kubectl client Kubectl describe should check if kubectl describe prints relevant information for rc and pods
func TestCLIController(t *testing.T) {
	s := parallel(t)
	s.mustKubectl(controllerOf("1"), "create", "-f", "-")
	pod := s.runningNames("primary", 1)[0]
	endpoints := func(service string, port int32) {
		t.Helper()
		s.eventually(60*time.Second, "the service leads to the pod", func() error {
			e, err := s.client.CoreV1().Endpoints(s.name).Get(s.ctx, service, metav1.GetOptions{})
			if err != nil {
				return err
			}
			if len(e.Subsets) != 1 || len(e.Subsets[0].Addresses) != 1 || e.Subsets[0].Addresses[0].TargetRef.Name != pod || e.Subsets[0].Ports[0].Port != 8080 {
				return fmt.Errorf("it leads to %+v", e.Subsets)
			}
			return nil
		})
		svc, err := s.client.CoreV1().Services(s.name).Get(s.ctx, service, metav1.GetOptions{})
		s.must(err)
		if len(svc.Spec.Ports) != 1 || svc.Spec.Ports[0].Port != port || svc.Spec.Ports[0].TargetPort.IntValue() != 8080 {
			t.Errorf("the ports are %+v, want %d to 8080", svc.Spec.Ports, port)
		}
	}
	s.mustKubectl("", "expose", "rc", "primary", "--name=rm2", "--port=1234", "--target-port=8080")
	endpoints("rm2", 1234)
	s.mustKubectl("", "expose", "service", "rm2", "--name=rm3", "--port=2345", "--target-port=8080")
	endpoints("rm3", 2345)

	s.says("", []string{"patch", "pod", pod, "-p", `{"metadata":{"annotations":{"x":"y"}}}`}, "patched")
	p, err := s.client.CoreV1().Pods(s.name).Get(s.ctx, pod, metav1.GetOptions{})
	s.must(err)
	equal(s, "the annotation", "y", p.Annotations["x"])

	node := p.Spec.NodeName
	s.says("", []string{"describe", "pod", pod}, "Name:", pod, "Namespace:", s.name, "Node:", node, "Labels:", "app=primary", "role=primary",
		"Annotations:", "Status:", "Running", "IP:", "Controlled By:", "ReplicationController/primary", "Image:", "probe", "State:", "QoS Class:", "BestEffort", "Events:", "Successfully assigned")
	s.says("", []string{"describe", "rc", "primary"}, "Name:", "primary", "Namespace:", s.name, "Selector:", "app=primary,role=primary", "Labels:", "Annotations:",
		"Replicas:", "1 current", "1 desired", "Pods Status:", "1 Running", "Pod Template:", "Image:", "Events:", "SuccessfulCreate")
	s.says("", []string{"describe", "service", "rm2"}, "Name:", "rm2", "Selector:", "app=primary,role=primary", "Type:", "ClusterIP", "IP:", "Port:", "<unset>", "1234/TCP", "Endpoints:", ":8080", "Session Affinity:", "None")
	s.says("", []string{"describe", "node", node}, "Name:", node, "Labels:", "Annotations:", "CreationTimestamp:", "Conditions:", "Type", "Status", "LastHeartbeatTime", "LastTransitionTime", "Reason", "Message",
		"Addresses:", "Capacity:", "Version:", "Kernel Version:", "OS Image:", "Container Runtime Version:", "Kubelet Version:", "Non-terminated Pods:", "Allocated resources:")
	s.says("", []string{"describe", "namespace", s.name}, "Name:", s.name, "Labels:", "Annotations:", "Status:", "Active")
}

// Conformance: [sig-cli] Kubectl client Kubectl label should update the label on a resource
func TestCLILabel(t *testing.T) {
	s := parallel(t)
	s.ready(probePod("pause", "serve"))
	s.says("", []string{"label", "pods", "pause", "testing-label=testing-label-value"}, "labeled")
	s.says("", []string{"get", "pod", "pause", "-L", "testing-label"}, "testing-label-value", "TESTING-LABEL")
	s.says("", []string{"get", "pod", "-l", "testing-label=testing-label-value"}, "pause")
	s.mustKubectl("", "label", "pods", "pause", "testing-label-")
	if out := s.mustKubectl("", "get", "pod", "pause", "-L", "testing-label"); strings.Contains(out, "testing-label-value") {
		t.Errorf("the label is there still:\n%s", out)
	}
	if out := s.mustKubectl("", "get", "pod", "-l", "testing-label", "-o", "name"); out != "" {
		t.Errorf("pods with the label that was removed:\n%s", out)
	}
}

// Conformance: [sig-cli] Kubectl client Kubectl run pod should create a pod from an image when restart is Never
// Conformance: [sig-cli] Kubectl client Kubectl replace should update a single-container pod's image
// Conformance: [sig-cli] Kubectl client Kubectl server-side dry-run should check if kubectl can dry-run update Pods
func TestCLIRun(t *testing.T) {
	s := parallel(t)
	image := func() string {
		t.Helper()
		p, err := s.client.CoreV1().Pods(s.name).Get(s.ctx, "httpd", metav1.GetOptions{})
		s.must(err)
		if len(p.Spec.Containers) != 1 || p.Spec.RestartPolicy != corev1.RestartPolicyNever {
			t.Errorf("the pod is %+v", p.Spec)
		}
		return p.Spec.Containers[0].Image
	}
	s.mustKubectl("", "run", "httpd", "--image=probe", "--restart=Never", "--labels=run=httpd", "--pod-running-timeout=2m0s")
	equal(s, "the image", "probe", image())
	s.mustKubectl("", "wait", "--for=condition=Ready", "pod/httpd", "--timeout=60s")
	s.says("", []string{"patch", "pod", "httpd", "-p", `{"spec":{"containers":[{"name":"httpd","image":"busybox"}]}}`, "--dry-run=server"}, "patched")
	equal(s, "the image after the dry run", "probe", image())
	text := s.mustKubectl("", "get", "pod", "httpd", "-o", "json")
	s.says(strings.ReplaceAll(text, `"image": "probe"`, `"image": "nginx"`), []string{"replace", "-f", "-"}, "replaced")
	equal(s, "the replaced image", "nginx", image())
	s.mustKubectl(strings.Replace(text, `"image": "probe"`, `"image": "busybox"`, 1), "replace", "--force", "--grace-period=1", "-f", "-")
	equal(s, "the image of the new pod", "busybox", image())
	s.mustKubectl("", "delete", "pods", "httpd", "--grace-period=1")
}

// Conformance: [sig-cli] Kubectl client Kubectl diff should check if kubectl diff finds a difference for Deployments
func TestCLIDiff(t *testing.T) {
	s := parallel(t)
	manifest := func(image string) string {
		return "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: httpd}\nspec:\n  replicas: 0\n  selector: {matchLabels: {app: httpd}}\n" +
			"  template:\n    metadata: {labels: {app: httpd}}\n    spec: {containers: [{name: httpd, image: " + image + "}]}\n"
	}
	s.mustKubectl(manifest("probe"), "create", "-f", "-")
	for _, args := range [][]string{{"diff", "-f", "-"}, {"diff", "--server-side", "--force-conflicts", "-f", "-"}} {
		out, err := s.kubectl(manifest("busybox"), args...)
		if err == nil || !strings.Contains(err.Error(), "exit status 1") || !regexp.MustCompile(`(?m)^-\s.*image: probe$`).MatchString(out) || !regexp.MustCompile(`(?m)^\+\s.*image: busybox$`).MatchString(out) {
			t.Errorf("%v says %v:\n%s", args, err, out)
		}
	}
	s.mustKubectl("", "delete", "deployment", "httpd")
}

// Conformance: [sig-cli] Kubectl client Kubectl version should check is all data is printed
// Conformance: [sig-cli] Kubectl client Kubectl cluster-info should check if Kubernetes control plane services is included in cluster-info
// Conformance: [sig-cli] Kubectl client Kubectl api-versions should check if v1 is in available api versions
func TestCLIInformation(t *testing.T) {
	s := parallel(t)
	s.says("", []string{"version"}, "Client Version: ", "Server Version: ", "v1.37.")
	var version struct {
		ClientVersion, ServerVersion map[string]string
	}
	out, _, _ := strings.Cut(s.mustKubectl("", "version", "-o", "json"), "WARNING") // of the distance between both
	s.must(json.Unmarshal([]byte(out), &version))
	for _, key := range []string{"major", "minor", "gitVersion", "gitCommit", "gitTreeState", "buildDate", "goVersion", "compiler", "platform"} {
		for side, of := range map[string]map[string]string{"client": version.ClientVersion, "server": version.ServerVersion} {
			if _, ok := of[key]; !ok {
				t.Errorf("the %s's version has no %s: %v", side, key, of)
			}
		}
	}
	s.says("", []string{"cluster-info"}, "Kubernetes control plane", "is running at", "https://")
	versions := strings.Fields(s.mustKubectl("", "api-versions"))
	for _, want := range []string{"v1", "apps/v1", "batch/v1"} {
		if !strings.Contains(" "+strings.Join(versions, " ")+" ", " "+want+" ") {
			t.Errorf("the versions are %v, want %s among them", versions, want)
		}
	}
	s.mustKubectl("", "cluster-info", "dump", "--namespaces="+s.name)
}

// Conformance: [sig-cli] Kubectl logs logs should be able to retrieve and filter logs
func TestCLILogs(t *testing.T) {
	s := parallel(t)
	s.ready(shellPod("pod", `for i in 0 1 2 3 4 5 6 7 8 9; do echo "line $i of /api/v1/namespaces/"; done; sleep 3600`))
	s.eventually(20*time.Second, "the log", func() error {
		out, err := s.kubectl("", "logs", "pod", "main")
		if err == nil && strings.Count(out, "\n") != 10 {
			err = fmt.Errorf("it is %q", out)
		}
		return err
	})
	s.says("", []string{"logs", "pod", "main"}, "/api/v1/namespaces/")
	equal(s, "the last line", "line 9 of /api/v1/namespaces/\n", s.mustKubectl("", "logs", "pod", "main", "--tail=1"))
	equal(s, "the first byte", 1, len(s.mustKubectl("", "logs", "pod", "main", "--limit-bytes=1")))
	line := strings.SplitN(s.mustKubectl("", "logs", "pod", "main", "--tail=1", "--timestamps"), " ", 2)
	if _, err := time.Parse(time.RFC3339Nano, line[0]); err != nil || line[1] != "line 9 of /api/v1/namespaces/\n" {
		t.Errorf("the line with a time is %q", line)
	}
	<-time.After(2500 * time.Millisecond) // so that the lines are older than a second
	recent, old := s.mustKubectl("", "logs", "pod", "main", "--since=1s"), s.mustKubectl("", "logs", "pod", "main", "--since=24h")
	if strings.Count(recent, "\n") != 0 || strings.Count(old, "\n") != 10 {
		t.Errorf("of the last second are %q, of the last day %q", recent, old)
	}
}

// Conformance: [sig-cli] Kubectl client Proxy server should support proxy with --port 0
// Conformance: [sig-cli] Kubectl client Proxy server should support --unix-socket=/path
func TestCLIProxy(t *testing.T) {
	s := parallel(t)
	for name, args := range map[string][]string{
		"port":   {"proxy", "-p", "0", "--disable-filter"},
		"socket": {"proxy", "--unix-socket=" + filepath.Join(t.TempDir(), "s")},
	} {
		ctx, cancel := context.WithTimeout(s.ctx, time.Minute)
		cmd := s.kubectlCommand(ctx, args...)
		pipe, err := cmd.StdoutPipe()
		s.must(err)
		s.must(cmd.Start())
		line, err := bufio.NewReader(pipe).ReadString('\n')
		address := strings.TrimSpace(strings.TrimPrefix(line, "Starting to serve on "))
		var body []byte
		if err == nil {
			network := "tcp"
			if name == "socket" {
				network = "unix"
			}
			client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, network, address)
			}}}
			var resp *http.Response
			if resp, err = client.Get("http://localhost:0/api/"); err == nil {
				body, err = io.ReadAll(resp.Body)
				resp.Body.Close()
			}
		}
		cancel()
		_ = cmd.Wait() // it was killed
		var versions metav1.APIVersions
		if err == nil {
			err = json.Unmarshal(body, &versions)
		}
		if err != nil || len(versions.Versions) < 1 {
			t.Errorf("%s: %q %v: %s", name, line, err, body)
		}
	}
}
