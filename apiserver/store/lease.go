package store

import (
	"context"
	"sync"
	"time"

	"skiff/kine"
)

// leaseManager hangs many objects on one lease, as upstream does: a lease is
// reused for a share of its time, so objects live a little longer than their
// TTL, and the store keeps few leases.
type leaseManager struct {
	kine kine.Store
	ttl  int64

	mu   sync.Mutex
	id   int64
	used int
	end  time.Time
}

const (
	leaseReuse   = 60 * time.Second
	leaseObjects = 1000
)

func (m *leaseManager) get(ctx context.Context, now time.Time) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.id != 0 && now.Before(m.end) && m.used < leaseObjects {
		m.used++
		return m.id, nil
	}
	l, err := m.kine.Grant(ctx, 0, m.ttl+int64(leaseReuse/time.Second))
	if err != nil {
		return 0, err
	}
	m.id, m.used, m.end = l.ID, 1, now.Add(leaseReuse)
	return m.id, nil
}
