package e2e

import (
	"crypto/tls"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// staticPods runs a pod from a file of the node, shows it at the API server, and
// takes it away with the file.
//
// Covers: node.static
func staticPods(s *space) {
	file := filepath.Join(s.Root, "etc/kubernetes/manifests/static.yaml")
	if err := os.WriteFile(file, []byte(strings.Replace(pod("static", `"serve"`, ""), "metadata: {name: static,", "metadata: {name: static, namespace: "+s.name+",", 1)), 0o600); err != nil {
		s.t.Fatal(err)
	}
	defer os.Remove(file)
	s.until(60*time.Second, "1/1", "get", "pods", "-l", "app=static")
	mirror := strings.TrimSpace(s.field("pods", ".items[0].metadata.name"))
	if !strings.HasPrefix(mirror, "static-") {
		s.t.Errorf("the mirror pod is called %q, want the name and the node's", mirror)
	}
	s.says([]string{"static-"}, "exec", mirror, "--", "/probe", "hostname")
	// Deleting the mirror ends nothing: it comes back, and the container stays.
	began := s.field("pod/"+mirror, ".status.containerStatuses[0].state.running.startedAt")
	s.run("delete", "pod", mirror, "--grace-period=0", "--force")
	s.until(60*time.Second, "1/1", "get", "pods", "-l", "app=static")
	if again := s.field("pod/"+mirror, ".status.containerStatuses[0].state.running.startedAt"); again != began {
		s.t.Errorf("the container started at %s, and after its mirror was deleted at %s", began, again)
	}
	if err := os.Remove(file); err != nil {
		s.t.Fatal(err)
	}
	s.gone(60*time.Second, "pod/"+mirror)
}

// kubeletEndpoints asks a kubelet through the API server, and without a right
// directly.
//
// Covers: node.endpoints
func kubeletEndpoints(s *space) {
	node := strings.Fields(s.field("nodes", ".items[*].metadata.name"))[0]
	for path, want := range map[string]string{
		"pods": `"kind":"PodList"`, "stats/summary": `"nodeName"`, "metrics": "kubelet_", "metrics/cadvisor": "", "metrics/resource": "node_cpu_usage_seconds_total",
		"metrics/probes": "", "configz": "kubeletconfig", "healthz": "ok",
	} {
		s.says([]string{want}, "get", "--raw", "/api/v1/nodes/"+node+"/proxy/"+path)
	}
	address := s.field("node/"+node, ".status.addresses[?(@.type=='InternalIP')].address")
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} // who it is does not matter here
	for _, path := range []string{"/pods", "/stats/summary", "/metrics", "/configz", "/exec/default/none/none", "/runningpods/"} {
		resp, err := client.Get("https://" + address + ":10250" + path)
		if err != nil {
			s.t.Error(err)
			continue
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusUnauthorized {
			s.t.Errorf("%s without credentials is answered with %d, want 401", path, resp.StatusCode)
		}
	}
}

// TestNames calls the binary by the names of its parts.
//
// Covers: names
func TestNames(t *testing.T) {
	bin := os.Getenv("SKIFF_E2E")
	if bin == "" {
		t.Skip("SKIFF_E2E names no binary")
	}
	for name, want := range map[string]string{
		"kube-apiserver": "--service-cluster-ip-range", "kube-scheduler": "--kubeconfig", "kube-controller-manager": "--kubeconfig",
		"kube-proxy": "--proxy-mode", "kubelet": "--kubeconfig", "cloud-controller-manager": "--kubeconfig",
	} {
		t.Run(name, func(t *testing.T) {
			link := filepath.Join(t.TempDir(), name)
			if err := os.Symlink(bin, link); err != nil {
				t.Fatal(err)
			}
			out, err := exec.Command(link, "--help").CombinedOutput()
			if err != nil || !strings.Contains(string(out), want) {
				t.Errorf("%s --help: error %v, want %q in:\n%s", name, err, want, out)
			}
		})
	}
}
