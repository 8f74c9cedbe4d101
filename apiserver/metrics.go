package apiserver

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"skiff/apiserver/request"
)

// metrics have upstream's stable names.
type metrics struct {
	registry *prometheus.Registry
	total    *prometheus.CounterVec
	duration *prometheus.HistogramVec
}

func newMetrics() *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		total: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "apiserver_request_total", Help: "Requests answered, by verb, resource and code."},
			[]string{"verb", "dry_run", "group", "version", "resource", "subresource", "scope", "component", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "apiserver_request_duration_seconds", Help: "How long requests took.",
			Buckets: []float64{0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 45, 60}},
			[]string{"verb", "dry_run", "group", "version", "resource", "subresource", "scope", "component"}),
	}
	m.registry.MustRegister(m.total, m.duration, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

func (m *metrics) observe(r *http.Request, info *request.Info, code int, took time.Duration) {
	if !info.IsResource {
		return
	}
	verb := strings.ToUpper(info.Verb)
	switch info.Verb {
	case "create":
		verb = "POST"
	case "update":
		verb = "PUT"
	}
	dry := ""
	if r.URL.RawQuery != "" {
		dry = r.URL.Query().Get("dryRun")
	}
	labels := []string{verb, dry, info.APIGroup, info.APIVersion, info.Resource, info.Subresource, info.Scope(), "apiserver"}
	m.total.WithLabelValues(append(labels, strconv.Itoa(code))...).Inc()
	if info.Verb != "watch" {
		m.duration.WithLabelValues(labels...).Observe(took.Seconds())
	}
}
