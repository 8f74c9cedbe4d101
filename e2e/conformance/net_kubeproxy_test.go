package conformance

import (
	"fmt"
	"os"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// TestNetProxyMode asks the proxy of every node, from the node, how it leads
// packets and what it counts.
func TestNetProxyMode(t *testing.T) {
	s := parallel(t)
	want := os.Getenv("SKIFF_E2E_PROXY_MODE")
	if want == "" {
		want = "iptables"
	}
	s.backends("web", 1)
	s.clientPod()
	s.reachesService("client", s.service(service("web", corev1.ServiceTypeClusterIP)))
	for i, n := range s.nodes() {
		p := onNode(probePod(fmt.Sprintf("host-%d", i), "sleep"), n.Name)
		p.Spec.HostNetwork = true
		s.ready(p)
		if got := s.mustExec(p.Name, "main", "/probe", "get", "http://127.0.0.1:10249/proxyMode"); strings.TrimSpace(got) != want {
			t.Errorf("the proxy of %s is in mode %q, want %s", n.Name, got, want)
		}
		metrics := s.mustExec(p.Name, "main", "/probe", "get", "http://127.0.0.1:10249/metrics")
		for _, name := range []string{
			"kubeproxy_sync_proxy_rules_duration_seconds_count{ip_family=\"IPv4\"}", "kubeproxy_sync_proxy_rules_last_timestamp_seconds",
			"kubeproxy_network_programming_duration_seconds_bucket", "kubeproxy_sync_proxy_rules_endpoint_changes_total", "process_cpu_seconds_total",
		} {
			if !strings.Contains(metrics, name) {
				t.Errorf("the metrics of %s lack %s", n.Name, name)
			}
		}
		s.mustExec(p.Name, "main", "/probe", "get", "http://127.0.0.1:10256/healthz")
	}
}

// TestNetRestart asks a Service all the while that every skiff process is killed
// and started again.
func TestNetRestart(t *testing.T) {
	s := alone(t)
	s.backends("web", 2)
	svc := s.service(service("web", corev1.ServiceTypeNodePort))
	s.clientPod()
	s.reachesService("client", svc)
	var hammers []string
	for i, url := range s.urls(svc)[1:] {
		p := probePod(fmt.Sprintf("hammer-%d", i), "hammer", url, "12s")
		s.pod(p)
		s.podIs(p.Name, "Running", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodRunning })
		hammers = append(hammers, p.Name)
	}
	s.must(shared.Kill())
	s.must(shared.Up())
	for _, name := range hammers {
		p := s.podIs(name, "at its end", func(p *corev1.Pod) bool {
			return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
		})
		if out := s.logs(name, "main"); p.Status.Phase != corev1.PodSucceeded || !strings.Contains(out, ", 0 failed") {
			t.Errorf("%s: %s: %s", name, p.Status.Phase, out)
		} else {
			t.Logf("%s: %s", name, strings.TrimSpace(out))
		}
	}
}
