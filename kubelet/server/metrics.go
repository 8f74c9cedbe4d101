package server

import (
	"context"
	"net/http"
	"runtime"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	v1 "k8s.io/api/core/v1"
	statsapi "k8s.io/kubelet/pkg/apis/stats/v1alpha1"

	"skiff/kubelet/probes"
)

// collector gathers the samples of one scrape.
type collector struct {
	ctx     context.Context
	metrics []prometheus.Metric
	// withProcess adds the process' own metrics.
	withProcess bool
}

func (c *collector) Describe(chan<- *prometheus.Desc) {}

func (c *collector) Collect(out chan<- prometheus.Metric) {
	for _, m := range c.metrics {
		out <- m
	}
}

// add appends a sample; labels are name, value, name, value.
func (c *collector) add(kind prometheus.ValueType, name, help string, value float64, at time.Time, labels ...string) {
	var names, values []string
	for i := 0; i+1 < len(labels); i += 2 {
		names, values = append(names, labels[i]), append(values, labels[i+1])
	}
	m, err := prometheus.NewConstMetric(prometheus.NewDesc(name, help, names, nil), kind, value, values...)
	if err != nil {
		return
	}
	if !at.IsZero() {
		m = prometheus.NewMetricWithTimestamp(at, m)
	}
	c.metrics = append(c.metrics, m)
}

func (s *Server) metrics(write func(*collector)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		c := &collector{ctx: r.Context()}
		write(c)
		registry := prometheus.NewRegistry()
		registry.MustRegister(c)
		if c.withProcess {
			registry.MustRegister(collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), collectors.NewGoCollector())
			if s.cfg.Counts != nil {
				registry.MustRegister(s.cfg.Counts)
			}
		}
		promhttp.HandlerFor(registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError}).ServeHTTP(w, r)
	}
}

// ownMetrics are the kubelet's own.
func (s *Server) ownMetrics(c *collector) {
	c.withProcess = true
	c.add(prometheus.GaugeValue, "kubelet_node_name", "The node's name. The count is always 1.", 1, time.Time{}, "node", s.cfg.NodeName)
	states := map[string]float64{}
	pods := 0.0
	for _, pod := range s.cfg.Pods.Pods() {
		running := false
		for _, list := range [][]v1.ContainerStatus{pod.Status.ContainerStatuses, pod.Status.InitContainerStatuses, pod.Status.EphemeralContainerStatuses} {
			for i := range list {
				switch {
				case list[i].State.Running != nil:
					states["running"]++
					running = true
				case list[i].State.Terminated != nil:
					states["exited"]++
				}
			}
		}
		if running {
			pods++
		}
	}
	c.add(prometheus.GaugeValue, "kubelet_running_pods", "Number of pods that have a running pod sandbox", pods, time.Time{})
	for state, n := range states {
		c.add(prometheus.GaugeValue, "kubelet_running_containers", "Number of containers currently running", n, time.Time{}, "container_state", state)
	}
	if summary, err := s.cfg.Stats.Summary(c.ctx, false); err == nil {
		volumeMetrics(c, summary)
	}
}

func (s *Server) resourceMetrics(c *collector) {
	summary, err := s.cfg.Stats.Summary(c.ctx, true)
	failed := 0.0
	if err != nil {
		failed = 1
	}
	c.add(prometheus.GaugeValue, "resource_scrape_error", "1 if there was an error while getting container metrics, 0 otherwise", failed, time.Time{})
	if err != nil {
		return
	}
	cpu := func(name, help string, st *statsapi.CPUStats, labels ...string) {
		if st != nil && st.UsageCoreNanoSeconds != nil {
			c.add(prometheus.CounterValue, name, help, float64(*st.UsageCoreNanoSeconds)/1e9, st.Time.Time, labels...)
		}
	}
	memory := func(name, help string, st *statsapi.MemoryStats, labels ...string) {
		if st != nil && st.WorkingSetBytes != nil {
			c.add(prometheus.GaugeValue, name, help, float64(*st.WorkingSetBytes), st.Time.Time, labels...)
		}
	}
	cpu("node_cpu_usage_seconds_total", "Cumulative cpu time consumed by the node in core-seconds", summary.Node.CPU)
	memory("node_memory_working_set_bytes", "Current working set of the node in bytes", summary.Node.Memory)
	started := map[string]time.Time{}
	for _, pod := range s.cfg.Pods.Pods() {
		for _, list := range [][]v1.ContainerStatus{pod.Status.ContainerStatuses, pod.Status.InitContainerStatuses} {
			for i := range list {
				if r := list[i].State.Running; r != nil {
					started[string(pod.UID)+"/"+list[i].Name] = r.StartedAt.Time
				}
			}
		}
	}
	for i := range summary.Pods {
		p := &summary.Pods[i]
		where := []string{"pod", p.PodRef.Name, "namespace", p.PodRef.Namespace}
		for j := range p.Containers {
			ctr := &p.Containers[j]
			labels := append([]string{"container", ctr.Name}, where...)
			cpu("container_cpu_usage_seconds_total", "Cumulative cpu time consumed by the container in core-seconds", ctr.CPU, labels...)
			memory("container_memory_working_set_bytes", "Current working set of the container in bytes", ctr.Memory, labels...)
			if t, ok := started[p.PodRef.UID+"/"+ctr.Name]; ok {
				c.add(prometheus.GaugeValue, "container_start_time_seconds", "Start time of the container since unix epoch in seconds", float64(t.UnixNano())/1e9, time.Time{}, labels...)
			}
		}
		cpu("pod_cpu_usage_seconds_total", "Cumulative cpu time consumed by the pod in core-seconds", p.CPU, where...)
		memory("pod_memory_working_set_bytes", "Current working set of the pod in bytes", p.Memory, where...)
	}
}

