package apiserver

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// flowMetrics are those of flow control, by Kubernetes' names. It is a
// flowcontrol.Observer.
type flowMetrics struct {
	dispatched, rejected   *prometheus.CounterVec
	running, seats, queued *prometheus.GaugeVec
	waited                 *prometheus.HistogramVec
	nominal                *prometheus.GaugeVec
}

func newFlowMetrics(r prometheus.Registerer) *flowMetrics {
	m := &flowMetrics{
		dispatched: counter("apiserver_flowcontrol_dispatched_requests_total", "Requests that flow control let run.", "flow_schema", "priority_level"),
		rejected:   counter("apiserver_flowcontrol_rejected_requests_total", "Requests that flow control refused.", "flow_schema", "priority_level", "reason"),
		running:    gauge("apiserver_flowcontrol_current_executing_requests", "Requests that run on a seat.", "flow_schema", "priority_level"),
		seats:      gauge("apiserver_flowcontrol_current_executing_seats", "Seats that are taken.", "flow_schema", "priority_level"),
		queued:     gauge("apiserver_flowcontrol_current_inqueue_requests", "Requests that wait in a queue.", "flow_schema", "priority_level"),
		waited: histogram("apiserver_flowcontrol_request_wait_duration_seconds", "How long requests waited in a queue.",
			[]float64{0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30}, "flow_schema", "priority_level", "execute"),
		nominal: gauge("apiserver_flowcontrol_nominal_limit_seats", "A priority level's own share of the seats.", "priority_level"),
	}
	r.MustRegister(m.dispatched, m.rejected, m.running, m.seats, m.queued, m.waited, m.nominal)
	return m
}

// Classified implements flowcontrol.Observer.
func (m *flowMetrics) Classified(schema, level, reason string) {
	if reason != "" {
		m.rejected.WithLabelValues(schema, level, reason).Inc()
		return
	}
	m.dispatched.WithLabelValues(schema, level).Inc()
}

// Queued implements flowcontrol.Observer.
func (m *flowMetrics) Queued(schema, level string, by float64) {
	m.queued.WithLabelValues(schema, level).Add(by)
}

// Running implements flowcontrol.Observer.
func (m *flowMetrics) Running(schema, level string, by, seats float64) {
	m.running.WithLabelValues(schema, level).Add(by)
	m.seats.WithLabelValues(schema, level).Add(by * seats)
}

// Waited implements flowcontrol.Observer.
func (m *flowMetrics) Waited(schema, level string, took time.Duration, ran bool) {
	m.waited.WithLabelValues(schema, level, strconv.FormatBool(ran)).Observe(took.Seconds())
}

// Seats implements flowcontrol.Observer.
func (m *flowMetrics) Seats(level string, n int) { m.nominal.WithLabelValues(level).Set(float64(n)) }
