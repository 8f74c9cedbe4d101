package conformance

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestNetProxyMode asks the proxy of every node, from the node, how it leads
// packets and what it counts.
func TestNetProxyMode(t *testing.T) {
	s := parallel(t)
	want := os.Getenv("SKIFF_E2E_PROXY_MODE")
	if want == "" {
		want = "iptables"
	}
	for i, n := range s.nodes() {
		p := onNode(probePod(fmt.Sprintf("host-%d", i), "sleep"), n.Name)
		p.Spec.HostNetwork = true
		s.ready(p)
		if got := s.mustExec(p.Name, "main", "/probe", "get", "http://127.0.0.1:10249/proxyMode"); strings.TrimSpace(got) != want {
			t.Errorf("the proxy of %s is in mode %q, want %s", n.Name, got, want)
		}
		metrics := s.mustExec(p.Name, "main", "/probe", "get", "http://127.0.0.1:10249/metrics")
		for _, name := range []string{"kubeproxy_sync_proxy_rules_duration_seconds", "kubeproxy_sync_proxy_rules_last_timestamp_seconds"} {
			if !strings.Contains(metrics, name) {
				t.Errorf("the metrics of %s lack %s", n.Name, name)
			}
		}
		s.mustExec(p.Name, "main", "/probe", "get", "http://127.0.0.1:10256/healthz")
	}
}
