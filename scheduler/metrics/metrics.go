// Package metrics holds the scheduler's metrics under the names of kube-scheduler.
// A nil *Metrics records nothing.
package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const subsystem = "scheduler"

// Results of an attempt.
const (
	Scheduled     = "scheduled"
	Unschedulable = "unschedulable"
	Error         = "error"
)

// PendingFunc reports the pods per queue ("active", "backoff", "unschedulable", "gated").
type PendingFunc func() map[string]int

// Metrics is the set; it registers nothing by itself.
type Metrics struct {
	attempts          *prometheus.CounterVec
	attemptDuration   *prometheus.HistogramVec
	algorithmDuration prometheus.Histogram
	pointDuration     *prometheus.HistogramVec
	permitWait        *prometheus.HistogramVec
	sliDuration       *prometheus.HistogramVec
	podAttempts       prometheus.Histogram
	incoming          *prometheus.CounterVec
	victims           prometheus.Histogram
	preemptions       prometheus.Counter
	goroutines        *prometheus.GaugeVec
	pending           *pendingCollector
	cacheSize         *prometheus.GaugeVec
	unschedulable     *prometheus.GaugeVec
	queueingHint      *prometheus.HistogramVec
	inflight          prometheus.Gauge
}

// New makes the metrics; pending may be nil.
func New(pending PendingFunc) *Metrics {
	hist := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Subsystem: subsystem, Name: name, Help: help, Buckets: buckets}, labels)
	}
	m := &Metrics{
		attempts:          prometheus.NewCounterVec(prometheus.CounterOpts{Subsystem: subsystem, Name: "schedule_attempts_total", Help: "Attempts to schedule pods, by result."}, []string{"result", "profile"}),
		attemptDuration:   hist("scheduling_attempt_duration_seconds", "Latency of an attempt: decision and binding.", prometheus.ExponentialBuckets(0.001, 2, 15), "result", "profile"),
		algorithmDuration: prometheus.NewHistogram(prometheus.HistogramOpts{Subsystem: subsystem, Name: "scheduling_algorithm_duration_seconds", Help: "Latency of the decision.", Buckets: prometheus.ExponentialBuckets(0.001, 2, 15)}),
		pointDuration:     hist("framework_extension_point_duration_seconds", "Latency of all plugins of an extension point.", prometheus.ExponentialBuckets(0.0001, 2, 12), "extension_point", "status", "profile"),
		permitWait:        hist("permit_wait_duration_seconds", "Time that pods waited at Permit.", prometheus.ExponentialBuckets(0.001, 2, 15), "result"),
		sliDuration:       hist("pod_scheduling_sli_duration_seconds", "Time from a pod's entry to its binding, without the time it was gated.", prometheus.ExponentialBuckets(0.01, 2, 20), "attempts"),
		podAttempts:       prometheus.NewHistogram(prometheus.HistogramOpts{Subsystem: subsystem, Name: "pod_scheduling_attempts", Help: "Attempts until a pod was scheduled.", Buckets: prometheus.ExponentialBuckets(1, 2, 5)}),
		incoming:          prometheus.NewCounterVec(prometheus.CounterOpts{Subsystem: subsystem, Name: "queue_incoming_pods_total", Help: "Pods put into a queue, by queue and event."}, []string{"queue", "event"}),
		victims:           prometheus.NewHistogram(prometheus.HistogramOpts{Subsystem: subsystem, Name: "preemption_victims", Help: "Victims per preemption.", Buckets: prometheus.ExponentialBuckets(1, 2, 7)}),
		preemptions:       prometheus.NewCounter(prometheus.CounterOpts{Subsystem: subsystem, Name: "preemption_attempts_total", Help: "Attempts to preempt."}),
		goroutines:        prometheus.NewGaugeVec(prometheus.GaugeOpts{Subsystem: subsystem, Name: "goroutines", Help: "Goroutines by what they do."}, []string{"operation"}),
		cacheSize:         prometheus.NewGaugeVec(prometheus.GaugeOpts{Subsystem: subsystem, Name: "cache_size", Help: "Nodes, pods and assumed pods in the cache."}, []string{"type"}),
		unschedulable:     prometheus.NewGaugeVec(prometheus.GaugeOpts{Subsystem: subsystem, Name: "unschedulable_pods", Help: "Unschedulable pods by the plugin that refused them."}, []string{"plugin", "profile"}),
		queueingHint:      hist("queueing_hint_execution_duration_seconds", "Latency of a queueing hint.", prometheus.ExponentialBuckets(0.00001, 2, 12), "plugin", "event", "hint"),
		inflight:          prometheus.NewGauge(prometheus.GaugeOpts{Subsystem: subsystem, Name: "inflight_events", Help: "Events kept for pods that are being scheduled."}),
	}
	if pending != nil {
		m.pending = &pendingCollector{fn: pending, desc: prometheus.NewDesc(subsystem+"_pending_pods", "Pending pods by queue.", []string{"queue"}, nil)}
	}
	return m
}

