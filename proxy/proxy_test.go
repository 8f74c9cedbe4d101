package proxy

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/ptr"

	"skiff/proxy/ipvs"
	"skiff/proxy/state"
)

// recorder is a writer that tells what it was given, and fails when asked to.
type recorder struct {
	writes chan write
	fail   chan error
}

type write struct {
	full  bool
	ports map[string]int
}

func (r *recorder) Sync(ctx context.Context, t *state.Table, full bool) error {
	w := write{full: full, ports: map[string]int{}}
	t.Each(func(p *state.Port, _ uint64) { w.ports[p.Name.String()] = len(p.Cluster) })
	// Before the test sees the write: what it then asks for is of the next one.
	var err error
	select {
	case err = <-r.fail:
	default:
	}
	select {
	case r.writes <- w:
	case <-ctx.Done():
	}
	return err
}

func (r *recorder) Intact() (bool, error) { return true, nil }

func object(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: "ns", Name: name, Labels: map[string]string{discovery.LabelServiceName: "s"}}
}

func hinted(ip, zone string) discovery.Endpoint {
	return discovery.Endpoint{Addresses: []string{ip}, Hints: &discovery.EndpointHints{ForZones: []discovery.ForZone{{Name: zone}}}}
}

func newProxy(t *testing.T, client *fake.Clientset) (*Proxy, *recorder) {
	t.Helper()
	if _, err := exec.LookPath("iptables"); err != nil {
		t.Skip("needs the package iptables")
	}
	p, err := New(Config{Client: client, NodeName: "n1", MinSyncPeriod: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	r := &recorder{writes: make(chan write), fail: make(chan error, 1)}
	p.families[0].writer = r
	return p, r
}

func TestChangesAreWritten(t *testing.T) {
	service := &v1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "s"}, Spec: v1.ServiceSpec{
		ClusterIP: "10.96.0.1", ClusterIPs: []string{"10.96.0.1"}, Ports: []v1.ServicePort{{Port: 80, Protocol: v1.ProtocolTCP}},
	}}
	slice := &discovery.EndpointSlice{ObjectMeta: object("s-1"), AddressType: discovery.AddressTypeIPv4,
		Ports:     []discovery.EndpointPort{{Name: ptr.To(""), Port: ptr.To[int32](8080), Protocol: ptr.To(v1.ProtocolTCP)}},
		Endpoints: []discovery.Endpoint{hinted("10.0.0.1", "a"), hinted("10.0.0.2", "b")},
	}
	node := &v1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}
	client := fake.NewClientset(service, node)
	p, r := newProxy(t, client)
	if err := p.watch(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	stopped := make(chan struct{}, 4)
	for _, run := range []func(context.Context){p.services.RunWithContext, p.slices.RunWithContext, p.nodes.RunWithContext} {
		go func() { run(ctx); stopped <- struct{}{} }()
	}
	if !cache.WaitFor(ctx, "", p.delivered...) {
		t.Fatal("the caches do not fill")
	}
	// The fake API forgets what happens between a list and its watch.
	eventually(t, "three watches", func() bool {
		watches := 0
		for _, a := range client.Actions() {
			if a.GetVerb() == "watch" {
				watches++
			}
		}
		return watches == 3
	})
	go func() { p.loop(ctx); stopped <- struct{}{} }()
	// until waits for a write with so many endpoints of the service; -1 is none.
	until := func(what string, want int, full bool) {
		t.Helper()
		for {
			select {
			case w := <-r.writes:
				n, ok := w.ports["ns/s"]
				if !ok {
					n = -1
				}
				if n == want && w.full == full {
					return
				}
			case <-time.After(20 * time.Second):
				t.Fatalf("%s: never written", what)
			}
		}
	}
	until("the first write is whole", 0, true)
	slice.Annotations = map[string]string{v1.EndpointsLastChangeTriggerTime: time.Now().UTC().Format(time.RFC3339Nano)}
	must(t)(client.DiscoveryV1().EndpointSlices("ns").Create(ctx, slice, metav1.CreateOptions{}))
	until("endpoints", 2, false)
	node.Labels = map[string]string{v1.LabelTopologyZone: "a"}
	must(t)(client.CoreV1().Nodes().Update(ctx, node, metav1.UpdateOptions{}))
	until("the node's zone chooses", 1, false)
	r.fail <- errors.New("no")
	slice.Endpoints = nil
	must(t)(client.DiscoveryV1().EndpointSlices("ns").Update(ctx, slice, metav1.UpdateOptions{}))
	until("a write that fails", 0, false)
	until("the whole write after it", 0, true)
	if err := client.CoreV1().Services("ns").Delete(ctx, "s", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	until("a deleted service", -1, false)
	cancel()
	for range 4 {
		<-stopped
	}
	for name, want := range map[string]float64{
		"kubeproxy_sync_proxy_rules_iptables_restore_failures_total": 1,
		"kubeproxy_sync_proxy_rules_service_changes_total":           2, // made and deleted
		"kubeproxy_sync_proxy_rules_endpoint_changes_total":          2, // made and updated
		"kubeproxy_network_programming_duration_seconds":             1, // one time of one slice
		"kubeproxy_sync_proxy_rules_endpoint_changes_pending":        0,
	} {
		if got := value(t, p.metrics, name); got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
}

// value is a metric's value, or how many observations it has.
func value(t *testing.T, m *metrics, name string) float64 {
	t.Helper()
	families, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			v := f.Metric[0]
			return v.GetCounter().GetValue() + v.GetGauge().GetValue() + float64(v.GetHistogram().GetSampleCount())
		}
	}
	t.Errorf("there is no metric %s", name)
	return 0
}

