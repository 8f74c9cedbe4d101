package proxy

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	v1 "k8s.io/api/core/v1"

	"skiff/cluster/introspection"
)

// metrics have upstream's names.
type metrics struct {
	registry *prometheus.Registry
	// duration of writes, and of those of all rules and of changed ones alone.
	duration, full, partial *prometheus.HistogramVec
	// programming is from an endpoint's change to its rules.
	programming *prometheus.HistogramVec
	last        *prometheus.GaugeVec
	failures    prometheus.Counter

	services, endpoints               prometheus.Counter
	servicesPending, endpointsPending prometheus.Gauge
	queued                            prometheus.Gauge
	healthz, livez                    *prometheus.CounterVec

	// noLocal are Services whose traffic stays on the node, where none of their
	// endpoints is.
	noLocal *prometheus.GaugeVec
	// rules there are, and those of the last write; in iptables mode.
	rules, rulesLast *prometheus.GaugeVec
	// forgotten are flows of the kernel that led nowhere any more, and forgetting how
	// long it took to find them.
	forgotten  *prometheus.CounterVec
	forgetting *prometheus.HistogramVec
	// checks are of the address of the metrics.
	checks *introspection.Checks
}

func newMetrics(mode Mode) *metrics {
	// A name as upstream's begins with the subsystem.
	name := func(rest string) string { return "kubeproxy_" + rest }
	family := []string{"ip_family"}
	histogram := func(rest, help string, buckets []float64) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name(rest), Help: help, Buckets: buckets}, family)
	}
	counter := func(rest, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name(rest), Help: help})
	}
	gauge := func(rest, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: name(rest), Help: help})
	}
	codes := func(rest, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name(rest), Help: help}, []string{"code"})
	}
	failures := "sync_proxy_rules_iptables_restore_failures_total"
	if mode == NFTables {
		failures = "sync_proxy_rules_nftables_sync_failures_total"
	}
	write := prometheus.ExponentialBuckets(0.001, 2, 15)
	programming := prometheus.LinearBuckets(0.25, 0.25, 3)
	programming = append(programming, prometheus.LinearBuckets(1, 1, 59)...)
	programming = append(programming, prometheus.LinearBuckets(60, 5, 12)...)
	programming = append(programming, prometheus.LinearBuckets(120, 30, 7)...)
	m := &metrics{
		registry:    prometheus.NewRegistry(),
		duration:    histogram("sync_proxy_rules_duration_seconds", "How long a write of the service rules took.", write),
		full:        histogram("sync_full_proxy_rules_duration_seconds", "How long a write of all service rules took.", write),
		partial:     histogram("sync_partial_proxy_rules_duration_seconds", "How long a write of the changed service rules took.", write),
		programming: histogram("network_programming_duration_seconds", "How long after a change of endpoints their rules were written.", programming),
		last: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: name("sync_proxy_rules_last_timestamp_seconds"), Help: "When the service rules were written last.",
		}, family),
		failures:         counter(failures, "How often the service rules could not be written."),
		services:         counter("sync_proxy_rules_service_changes_total", "How many changes of Services were seen."),
		endpoints:        counter("sync_proxy_rules_endpoint_changes_total", "How many changes of EndpointSlices were seen."),
		servicesPending:  gauge("sync_proxy_rules_service_changes_pending", "How many changes of Services are not written yet."),
		endpointsPending: gauge("sync_proxy_rules_endpoint_changes_pending", "How many changes of EndpointSlices are not written yet."),
		queued:           gauge("sync_proxy_rules_last_queued_timestamp_seconds", "When a write of the service rules was asked for last."),
		healthz:          codes("proxy_healthz_total", "The answers of /healthz by their status."),
		livez:            codes("proxy_livez_total", "The answers of /livez by their status."),
	}
	m.noLocal = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: name("sync_proxy_rules_no_local_endpoints_total"), Help: "How many service ports with a traffic policy Local have endpoints, but none here.",
	}, []string{"ip_family", "traffic_policy"})
	m.forgotten = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: name("conntrack_reconciler_deleted_entries_total"), Help: "How many flows were forgotten that led to endpoints that are gone.",
	}, family)
	m.forgetting = histogram("conntrack_reconciler_sync_duration_seconds", "How long it took to forget the flows that led to endpoints that are gone.", write)
	m.checks = introspection.NewChecks()
	m.registry.MustRegister(m.noLocal, m.forgotten, m.forgetting, m.checks)
	if mode == NFTables {
		// A chain or element that is not needed any more goes in the transaction that
		// ends its use, so that none can be left: the counter stays at 0.
		m.registry.MustRegister(counter("sync_proxy_rules_nftables_cleanup_failures_total", "How often rules without use could not be removed."))
	}
	if mode == IPTables {
		m.registry.MustRegister(newPackets())
		table := []string{"ip_family", "table"}
		m.rules = prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name("sync_proxy_rules_iptables_total"), Help: "How many iptables rules there are."}, table)
		m.rulesLast = prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name("sync_proxy_rules_iptables_last"), Help: "How many iptables rules the last write had."}, table)
		m.registry.MustRegister(m.rules, m.rulesLast)
	}
	m.registry.MustRegister(m.duration, m.full, m.partial, m.programming, m.last, m.failures, m.services, m.endpoints,
		m.servicesPending, m.endpointsPending, m.queued, m.healthz, m.livez,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// familyName is the value of the label ip_family.
func familyName(v6 bool) string {
	if v6 {
		return string(v1.IPv6Protocol)
	}
	return string(v1.IPv4Protocol)
}

// wrote counts a write of one family's rules.
func (m *metrics) wrote(v6, full bool, took time.Duration) {
	label := familyName(v6)
	m.duration.WithLabelValues(label).Observe(took.Seconds())
	kind := m.partial
	if full {
		kind = m.full
	}
	kind.WithLabelValues(label).Observe(took.Seconds())
	m.last.WithLabelValues(label).SetToCurrentTime()
}

// counter is a writer that counts its rules by iptables table.
type counter interface {
	Counts() (total, last map[string]int)
}

// counted shows how many rules a writer has.
func (m *metrics) counted(v6 bool, w writer) {
	c, ok := w.(counter)
	if !ok || m.rules == nil {
		return
	}
	total, last := c.Counts()
	for table, n := range total {
		m.rules.WithLabelValues(familyName(v6), table).Set(float64(n))
	}
	for table, n := range last {
		m.rulesLast.WithLabelValues(familyName(v6), table).Set(float64(n))
	}
}

func (m *metrics) withoutLocal(v6 bool, inside, outside int) {
	m.noLocal.WithLabelValues(familyName(v6), "internal").Set(float64(inside))
	m.noLocal.WithLabelValues(familyName(v6), "external").Set(float64(outside))
}

// programmed counts how long ago the endpoints changed whose rules were written.
func (m *metrics) programmed(v6 bool, changes []time.Time, now time.Time) {
	for _, at := range changes {
		m.programming.WithLabelValues(familyName(v6)).Observe(now.Sub(at).Seconds())
	}
}

// coded counts the statuses of a handler's answers.
func coded(c *prometheus.CounterVec, h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s := &statusWriter{ResponseWriter: w, code: http.StatusOK}
		h(s, r)
		c.WithLabelValues(strconv.Itoa(s.code)).Inc()
	}
}

type statusWriter struct {
	http.ResponseWriter
	code int
}

func (s *statusWriter) WriteHeader(code int) {
	s.code = code
	s.ResponseWriter.WriteHeader(code)
}
