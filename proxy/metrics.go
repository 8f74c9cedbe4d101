package proxy

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics have upstream's names.
type metrics struct {
	registry *prometheus.Registry
	duration prometheus.Histogram
	last     prometheus.Gauge
}

func newMetrics() *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "kubeproxy_sync_proxy_rules_duration_seconds", Help: "How long a write of the service rules took.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 15),
		}),
		last: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "kubeproxy_sync_proxy_rules_last_timestamp_seconds", Help: "When the service rules were written last.",
		}),
	}
	m.registry.MustRegister(m.duration, m.last)
	return m
}

func (m *metrics) synced(d time.Duration) {
	m.duration.Observe(d.Seconds())
	m.last.SetToCurrentTime()
}