func must(t *testing.T) func(any, error) {
	return func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
}

// Covers: proxy.traffic-policy
func TestHealth(t *testing.T) {
	p, _ := newProxy(t, fake.NewClientset())
	if err := p.watch(); err != nil {
		t.Fatal(err)
	}
	ask := func(h http.HandlerFunc) int {
		w := httptest.NewRecorder()
		h(w, httptest.NewRequest(http.MethodGet, "/", nil))
		return w.Code
	}
	if got := ask(p.health.healthz); got != http.StatusServiceUnavailable {
		t.Errorf("healthz before the first write: %d", got)
	}
	p.synced.Store(1)
	if got := ask(p.health.healthz); got != http.StatusOK {
		t.Errorf("healthz after a write: %d", got)
	}
	p.waiting.Store(time.Now().Add(-3 * p.cfg.SyncPeriod).UnixNano())
	for name, h := range map[string]http.HandlerFunc{"healthz": p.health.healthz, "livez": p.health.livez} {
		if got := ask(h); got != http.StatusServiceUnavailable {
			t.Errorf("%s with a change that is not written: %d", name, got)
		}
	}
	p.waiting.Store(0)
	leaving := &v1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}, Spec: v1.NodeSpec{Taints: []v1.Taint{{Key: "ToBeDeletedByClusterAutoscaler"}}}}
	if err := p.nodes.GetStore().Add(leaving); err != nil {
		t.Fatal(err)
	}
	if got := ask(p.health.healthz); got != http.StatusServiceUnavailable {
		t.Errorf("healthz of a node that leaves: %d", got)
	}
	if got := ask(p.health.livez); got != http.StatusOK {
		t.Errorf("livez of a node that leaves: %d", got)
	}
	well := true
	s := &serviceHealth{local: 2, well: func() bool { return well }}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), `"localEndpoints":2`) || w.Header().Get("X-Load-Balancing-Endpoint-Weight") != "2" {
		t.Errorf("two local endpoints: %d %s %v", w.Code, w.Body, w.Header())
	}
	well = false
	w = httptest.NewRecorder()
	if s.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil)); w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), `"serviceProxyHealthy":false`) {
		t.Errorf("rules are not written: %d %s", w.Code, w.Body)
	}
	s.local, well = 0, true
	w = httptest.NewRecorder()
	if s.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil)); w.Code != http.StatusServiceUnavailable {
		t.Errorf("no local endpoint: %d", w.Code)
	}
}

func TestConfig(t *testing.T) {
	for name, tc := range map[string]struct {
		config Config
		want   string
	}{
		"no client": {Config{NodeName: "n"}, "Client is nil"},
		"no name":   {Config{Client: fake.NewClientset()}, "NodeName is empty"},
		"mode":      {Config{Client: fake.NewClientset(), NodeName: "n", Mode: "userspace"}, `mode "userspace" is not known`},
		"periods":   {Config{Client: fake.NewClientset(), NodeName: "n", SyncPeriod: 1, MinSyncPeriod: 2}, "must not be less than minSyncPeriod"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := New(tc.config); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want %q", err, tc.want)
			}
		})
	}
}

// TestIPVS falls back as upstream's proxy does where the kernel has none of it.
//
// Covers: proxy.ipvs
func TestIPVS(t *testing.T) {
	var log strings.Builder
	c, err := Config{Client: fake.NewClientset(), NodeName: "n", Mode: IPVS, Log: slog.New(slog.NewTextHandler(&log, nil))}.complete()
	if ipvs.Available() == nil {
		if err != nil || c.Mode != IPVS {
			t.Errorf("mode %s, error %v, log %q", c.Mode, err, log.String())
		}
		return
	}
	if err != nil || c.Mode != IPTables || !strings.Contains(log.String(), "iptables is used") || !strings.Contains(log.String(), "load the module ip_vs") {
		t.Errorf("mode %s, error %v, log %q", c.Mode, err, log.String())
	}
}

func TestPause(t *testing.T) {
	for name, tc := range map[string]struct{ least, took, want time.Duration }{
		"configured":     {time.Second, time.Minute, time.Second},
		"a short one":    {0, time.Millisecond, leastPause},
		"a long one":     {0, 2 * time.Second, 2 * time.Second},
		"an endless one": {0, time.Hour, 30 * time.Second},
	} {
		c := Config{MinSyncPeriod: tc.least, SyncPeriod: 30 * time.Second}
		if got := c.pause(tc.took); got != tc.want {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}
