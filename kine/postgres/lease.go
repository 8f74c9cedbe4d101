package postgres

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"skiff/kine"
	"skiff/kine/group"
	"skiff/kine/mvcc"
)

// expireInterval is how long a lease of another server that died may outlive its
// end.
const expireInterval = 5 * time.Second

// Grant implements kine.Store. The database's clock decides when a lease ends.
func (s *Store) Grant(ctx context.Context, id, ttl int64) (kine.Lease, error) {
	id, err := kine.LeaseID(id, ttl)
	if err != nil {
		return kine.Lease{}, err
	}
	err = s.Submit(ctx, &group.Op{
		Plan: func(b *mvcc.Batch) error { return b.Grant(id) },
		Extra: func(exec group.Exec) error {
			return exec(`INSERT INTO skiff_lease (id, ttl, expires) VALUES ($1, $2::bigint, now() + $2::bigint * interval '1 second')`, id, ttl)
		},
		After: s.leasesChanged,
	})
	if err != nil {
		return kine.Lease{}, err
	}
	return kine.Lease{ID: id, TTL: ttl, Remaining: ttl}, nil
}

func (s *Store) leasesChanged() {
	select {
	case s.leaseChange <- struct{}{}:
	default:
	}
}

// Revoke implements kine.Store.
func (s *Store) Revoke(ctx context.Context, id int64) error {
	return s.Submit(ctx, &group.Op{
		Plan:  func(b *mvcc.Batch) error { return b.Revoke(id) },
		Extra: func(exec group.Exec) error { return exec(`DELETE FROM skiff_lease WHERE id = $1`, id) },
	})
}

// KeepAlive implements kine.Store. A lease whose time has come stays ended.
func (s *Store) KeepAlive(ctx context.Context, id int64) (kine.Lease, error) {
	if err := s.Serving(ctx); err != nil {
		return kine.Lease{}, err
	}
	l := kine.Lease{ID: id}
	err := s.readers.QueryRowContext(ctx, `UPDATE skiff_lease SET expires = now() + ttl * interval '1 second' WHERE id = $1 AND expires > now() RETURNING ttl`, id).Scan(&l.TTL)
	if errors.Is(err, sql.ErrNoRows) {
		return kine.Lease{}, kine.ErrLeaseNotFound
	}
	if err != nil {
		return kine.Lease{}, readError(ctx, err)
	}
	l.Remaining = l.TTL
	return l, nil
}

// TimeToLive implements kine.Store.
func (s *Store) TimeToLive(ctx context.Context, id int64, keys bool) (kine.Lease, error) {
	if err := s.Serving(ctx); err != nil {
		return kine.Lease{}, err
	}
	l := kine.Lease{ID: id}
	var left float64
	err := s.readers.QueryRowContext(ctx, `SELECT ttl, extract(epoch FROM expires - now())::double precision FROM skiff_lease WHERE id = $1`, id).Scan(&l.TTL, &left)
	if errors.Is(err, sql.ErrNoRows) {
		return kine.Lease{}, kine.ErrLeaseNotFound
	}
	if err != nil {
		return kine.Lease{}, readError(ctx, err)
	}
	l.Remaining = int64(max(0, left))
	if keys {
		if l.Keys, err = leaseKeys(ctx, s.readers, id); err != nil {
			return kine.Lease{}, readError(ctx, err)
		}
	}
	return l, nil
}

// Leases implements kine.Store.
func (s *Store) Leases(ctx context.Context) ([]int64, error) {
	if err := s.Serving(ctx); err != nil {
		return nil, err
	}
	ids, err := s.leaseIDs(ctx, `SELECT id FROM skiff_lease ORDER BY id`)
	if err != nil {
		return nil, readError(ctx, err)
	}
	return ids, nil
}

func (s *Store) leaseIDs(ctx context.Context, text string) ([]int64, error) {
	rows, err := s.readers.QueryContext(ctx, text)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	ids := []int64{}
	for rows.Next() {
		var id int64
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, rows.Err()
}

// expireLeases revokes leases whose time has come. Servers may do it together:
// the first one wins.
func (s *Store) expireLeases(ctx context.Context) {
	for {
		wait, err := s.expireOnce(ctx)
		if err != nil && ctx.Err() == nil {
			s.cfg.Log.Debug("leases could not be looked at; it is tried again", "err", err)
			wait = time.Second
		}
		timer := time.NewTimer(min(max(wait, 10*time.Millisecond), expireInterval))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		case <-s.leaseChange:
			timer.Stop()
		}
	}
}

// expireOnce returns how long the next lease still has.
func (s *Store) expireOnce(ctx context.Context) (time.Duration, error) {
	ids, err := s.leaseIDs(ctx, `SELECT id FROM skiff_lease WHERE expires <= now() ORDER BY expires LIMIT 100`)
	if err != nil {
		return 0, err
	}
	for _, id := range ids {
		if err := s.Revoke(ctx, id); err != nil && !errors.Is(err, kine.ErrLeaseNotFound) {
			return 0, err
		}
	}
	var left sql.NullFloat64
	if err := s.readers.QueryRowContext(ctx, `SELECT extract(epoch FROM min(expires) - now())::double precision FROM skiff_lease`).Scan(&left); err != nil {
		return 0, err
	}
	if !left.Valid {
		return expireInterval, nil
	}
	return time.Duration(left.Float64 * float64(time.Second)), nil
}
