package apiserver

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"skiff/apiserver/handlers"
)

// watchMetrics are those of what watches are sent, by Kubernetes' names. It is a
// handlers.WatchObserver.
type watchMetrics struct {
	events *prometheus.CounterVec
	sizes  *prometheus.HistogramVec
	lists  *prometheus.HistogramVec
}

func newWatchMetrics(r prometheus.Registerer) *watchMetrics {
	m := &watchMetrics{
		events: counter("apiserver_watch_events_total", "Events that watches were sent.", "group", "version", "resource"),
		sizes:  histogram("apiserver_watch_events_sizes", "The bytes of events that watches were sent.", prometheus.ExponentialBuckets(1024, 2, 8), "group", "version", "resource"),
		lists: histogram("apiserver_watch_list_duration_seconds", "How long watches took to send the state they begin with.",
			[]float64{0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1, 1.25, 1.5, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 45, 60, 90, 120, 180, 300}, "group", "version", "resource", "scope"),
	}
	r.MustRegister(m.events, m.sizes, m.lists)
	return m
}

// Watching implements handlers.WatchObserver.
func (m *watchMetrics) Watching(gvr schema.GroupVersionResource, scope string) handlers.Watched {
	return &watched{
		events: m.events.WithLabelValues(gvr.Group, gvr.Version, gvr.Resource), sizes: m.sizes.WithLabelValues(gvr.Group, gvr.Version, gvr.Resource),
		lists: func() prometheus.Observer {
			return m.lists.WithLabelValues(gvr.Group, gvr.Version, gvr.Resource, scope)
		},
	}
}

// watched are the series of one watch.
type watched struct {
	events prometheus.Counter
	sizes  prometheus.Observer
	lists  func() prometheus.Observer
}

// Sent implements handlers.Watched.
func (w *watched) Sent(size int) {
	w.events.Inc()
	w.sizes.Observe(float64(size))
}

// Listed implements handlers.Watched.
func (w *watched) Listed(took time.Duration) { w.lists().Observe(took.Seconds()) }
