package apiserver

import (
	"context"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"skiff/kine"
)

// storeMetrics tells the store's size and revisions when it is asked.
type storeMetrics struct {
	store kine.Store
	descs []*prometheus.Desc
}

func newStoreMetrics(store kine.Store) *storeMetrics {
	m := &storeMetrics{store: store}
	for _, d := range []struct{ name, help string }{
		{"apiserver_storage_size_bytes", "What the store takes on disk."},
		{"skiff_store_free_bytes", "The part of the store's size that is free."},
		{"skiff_store_quota_bytes", "The size at which writes are refused; 0 is none."},
		{"skiff_store_revision", "The newest revision."},
		{"skiff_store_compact_revision", "The oldest revision that clients can read."},
		{"skiff_store_oldest_revision", "The oldest revision of the kept history."},
		{"skiff_store_pending_revisions", "Compacted revisions whose space is still to be returned."},
		{"skiff_store_keys", "Keys that exist."},
	} {
		m.descs = append(m.descs, prometheus.NewDesc(d.name, d.help, nil, prometheus.Labels{"storage_cluster_id": "etcd-0"}))
	}
	return m
}

// Describe implements prometheus.Collector.
func (m *storeMetrics) Describe(out chan<- *prometheus.Desc) {
	for _, d := range m.descs {
		out <- d
	}
}

// Collect implements prometheus.Collector. A store that does not answer has no size.
func (m *storeMetrics) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	st, err := m.store.Status(ctx)
	if err != nil {
		return
	}
	for i, v := range []int64{st.SizeBytes, st.FreeBytes, st.QuotaBytes, st.Revision, st.CompactRevision, st.OldestRevision, st.PendingRevisions, st.Keys} {
		out <- prometheus.MustNewConstMetric(m.descs[i], prometheus.GaugeValue, float64(v))
	}
}

// fill is how full a store is.
type fill int

const (
	roomy fill = iota
	nearlyFull
	full
)

// fillOf tells how full a store is: nearly is four fifths of its quota.
func fillOf(st kine.Status) fill {
	used := st.SizeBytes - st.FreeBytes
	switch {
	case st.QuotaBytes <= 0 || used < st.QuotaBytes/5*4:
		return roomy
	case used < st.QuotaBytes:
		return nearlyFull
	}
	return full
}

// storeLook is how often the store's size is looked at.
const storeLook = 30 * time.Second

// watchStore says when the store comes near its quota, and when it is full: in the
// log, and as an Event where one can still be written.
func (s *Server) watchStore(ctx context.Context) error {
	tick := time.NewTicker(storeLook)
	defer tick.Stop()
	last := roomy
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		st, err := s.cfg.Store.Status(ctx)
		if err != nil {
			continue // readiness tells of that
		}
		now := fillOf(st)
		if now == last {
			continue
		}
		reason, text := storeWords(now, st)
		if now > last {
			s.cfg.Log.Error(text, "reason", reason)
		} else {
			s.cfg.Log.Info(text, "reason", reason)
		}
		last = now
		if now == full {
			continue
		}
		if err := s.storeEvent(ctx, reason, text, now); err != nil {
			s.cfg.Log.Warn("an Event of the store's size could not be written", "err", err)
		}
	}
}

func storeWords(f fill, st kine.Status) (reason, text string) {
	used := st.SizeBytes - st.FreeBytes
	switch f {
	case nearlyFull:
		return "StoreNearlyFull", fmt.Sprintf("The store uses %d bytes of its quota of %d: delete objects, or raise store-quota-bytes, before writes are refused", used, st.QuotaBytes)
	case full:
		return "StoreFull", fmt.Sprintf("The store uses %d bytes and its quota is %d: writes are refused until objects are deleted or store-quota-bytes is raised", used, st.QuotaBytes)
	}
	return "StoreHasRoom", fmt.Sprintf("The store uses %d bytes of its quota of %d", used, st.QuotaBytes)
}

func (s *Server) storeEvent(ctx context.Context, reason, text string, f fill) error {
	kind := corev1.EventTypeNormal
	if f != roomy {
		kind = corev1.EventTypeWarning
	}
	now := metav1.Now()
	_, err := s.core.Client.CoreV1().Events(metav1.NamespaceDefault).Create(ctx, &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{GenerateName: "store-", Namespace: metav1.NamespaceDefault},
		InvolvedObject: corev1.ObjectReference{APIVersion: "v1", Kind: "Namespace", Name: metav1.NamespaceSystem},
		Reason:         reason, Message: text, Type: kind, Count: 1, FirstTimestamp: now, LastTimestamp: now,
		Source: corev1.EventSource{Component: "apiserver"},
	}, metav1.CreateOptions{})
	return err
}
