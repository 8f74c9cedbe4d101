package apiserver

import (
	"cmp"
	"slices"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/proto"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/component-base/metrics/legacyregistry"
)

// stable and beta are the metrics that Kubernetes promises to keep, or nearly. All
// others but those of Go and of the process are alpha.
var (
	stable = []string{
		"apiserver_admission_controller_admission_duration_seconds", "apiserver_admission_step_admission_duration_seconds",
		"apiserver_admission_webhook_admission_duration_seconds", "apiserver_current_inflight_requests", "apiserver_longrunning_requests",
		"apiserver_request_duration_seconds", "apiserver_request_total", "apiserver_requested_deprecated_apis", "apiserver_response_sizes",
		"apiserver_storage_objects", "apiserver_storage_size_bytes", "kubernetes_healthcheck", "kubernetes_healthchecks_total",
	}
	beta = []string{
		"apiserver_cel_compilation_duration_seconds", "apiserver_cel_evaluation_duration_seconds",
		"apiserver_flowcontrol_current_executing_requests", "apiserver_flowcontrol_current_executing_seats", "apiserver_flowcontrol_current_inqueue_requests",
		"apiserver_flowcontrol_dispatched_requests_total", "apiserver_flowcontrol_nominal_limit_seats", "apiserver_flowcontrol_rejected_requests_total",
		"apiserver_flowcontrol_request_wait_duration_seconds", "apiserver_storage_events_received_total", "apiserver_watch_events_sizes",
		"apiserver_watch_events_total", "apiserver_watch_list_duration_seconds", "apiserver_webhooks_x509_insecure_sha1_total",
		"apiserver_webhooks_x509_missing_san_total", "disabled_metrics_total", "hidden_metrics_total", "kubernetes_build_info",
		"kubernetes_feature_enabled", "registered_metrics_total", "serviceaccount_legacy_tokens_total", "serviceaccount_stale_tokens_total",
		"serviceaccount_valid_tokens_total",
	}
	// shared are kept by the libraries for the whole process.
	shared = []string{"apiserver_cel_compilation_duration_seconds", "apiserver_cel_evaluation_duration_seconds", "kubernetes_feature_enabled"}
)

// levelOf is how far a metric can be relied upon; that of a language's is empty.
func levelOf(name string) string {
	switch {
	case strings.HasPrefix(name, "go_"), strings.HasPrefix(name, "process_"):
		return ""
	case slices.Contains(stable, name):
		return "STABLE"
	case slices.Contains(beta, name):
		return "BETA"
	}
	return "ALPHA"
}

// levelled gathers a server's metrics and those it shares with the rest of the
// process, and has each one's help begin with its level, as Kubernetes does.
type levelled struct{ own prometheus.Gatherer }

// features has the libraries' gates tell which of them are on.
var features = sync.OnceFunc(func() { utilfeature.DefaultMutableFeatureGate.AddMetrics() })

// Gather implements prometheus.Gatherer.
func (g levelled) Gather() ([]*dto.MetricFamily, error) {
	out, err := g.own.Gather()
	if err != nil {
		return out, err
	}
	features()
	libraries, err := legacyregistry.DefaultGatherer.Gather()
	for _, f := range libraries {
		if slices.Contains(shared, f.GetName()) {
			out = append(out, f)
		}
	}
	counts := map[string]float64{}
	for _, f := range out {
		level := levelOf(f.GetName())
		counts[level]++
		if level != "" && !strings.HasPrefix(f.GetHelp(), "[") {
			f.Help = proto.String("[" + level + "] " + f.GetHelp())
		}
	}
	out = append(out, registered(counts),
		single("hidden_metrics_total", "Metrics that are hidden: none."),
		single("disabled_metrics_total", "Metrics that are switched off: none."))
	slices.SortFunc(out, func(a, b *dto.MetricFamily) int { return cmp.Compare(a.GetName(), b.GetName()) })
	return out, err
}

// registered tells how many metrics there are of each level.
func registered(counts map[string]float64) *dto.MetricFamily {
	f := single("registered_metrics_total", "Metrics that are told, by level.")
	f.Metric = nil
	for _, level := range []string{"ALPHA", "BETA", "STABLE"} {
		f.Metric = append(f.Metric, &dto.Metric{Counter: &dto.Counter{Value: proto.Float64(counts[level])}, Label: []*dto.LabelPair{
			{Name: proto.String("deprecated_version"), Value: proto.String("")}, {Name: proto.String("stability_level"), Value: proto.String(level)},
		}})
	}
	return f
}

func single(name, help string) *dto.MetricFamily {
	return &dto.MetricFamily{Name: proto.String(name), Help: proto.String("[" + levelOf(name) + "] " + help), Type: dto.MetricType_COUNTER.Enum(),
		Metric: []*dto.Metric{{Counter: &dto.Counter{Value: proto.Float64(0)}}}}
}
