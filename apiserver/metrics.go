package apiserver

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"skiff/apiserver/request"
	"skiff/apiserver/serviceaccount"
	"skiff/apiserver/webhookcerts"
	"skiff/cluster/introspection"
	"skiff/cluster/version"
)

// metrics have upstream's stable names.
type metrics struct {
	registry   *prometheus.Registry
	total      *prometheus.CounterVec
	duration   *prometheus.HistogramVec
	inflight   *prometheus.GaugeVec
	long       *prometheus.GaugeVec
	sizes      *prometheus.HistogramVec
	deprecated *prometheus.GaugeVec
	health     *introspection.Checks
	access     *accessMetrics
	admission  *admissionMetrics
	flow       *flowMetrics
	watches    *watchMetrics
	tokens     *serviceaccount.Uses
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
	m.inflight = prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "apiserver_current_inflight_requests", Help: "Requests at work, by kind: mutating or readOnly."},
		[]string{"request_kind"})
	m.long = prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "apiserver_longrunning_requests", Help: "Streams that are open."},
		[]string{"verb", "group", "version", "resource", "subresource", "scope", "component"})
	m.sizes = histogram("apiserver_response_sizes", "The bytes of answers to gets and lists.", prometheus.ExponentialBuckets(1000, 10, 7),
		"verb", "group", "version", "resource", "subresource", "scope", "component")
	m.deprecated = gauge("apiserver_requested_deprecated_apis", "Deprecated APIs that somebody asked for; always 1.",
		"group", "version", "resource", "subresource", "removed_release")
	m.health = introspection.NewChecks()
	m.registry.MustRegister(m.sizes, m.deprecated, m.health, webhookcerts.MissingSAN, webhookcerts.SHA1)
	m.access, m.admission = newAccessMetrics(m.registry), newAdmissionMetrics(m.registry)
	m.flow, m.watches = newFlowMetrics(m.registry), newWatchMetrics(m.registry)
	m.tokens = newTokenMetrics(m.registry)
	build := prometheus.NewGauge(prometheus.GaugeOpts{Name: "kubernetes_build_info", Help: "The build that runs; always 1.",
		ConstLabels: buildLabels()})
	build.Set(1)
	m.registry.MustRegister(m.total, m.duration, m.inflight, m.long, build, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func buildLabels() prometheus.Labels {
	v := version.Info()
	return prometheus.Labels{"major": v.Major, "minor": v.Minor, "git_version": v.GitVersion, "git_commit": v.GitCommit, "git_tree_state": v.GitTreeState,
		"build_date": v.BuildDate, "go_version": v.GoVersion, "compiler": v.Compiler, "platform": v.Platform}
}

// begin counts a request as at work until the result is called.
func (m *metrics) begin(r *http.Request, info *request.Info) func() {
	if info.LongRunning(r) {
		if !info.IsResource {
			return func() {}
		}
		g := m.long.WithLabelValues(reportedVerb(r, info), info.APIGroup, info.APIVersion, info.Resource, info.Subresource, info.Scope(), "apiserver")
		g.Inc()
		return g.Dec
	}
	kind := "mutating"
	if info.ReadOnly() {
		kind = "readOnly"
	}
	g := m.inflight.WithLabelValues(kind)
	g.Inc()
	return g.Dec
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(levelled{m.registry}, promhttp.HandlerOpts{})
}

// deprecate notes that somebody uses a deprecated version. No release that removes
// one is known.
func (m *metrics) deprecate(gvr schema.GroupVersionResource, subresource string) {
	m.deprecated.WithLabelValues(gvr.Group, gvr.Version, gvr.Resource, subresource, "").Set(1)
}

// connects are the subresources whose requests are told as CONNECT.
var connects = map[string]bool{"log": true, "exec": true, "portforward": true, "attach": true, "proxy": true}

// reportedVerb is the verb of a request as its metrics tell it.
func reportedVerb(r *http.Request, info *request.Info) string {
	switch {
	case connects[info.Subresource]:
		return "CONNECT"
	case info.Verb == "create":
		return "POST"
	case info.Verb == "update":
		return "PUT"
	case info.Verb == "patch" && r.Header.Get("Content-Type") == string(types.ApplyPatchType):
		return "APPLY"
	}
	return strings.ToUpper(info.Verb)
}

func (m *metrics) observe(r *http.Request, info *request.Info, code int, size int64, took time.Duration) {
	if !info.IsResource {
		return
	}
	verb := reportedVerb(r, info)
	dry := ""
	if r.URL.RawQuery != "" {
		dry = r.URL.Query().Get("dryRun")
	}
	labels := []string{verb, dry, info.APIGroup, info.APIVersion, info.Resource, info.Subresource, info.Scope(), "apiserver"}
	m.total.WithLabelValues(append(labels, strconv.Itoa(code))...).Inc()
	if info.Verb != "watch" {
		m.duration.WithLabelValues(labels...).Observe(took.Seconds())
	}
	if verb == "GET" || verb == "LIST" {
		m.sizes.WithLabelValues(append([]string{verb}, labels[2:]...)...).Observe(float64(size))
	}
}
