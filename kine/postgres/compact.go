package postgres

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/lib/pq"

	"skiff/kine"
	"skiff/kine/group"
	"skiff/kine/mvcc"
)

const (
	// cleanRows bounds one step of the cleaning, and cleanInterval is the pause
	// when nothing is left to clean.
	cleanRows     = 1000
	cleanInterval = 10 * time.Second
)

// Compact implements kine.Store. The rows go later, in the background.
func (s *Store) Compact(ctx context.Context, rev int64) error {
	return s.Submit(ctx, &group.Op{
		Plan: func(b *mvcc.Batch) error { return b.CheckCompact(rev) },
		Extra: func(exec group.Exec) error {
			return exec(`UPDATE skiff_meta SET compact = $1 WHERE id = 1 AND compact < $1`, rev)
		},
		After: func() { raise(&s.compact, rev) },
	})
}

// sample is the newest revision at a time.
type sample struct {
	at       time.Time
	revision int64
}

// moveWindow compacts what is older than the window. Servers may do it together.
func (s *Store) moveWindow(ctx context.Context) {
	tick := time.NewTicker(s.cfg.CompactInterval)
	defer tick.Stop()
	var samples []sample
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			s.measure(ctx)
			samples = append(samples, sample{now, s.feed.position()})
			target := int64(0)
			for len(samples) > 0 && now.Sub(samples[0].at) >= s.cfg.HistoryWindow {
				target, samples = samples[0].revision, samples[1:]
			}
			if target <= s.compact.Load() {
				continue
			}
			if err := s.Compact(ctx, target); err != nil && !errors.Is(err, kine.ErrCompacted) && ctx.Err() == nil {
				s.cfg.Log.Warn("compaction failed; the next one goes further", "revision", target, "err", err)
			}
		}
	}
}

// measure looks at the size of the tables, where the database tells it.
func (s *Store) measure(ctx context.Context) {
	var size sql.NullInt64
	err := s.readers.QueryRowContext(ctx, `SELECT pg_total_relation_size('skiff_log') + pg_total_relation_size('skiff_current')`).Scan(&size)
	if err != nil {
		s.cfg.Log.Debug("the store's size is not known", "err", err)
		return
	}
	s.size.Store(size.Int64)
}

// clean removes log rows that no read can reach, in small steps, for half of the
// time at most. Of several servers one does it at a time.
func (s *Store) clean(ctx context.Context) {
	for {
		start := time.Now()
		left, err := s.cleanStep(ctx)
		if err != nil && ctx.Err() == nil {
			s.cfg.Log.Debug("old revisions could not be removed; it is tried again", "err", err)
		}
		pause := cleanInterval
		if err == nil && left > 0 {
			pause = time.Since(start)
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

// cleanStep goes through the next rows below the compact revision: what each
// replaced is out of reach, and so is each delete itself. The compact revision's
// own events stay, since a watch may begin there. left is how many revisions
// are still to be looked at.
func (s *Store) cleanStep(ctx context.Context) (left int64, err error) {
	var removed, compact int64
	err = s.readers.QueryRowContext(ctx, `SELECT c.removed, m.compact FROM skiff_cleaner c JOIN skiff_meta m ON m.id = c.id`).Scan(&removed, &compact)
	if err != nil {
		return 0, err
	}
	limit := int64(mvcc.At(compact, 0)) - 1
	if removed >= limit {
		return 0, nil
	}
	tx, err := s.readers.BeginTx(ctx, nil)
	if err != nil {
		return 0, err
	}
	defer tx.Rollback()
	err = tx.QueryRowContext(ctx, `SELECT removed FROM skiff_cleaner WHERE id = 1 FOR UPDATE SKIP LOCKED`).Scan(&removed)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil // another server is at it
	}
	if err != nil {
		return 0, err
	}
	dead, last, err := deadRows(ctx, tx, removed, limit)
	if err != nil {
		return 0, err
	}
	if len(dead) > 0 {
		if _, err := tx.ExecContext(ctx, `DELETE FROM skiff_log WHERE pos = ANY($1::bigint[])`, dead); err != nil {
			return 0, err
		}
	}
	if _, err := tx.ExecContext(ctx, `UPDATE skiff_cleaner SET removed = $1 WHERE id = 1`, last); err != nil {
		return 0, err
	}
	return (mvcc.Pos(limit) - mvcc.Pos(last)).Revision(), tx.Commit()
}

func deadRows(ctx context.Context, tx *sql.Tx, removed, limit int64) (dead pq.Int64Array, last int64, err error) {
	rows, err := tx.QueryContext(ctx, `SELECT pos, prev, count FROM skiff_log WHERE pos > $1 AND pos <= $2 ORDER BY pos LIMIT $3`, removed, limit, cleanRows)
	if err != nil {
		return nil, 0, err
	}
	defer rows.Close()
	n := 0
	for rows.Next() {
		var pos, prev, count int64
		if err := rows.Scan(&pos, &prev, &count); err != nil {
			return nil, 0, err
		}
		if prev > 0 {
			dead = append(dead, prev)
		}
		if count == 0 {
			dead = append(dead, pos)
		}
		n, last = n+1, pos
	}
	if n < cleanRows {
		last = limit
	}
	return dead, last, rows.Err()
}

// Status implements kine.Store.
func (s *Store) Status(ctx context.Context) (kine.Status, error) {
	if err := s.Serving(ctx); err != nil {
		return kine.Status{}, err
	}
	st := kine.Status{QuotaBytes: s.cfg.QuotaBytes, Backend: "postgres"}
	err := s.readers.QueryRowContext(ctx, `SELECT revision, compact, (SELECT count(*) FROM skiff_current) FROM skiff_meta WHERE id = 1`).Scan(&st.Revision, &st.CompactRevision, &st.Keys)
	if err != nil {
		return kine.Status{}, readError(ctx, err)
	}
	st.OldestRevision = st.CompactRevision
	s.measure(ctx)
	st.SizeBytes = s.size.Load()
	return st, nil
}