func (s *Server) cadvisorMetrics(c *collector) {
	summary, err := s.cfg.Stats.Summary(c.ctx, false)
	if err != nil {
		return
	}
	type container struct{ id, image string }
	known := map[string]container{}
	for _, pod := range s.cfg.Pods.Pods() {
		for _, list := range [][]v1.ContainerStatus{pod.Status.ContainerStatuses, pod.Status.InitContainerStatuses} {
			for i := range list {
				known[string(pod.UID)+"/"+list[i].Name] = container{plainID(list[i].ContainerID), list[i].Image}
			}
		}
	}
	c.add(prometheus.GaugeValue, "machine_cpu_cores", "Number of logical CPU cores.", float64(runtime.NumCPU()), time.Time{})
	number := func(v *uint64) float64 {
		if v == nil {
			return 0
		}
		return float64(*v)
	}
	for i := range summary.Pods {
		p := &summary.Pods[i]
		for j := range p.Containers {
			ctr := &p.Containers[j]
			k := known[p.PodRef.UID+"/"+ctr.Name]
			labels := []string{"container", ctr.Name, "id", "/kubepods/pod" + p.PodRef.UID + "/" + k.id, "image", k.image, "name", k.id, "namespace", p.PodRef.Namespace, "pod", p.PodRef.Name}
			if ctr.CPU != nil {
				c.add(prometheus.CounterValue, "container_cpu_usage_seconds_total", "Cumulative cpu time consumed in seconds.", number(ctr.CPU.UsageCoreNanoSeconds)/1e9, ctr.CPU.Time.Time, append([]string{"cpu", "total"}, labels...)...)
			}
			if m := ctr.Memory; m != nil {
				c.add(prometheus.GaugeValue, "container_memory_usage_bytes", "Current memory usage in bytes, including all memory regardless of when it was accessed", number(m.UsageBytes), m.Time.Time, labels...)
				c.add(prometheus.GaugeValue, "container_memory_working_set_bytes", "Current working set in bytes.", number(m.WorkingSetBytes), m.Time.Time, labels...)
				c.add(prometheus.GaugeValue, "container_memory_rss", "Size of RSS in bytes.", number(m.RSSBytes), m.Time.Time, labels...)
			}
			if ctr.Rootfs != nil {
				c.add(prometheus.GaugeValue, "container_fs_usage_bytes", "Number of bytes that are consumed by the container on this filesystem.", number(ctr.Rootfs.UsedBytes), ctr.Rootfs.Time.Time, labels...)
			}
		}
		if p.Network == nil {
			continue
		}
		for _, n := range p.Network.Interfaces {
			labels := []string{"container", "POD", "id", "/kubepods/pod" + p.PodRef.UID, "interface", n.Name, "namespace", p.PodRef.Namespace, "pod", p.PodRef.Name}
			c.add(prometheus.CounterValue, "container_network_receive_bytes_total", "Cumulative count of bytes received", number(n.RxBytes), p.Network.Time.Time, labels...)
			c.add(prometheus.CounterValue, "container_network_transmit_bytes_total", "Cumulative count of bytes transmitted", number(n.TxBytes), p.Network.Time.Time, labels...)
			c.add(prometheus.CounterValue, "container_network_receive_errors_total", "Cumulative count of errors encountered while receiving", number(n.RxErrors), p.Network.Time.Time, labels...)
			c.add(prometheus.CounterValue, "container_network_transmit_errors_total", "Cumulative count of errors encountered while transmitting", number(n.TxErrors), p.Network.Time.Time, labels...)
		}
	}
}

func (s *Server) probeMetrics(c *collector) {
	if s.cfg.Probes == nil {
		return
	}
	for k, n := range s.cfg.Probes.Counts() {
		c.add(prometheus.CounterValue, "prober_probe_total", "Cumulative number of a liveness, readiness or startup probe for a container by result.", n, time.Time{},
			"probe_type", probeType(k.Kind), "result", k.Result, "container", k.Container, "pod", k.Pod, "namespace", k.Namespace, "pod_uid", string(k.UID))
	}
}

func probeType(k probes.Kind) string { return strings.ToUpper(string(k[:1])) + string(k[1:]) }
