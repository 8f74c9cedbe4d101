package introspection

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Checks count what a server's health checks said, under upstream's names.
type Checks struct {
	last  *prometheus.GaugeVec
	total *prometheus.CounterVec
}

// NewChecks counts none.
func NewChecks() *Checks {
	return &Checks{
		last: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "kubernetes_healthcheck", Help: "The last outcome of a health check: 1 is good."}, []string{"name", "type"}),
		total: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "kubernetes_healthchecks_total", Help: "Health checks that ran."},
			[]string{"name", "type", "status"}),
	}
}

// Checked notes the outcome of a health check; kind is the path that ran it, healthz.
func (c *Checks) Checked(kind, name string, err error) {
	status, value := "success", 1.0
	if err != nil {
		status, value = "error", 0
	}
	c.last.WithLabelValues(name, kind).Set(value)
	c.total.WithLabelValues(name, kind, status).Inc()
}

// Describe and Collect make Checks a prometheus.Collector.
func (c *Checks) Describe(out chan<- *prometheus.Desc) {
	c.last.Describe(out)
	c.total.Describe(out)
}

// Collect implements prometheus.Collector.
func (c *Checks) Collect(out chan<- prometheus.Metric) {
	c.last.Collect(out)
	c.total.Collect(out)
}

// Handler is /metrics/slis: the checks and nothing else, since it is asked for often.
func (c *Checks) Handler() http.Handler {
	own := prometheus.NewRegistry()
	own.MustRegister(c)
	return promhttp.HandlerFor(own, promhttp.HandlerOpts{})
}
