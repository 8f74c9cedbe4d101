package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"sync"
	"time"

	"skiff/kine"
	"skiff/kine/group"
	"skiff/kine/mvcc"
)

// leases knows when each lease ends. A restart begins every lease anew: how
// long the process was away is not known to its clients either.
type leases struct {
	mu     sync.Mutex
	byID   map[int64]*lease
	change chan struct{}
}

type lease struct {
	ttl int64
	end time.Time
}

func newLeases() *leases {
	return &leases{byID: map[int64]*lease{}, change: make(chan struct{}, 1)}
}

func (l *leases) has(id int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.byID[id] != nil
}

func (l *leases) set(id, ttl int64) {
	l.mu.Lock()
	l.byID[id] = &lease{ttl: ttl, end: time.Now().Add(time.Duration(ttl) * time.Second)}
	l.mu.Unlock()
	l.signal()
}

func (l *leases) clear() {
	l.mu.Lock()
	clear(l.byID)
	l.mu.Unlock()
}

// ended tells whether the lease is there and its time has come.
func (l *leases) ended(id int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	le := l.byID[id]
	return le != nil && !le.end.After(time.Now())
}

func (l *leases) drop(id int64) {
	l.mu.Lock()
	delete(l.byID, id)
	l.mu.Unlock()
}

func (l *leases) signal() {
	select {
	case l.change <- struct{}{}:
	default:
	}
}

func (l *leases) get(id int64) (kine.Lease, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	le := l.byID[id]
	if le == nil {
		return kine.Lease{}, false
	}
	return kine.Lease{ID: id, TTL: le.ttl, Remaining: int64(max(0, time.Until(le.end).Seconds()))}, true
}

// expired are the leases that ended before now, and when the next one ends.
func (l *leases) expired(now time.Time) (ids []int64, next time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, le := range l.byID {
		switch {
		case !le.end.After(now):
			ids = append(ids, id)
		case next.IsZero() || le.end.Before(next):
			next = le.end
		}
	}
	slices.Sort(ids)
	return ids, next
}

func (s *Store) loadLeases(ctx context.Context, tx *sql.Tx) error {
	rows, err := tx.QueryContext(ctx, "SELECT id, ttl FROM lease")
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var id, ttl int64
		if err := rows.Scan(&id, &ttl); err != nil {
			return err
		}
		s.leases.set(id, ttl)
	}
	return rows.Err()
}

// expireLeases revokes each lease when its time has come.
func (s *Store) expireLeases(ctx context.Context) {
	const retry = time.Second
	for {
		ids, next := s.leases.expired(time.Now())
		wait := time.Hour
		if !next.IsZero() {
			wait = time.Until(next)
		}
		for _, id := range ids {
			err := s.revoke(ctx, id, func() bool { return s.leases.ended(id) })
			if err != nil && !errors.Is(err, kine.ErrLeaseNotFound) && ctx.Err() == nil {
				s.cfg.Log.Warn("a lease that has ended could not be revoked; it is tried again", "lease", id, "err", err)
				wait = min(wait, retry)
			}
		}
		timer := time.NewTimer(max(wait, time.Millisecond))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		case <-s.leases.change:
			timer.Stop()
		}
	}
}

// Grant implements kine.Store.
func (s *Store) Grant(ctx context.Context, id, ttl int64) (kine.Lease, error) {
	id, err := kine.LeaseID(id, ttl)
	if err != nil {
		return kine.Lease{}, err
	}
	err = s.Submit(ctx, &group.Op{
		Plan: func(b *mvcc.Batch) error { return b.Grant(id) },
		Extra: func(exec group.Exec) error {
			return exec("INSERT INTO lease (id, ttl) VALUES (?,?) ON CONFLICT (id) DO UPDATE SET ttl=excluded.ttl", id, ttl)
		},
		After: func() { s.leases.set(id, ttl) },
	})
	if err != nil {
		return kine.Lease{}, err
	}
	return kine.Lease{ID: id, TTL: ttl, Remaining: ttl}, nil
}

// Revoke implements kine.Store.
func (s *Store) Revoke(ctx context.Context, id int64) error {
	return s.revoke(ctx, id, func() bool { return true })
}

// revoke ends a lease unless it was kept alive meanwhile.
func (s *Store) revoke(ctx context.Context, id int64, still func() bool) error {
	return s.Submit(ctx, &group.Op{
		Plan: func(b *mvcc.Batch) error {
			if !still() {
				return kine.ErrLeaseNotFound
			}
			return b.Revoke(id)
		},
		Extra: func(exec group.Exec) error { return exec("DELETE FROM lease WHERE id=?", id) },
		After: func() { s.leases.drop(id) },
	})
}

// KeepAlive implements kine.Store.
func (s *Store) KeepAlive(ctx context.Context, id int64) (kine.Lease, error) {
	if err := s.Serving(ctx); err != nil {
		return kine.Lease{}, err
	}
	s.leases.mu.Lock()
	le := s.leases.byID[id]
	if le != nil {
		le.end = time.Now().Add(time.Duration(le.ttl) * time.Second)
	}
	s.leases.mu.Unlock()
	if le == nil {
		return kine.Lease{}, kine.ErrLeaseNotFound
	}
	return kine.Lease{ID: id, TTL: le.ttl, Remaining: le.ttl}, nil
}

// TimeToLive implements kine.Store.
func (s *Store) TimeToLive(ctx context.Context, id int64, keys bool) (kine.Lease, error) {
	if err := s.Serving(ctx); err != nil {
		return kine.Lease{}, err
	}
	out, ok := s.leases.get(id)
	if !ok {
		return kine.Lease{}, kine.ErrLeaseNotFound
	}
	if keys {
		out.Keys = s.index.LeaseKeys(id)
		slices.Sort(out.Keys)
	}
	return out, nil
}

// Leases implements kine.Store.
func (s *Store) Leases(ctx context.Context) ([]int64, error) {
	if err := s.Serving(ctx); err != nil {
		return nil, err
	}
	s.leases.mu.Lock()
	defer s.leases.mu.Unlock()
	ids := make([]int64, 0, len(s.leases.byID))
	for id := range s.leases.byID {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids, nil
}