// Collectors are what the caller registers.
func (m *Metrics) Collectors() []prometheus.Collector {
	out := []prometheus.Collector{m.attempts, m.attemptDuration, m.algorithmDuration, m.pointDuration, m.permitWait, m.sliDuration, m.podAttempts,
		m.incoming, m.victims, m.preemptions, m.goroutines, m.cacheSize, m.unschedulable, m.queueingHint, m.inflight}
	if m.pending != nil {
		out = append(out, m.pending)
	}
	return out
}

// pendingCollector reads the queue when scraped, so that the queue keeps no gauges.
type pendingCollector struct {
	fn   PendingFunc
	desc *prometheus.Desc
}

func (c *pendingCollector) Describe(ch chan<- *prometheus.Desc) { ch <- c.desc }
func (c *pendingCollector) Collect(ch chan<- prometheus.Metric) {
	for queue, n := range c.fn() {
		ch <- prometheus.MustNewConstMetric(c.desc, prometheus.GaugeValue, float64(n), queue)
	}
}

// ObserveAttempt counts an attempt and its latency.
func (m *Metrics) ObserveAttempt(result, profile string, d time.Duration) {
	if m != nil {
		m.attempts.WithLabelValues(result, profile).Inc()
		m.attemptDuration.WithLabelValues(result, profile).Observe(d.Seconds())
	}
}

// ObserveAlgorithm records the latency of a decision.
func (m *Metrics) ObserveAlgorithm(d time.Duration) {
	if m != nil {
		m.algorithmDuration.Observe(d.Seconds())
	}
}

// ObservePoint records the latency of an extension point.
func (m *Metrics) ObservePoint(point, profile, status string, d time.Duration) {
	if m != nil {
		m.pointDuration.WithLabelValues(point, status, profile).Observe(d.Seconds())
	}
}

// ObservePermitWait records a wait at Permit.
func (m *Metrics) ObservePermitWait(result string, d time.Duration) {
	if m != nil {
		m.permitWait.WithLabelValues(result).Observe(d.Seconds())
	}
}

// ObserveBound records how long and how many attempts a pod took; attempts is capped at "15+".
func (m *Metrics) ObserveBound(attempts int, since time.Duration) {
	if m == nil {
		return
	}
	m.podAttempts.Observe(float64(attempts))
	m.sliDuration.WithLabelValues(attemptsLabel(attempts)).Observe(since.Seconds())
}

// Incoming counts a pod put into a queue.
func (m *Metrics) Incoming(queue, event string) {
	if m != nil {
		m.incoming.WithLabelValues(queue, event).Inc()
	}
}

// Preemption counts an attempt.
func (m *Metrics) Preemption() {
	if m != nil {
		m.preemptions.Inc()
	}
}

// Victims records the victims of a preemption.
func (m *Metrics) Victims(n int) {
	if m != nil {
		m.victims.Observe(float64(n))
	}
}

// Goroutines changes the gauge of an operation by delta.
func (m *Metrics) Goroutines(operation string, delta float64) {
	if m != nil {
		m.goroutines.WithLabelValues(operation).Add(delta)
	}
}

// CacheSize sets the sizes of the cache.
func (m *Metrics) CacheSize(nodes, pods, assumed int) {
	if m != nil {
		m.cacheSize.WithLabelValues("nodes").Set(float64(nodes))
		m.cacheSize.WithLabelValues("pods").Set(float64(pods))
		m.cacheSize.WithLabelValues("assumed_pods").Set(float64(assumed))
	}
}

// UnschedulableBy changes the gauge of pods refused by plugin.
func (m *Metrics) UnschedulableBy(plugin, profile string, delta float64) {
	if m != nil {
		m.unschedulable.WithLabelValues(plugin, profile).Add(delta)
	}
}

// QueueingHint records the latency of a hint.
func (m *Metrics) QueueingHint(plugin, event, hint string, d time.Duration) {
	if m != nil {
		m.queueingHint.WithLabelValues(plugin, event, hint).Observe(d.Seconds())
	}
}

// InFlight sets the number of kept events.
func (m *Metrics) InFlight(n int) {
	if m != nil {
		m.inflight.Set(float64(n))
	}
}

func attemptsLabel(n int) string {
	labels := [...]string{"0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14"}
	if n < len(labels) {
		return labels[n]
	}
	return "15+"
}
