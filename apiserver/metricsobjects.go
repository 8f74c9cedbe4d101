package apiserver

import (
	"github.com/prometheus/client_golang/prometheus"

	"skiff/apiserver/resources"
	"skiff/apiserver/store"
)

// objectMetrics tells how many objects there are of each resource, and how many of
// their changes the store told, when it is asked.
type objectMetrics struct {
	each         func(func(*resources.Resource, *store.Store))
	desc, events *prometheus.Desc
}

func newObjectMetrics(each func(func(*resources.Resource, *store.Store))) *objectMetrics {
	return &objectMetrics{each,
		prometheus.NewDesc("apiserver_storage_objects", "Objects that are stored, by resource.", []string{"resource"}, nil),
		prometheus.NewDesc("apiserver_storage_events_received_total", "Changes that the store told, by resource.", []string{"group", "resource"}, nil)}
}

// Describe implements prometheus.Collector.
func (m *objectMetrics) Describe(out chan<- *prometheus.Desc) {
	out <- m.desc
	out <- m.events
}

// Collect implements prometheus.Collector.
func (m *objectMetrics) Collect(out chan<- prometheus.Metric) {
	m.each(func(r *resources.Resource, s *store.Store) {
		if s == nil || !r.SharesStoreWith.Empty() {
			return
		}
		out <- prometheus.MustNewConstMetric(m.desc, prometheus.GaugeValue, float64(s.Count()), r.GroupResource().String())
		if n := s.Received(); n > 0 {
			out <- prometheus.MustNewConstMetric(m.events, prometheus.CounterValue, float64(n), r.GroupResource().Group, r.GroupResource().Resource)
		}
	})
}
