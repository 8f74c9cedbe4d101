package counts

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// numbers are the counters and gauges by name and labels, and of histograms how many
// were observed and their sum.
func numbers(t *testing.T, c *Counts) map[string]float64 {
	t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(c)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, f := range families {
		for _, m := range f.Metric {
			name := f.GetName()
			for _, l := range m.Label {
				name += " " + l.GetValue()
			}
			switch {
			case m.Counter != nil:
				out[name] = m.Counter.GetValue()
			case m.Gauge != nil:
				out[name] = m.Gauge.GetValue()
			case m.Histogram.GetSampleCount() > 0:
				out[name+" count"], out[name+" sum"] = float64(m.Histogram.GetSampleCount()), m.Histogram.GetSampleSum()
			}
		}
	}
	return out
}

func TestCounts(t *testing.T) {
	c := New()
	c.Evicted("memory.available", 2*time.Second)
	c.Evicted("emptydirfs.limit", 0)
	c.Start("sandbox", "")
	c.Start("sandbox", "")
	c.Start("sandbox", "CreatePodSandboxError")
	c.Start("init container", "")
	c.Start("container", "")
	c.Start("container", "ErrImagePull")
	c.Runs(3 * time.Second)
	began := time.Now()
	c.Relisted(began, time.Time{})
	c.Relisted(began, began.Add(-5*time.Second))
	got := numbers(t, c)
	for name := range got {
		if strings.HasPrefix(name, "kubelet_pleg_relist_duration_seconds sum") {
			delete(got, name)
		}
	}
	want := map[string]float64{
		"kubelet_evictions memory.available": 1, "kubelet_evictions emptydirfs.limit": 1,
		"kubelet_eviction_stats_age_seconds memory.available count": 1, "kubelet_eviction_stats_age_seconds memory.available sum": 2,
		"kubelet_started_pods_total": 2, "kubelet_started_pods_errors_total": 1,
		"kubelet_started_containers_total init_container": 1, "kubelet_started_containers_total container": 1,
		"kubelet_started_containers_errors_total ErrImagePull container": 1,
		"kubelet_pod_start_duration_seconds count":                       1, "kubelet_pod_start_duration_seconds sum": 3,
		"kubelet_pleg_relist_duration_seconds count": 2, "kubelet_pleg_relist_interval_seconds count": 1, "kubelet_pleg_relist_interval_seconds sum": 5,
		"kubelet_pleg_last_seen_seconds": float64(began.Unix()),
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("numbers (-want +got):\n%s", d)
	}
}

func TestObserved(t *testing.T) {
	created := time.Now().Add(-time.Minute)
	at := func(s int) metav1.Time { return metav1.NewTime(created.Add(time.Duration(s) * time.Second)) }
	runs := v1.ContainerStatus{State: v1.ContainerState{Running: &v1.ContainerStateRunning{StartedAt: at(9)}}}
	waits := v1.ContainerStatus{State: v1.ContainerState{Waiting: &v1.ContainerStateWaiting{}}}
	ended := v1.ContainerStatus{State: v1.ContainerState{Terminated: &v1.ContainerStateTerminated{StartedAt: at(4), FinishedAt: at(6)}}}
	secret := v1.Volume{VolumeSource: v1.VolumeSource{Secret: &v1.SecretVolumeSource{}}}
	claim := v1.Volume{VolumeSource: v1.VolumeSource{PersistentVolumeClaim: &v1.PersistentVolumeClaimVolumeSource{}}}
	for _, tc := range []struct {
		name    string
		seen    bool
		status  v1.PodStatus
		volumes []v1.Volume
		// pulls are from and to, in seconds after the creation.
		pulls [][2]int
		total bool
		sli   float64
	}{
		{"runs", true, v1.PodStatus{Phase: v1.PodRunning, ContainerStatuses: []v1.ContainerStatus{runs}}, []v1.Volume{secret}, nil, true, 10},
		{"after pulls and init", true, v1.PodStatus{Phase: v1.PodRunning, ContainerStatuses: []v1.ContainerStatus{runs}, InitContainerStatuses: []v1.ContainerStatus{ended}}, nil, [][2]int{{0, 3}, {1, 4}, {1, 2}}, true, 4},
		{"with a claim", true, v1.PodStatus{Phase: v1.PodRunning, ContainerStatuses: []v1.ContainerStatus{runs}}, []v1.Volume{secret, claim}, nil, true, -1},
		{"in part", true, v1.PodStatus{Phase: v1.PodRunning, ContainerStatuses: []v1.ContainerStatus{runs, waits}}, nil, nil, false, -1},
		{"ran before", false, v1.PodStatus{Phase: v1.PodRunning, ContainerStatuses: []v1.ContainerStatus{runs}}, nil, nil, false, -1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := New()
			pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{UID: "u", CreationTimestamp: at(0)}, Spec: v1.PodSpec{Volumes: tc.volumes}, Status: tc.status}
			if tc.seen {
				c.Seen(&v1.Pod{ObjectMeta: metav1.ObjectMeta{UID: "u"}})
			}
			for _, p := range tc.pulls {
				c.Pulled(pod.UID, at(p[0]).Time, at(p[1]).Time)
			}
			c.Observed(pod, at(10).Time)
			c.Observed(pod, at(11).Time)
			got := numbers(t, c)
			if _, total := got["kubelet_pod_start_total_duration_seconds count"]; total != tc.total {
				t.Errorf("counted: %v, want %v", total, tc.total)
			}
			sli, ok := got["kubelet_pod_start_sli_duration_seconds sum"]
			if !ok {
				sli = -1
			}
			if sli != tc.sli {
				t.Errorf("without pulls and init %v, want %v", sli, tc.sli)
			}
		})
	}
}
