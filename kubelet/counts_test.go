package kubelet

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	v1 "k8s.io/api/core/v1"

	"skiff/kubelet/critest"
)

// What the kubelet did shows in its numbers.
func TestNumbers(t *testing.T) {
	h := start(t, critest.New("img:1"))
	registry := prometheus.NewRegistry()
	registry.MustRegister(h.kubelet.counts)
	numbers := func() map[string]float64 {
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]float64{}
		for _, f := range families {
			for _, m := range f.Metric {
				switch {
				case m.Counter != nil:
					out[f.GetName()] += m.Counter.GetValue()
				case m.Histogram != nil:
					out[f.GetName()] += float64(m.Histogram.GetSampleCount())
				}
			}
		}
		return out
	}
	if numbers()["kubelet_pleg_relist_duration_seconds"] < 1 {
		t.Error("no list of the runtime's pods was counted")
	}
	h.create(newPod("a"))
	h.wait("a", "ready", ready)
	h.create(newPod("b", func(p *v1.Pod) {
		p.Spec.Containers[0].Image, p.Spec.Containers[0].ImagePullPolicy = "missing:1", v1.PullNever
	}))
	h.until("all counted", func() bool {
		got := numbers()
		return got["kubelet_started_containers_errors_total"] > 0 && got["kubelet_pod_start_sli_duration_seconds"] > 0
	})
	got := numbers()
	delete(got, "kubelet_pleg_relist_duration_seconds")
	delete(got, "kubelet_pleg_relist_interval_seconds")
	delete(got, "kubelet_started_containers_errors_total")
	want := map[string]float64{
		"kubelet_started_pods_total": 2, "kubelet_started_containers_total": 2, "kubelet_started_pods_errors_total": 0,
		"kubelet_pod_start_duration_seconds": 1, "kubelet_pod_start_sli_duration_seconds": 1, "kubelet_pod_start_total_duration_seconds": 1,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("numbers (-want +got):\n%s", d)
	}
}
