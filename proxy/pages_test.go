package proxy

import (
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/client-go/kubernetes/fake"
)

func TestPages(t *testing.T) {
	p, _ := newProxy(t, fake.NewClientset())
	p.cfg.Flags = map[string]string{"v": "2"}
	for _, tc := range []struct{ path, want string }{
		{"/healthz", "ok"},
		{"/proxyMode", "iptables"},
		{"/configz", `"kind":"KubeProxyConfiguration"`},
		{"/statusz", "Paths: /configz /flagz /healthz /metrics /proxyMode /statusz\n"},
		{"/flagz", "kube-proxy flagz\n"},
		{"/flagz", "\nv=2\n"},
		{"/metrics/slis", `kubernetes_healthchecks_total{name="ping",status="success",type="healthz"} 1`},
		{"/metrics", "kubeproxy_sync_proxy_rules_service_changes_total 0"},
	} {
		w := httptest.NewRecorder()
		p.pages().ServeHTTP(w, httptest.NewRequest("GET", tc.path, nil))
		if got := w.Body.String(); w.Code != 200 || !strings.Contains(got, tc.want) {
			t.Errorf("%s: %d, want %q in %s", tc.path, w.Code, tc.want, got)
		}
	}
}

// Each mode has the metrics that upstream's proxy has in it alone.
func TestMetricsOfModes(t *testing.T) {
	const (
		cleanup = "kubeproxy_sync_proxy_rules_nftables_cleanup_failures_total"
		forget  = "kubeproxy_conntrack_reconciler_sync_duration_seconds"
	)
	for mode, want := range map[Mode]map[string]bool{
		IPTables: {forget: true, cleanup: false},
		NFTables: {forget: true, cleanup: true},
		IPVS:     {forget: true, cleanup: false},
	} {
		m := newMetrics(mode)
		m.forgetting.WithLabelValues("IPv4").Observe(1)
		families, err := m.registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]bool{forget: false, cleanup: false}
		for _, f := range families {
			if _, asked := got[f.GetName()]; asked {
				got[f.GetName()] = true
			}
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", mode, d)
		}
	}
}
