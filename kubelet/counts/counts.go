// Package counts keeps the numbers of the kubelet's own work that its /metrics shows,
// by the names that a kubelet's have.
package counts

import (
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// startBuckets are those of the times that pods take to start, in seconds.
var startBuckets = []float64{0.5, 1, 2, 3, 4, 5, 6, 8, 10, 20, 30, 45, 60, 120, 180, 240, 300, 360, 480, 600, 900, 1200, 1800, 2700, 3600}

// Counts are the numbers. They are collected as one collector.
type Counts struct {
	evictions                           *prometheus.CounterVec
	statsAge                            *prometheus.HistogramVec
	seen                                prometheus.Gauge
	pods, podErrors                     prometheus.Counter
	containers, containerErrors         *prometheus.CounterVec
	relist, relistInterval              prometheus.Observer
	startDuration, startSLI, startTotal prometheus.Observer
	all                                 []prometheus.Collector
	starts                              starts
}

// New makes counts of nothing.
func New() *Counts {
	c := &Counts{}
	c.evictions = c.counters("evictions", "Pods that were evicted, by eviction signal", "eviction_signal")
	c.pods = c.counters("started_pods_total", "Pods that were started").WithLabelValues()
	c.podErrors = c.counters("started_pods_errors_total", "Pods whose start failed").WithLabelValues()
	c.containers = c.counters("started_containers_total", "Containers that were started", "container_type")
	c.containerErrors = c.counters("started_containers_errors_total", "Containers whose start failed", "container_type", "code")
	c.statsAge = c.times("eviction_stats_age_seconds", "Age of the measurements by which a pod was evicted, by eviction signal", prometheus.DefBuckets, "eviction_signal")
	c.relist = c.times("pleg_relist_duration_seconds", "Time that listing the runtime's pods took", prometheus.DefBuckets).WithLabelValues()
	c.relistInterval = c.times("pleg_relist_interval_seconds", "Time between two lists of the runtime's pods", prometheus.DefBuckets).WithLabelValues()
	c.startDuration = c.times("pod_start_duration_seconds", "Time from the kubelet's first sight of a pod until it runs", startBuckets).WithLabelValues()
	c.startSLI = c.times("pod_start_sli_duration_seconds", "Time from a pod's creation until its containers are seen to run, without the pulling of images and the init containers, of pods without volumes of their own", startBuckets).WithLabelValues()
	c.startTotal = c.times("pod_start_total_duration_seconds", "Time from a pod's creation until its containers are seen to run", startBuckets).WithLabelValues()
	c.seen = prometheus.NewGauge(prometheus.GaugeOpts{Subsystem: "kubelet", Name: "pleg_last_seen_seconds", Help: "When the runtime's pods were last listed, in seconds since the epoch"})
	c.all = append(c.all, c.seen)
	return c
}

func (c *Counts) counters(name, help string, labels ...string) *prometheus.CounterVec {
	out := prometheus.NewCounterVec(prometheus.CounterOpts{Subsystem: "kubelet", Name: name, Help: help}, labels)
	c.all = append(c.all, out)
	return out
}

func (c *Counts) times(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	out := prometheus.NewHistogramVec(prometheus.HistogramOpts{Subsystem: "kubelet", Name: name, Help: help, Buckets: buckets}, labels)
	c.all = append(c.all, out)
	return out
}

// Describe and Collect implement prometheus.Collector.
func (c *Counts) Describe(out chan<- *prometheus.Desc) {
	for _, m := range c.all {
		m.Describe(out)
	}
}

// Collect gives the numbers as they are.
func (c *Counts) Collect(out chan<- prometheus.Metric) {
	for _, m := range c.all {
		m.Collect(out)
	}
}

// Evicted counts a pod that was evicted for the signal, by measurements of some age; 0
// is for the limits of the pod itself, which have none.
func (c *Counts) Evicted(signal string, age time.Duration) {
	c.evictions.WithLabelValues(signal).Inc()
	if age > 0 {
		c.statsAge.WithLabelValues(signal).Observe(age.Seconds())
	}
}

// Relisted counts a list of the runtime's pods that began at a time; before is when the
// last one began, zero for none.
func (c *Counts) Relisted(began, before time.Time) {
	c.seen.Set(float64(began.Unix()))
	c.relist.Observe(time.Since(began).Seconds())
	if !before.IsZero() {
		c.relistInterval.Observe(began.Sub(before).Seconds())
	}
}

// Start counts that a container of a kind, such as an init container, or the sandbox of
// a pod, is started, and, with a failure, that it was in vain for that reason.
func (c *Counts) Start(kind, failure string) {
	name := strings.ReplaceAll(kind, " ", "_")
	switch sandbox := kind == "sandbox"; {
	case sandbox && failure == "":
		c.pods.Inc()
	case sandbox:
		c.podErrors.Inc()
	case failure == "":
		c.containers.WithLabelValues(name).Inc()
	default:
		c.containerErrors.WithLabelValues(name, failure).Inc()
	}
}
