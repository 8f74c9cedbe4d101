package sqlite

import (
	"context"
	"fmt"
	"time"

	"skiff/kine"
	"skiff/kine/mvcc"
)

const (
	// cleanRows and cleanTime bound one step of the cleaning: writes wait for it.
	cleanRows = 2000
	cleanTime = 20 * time.Millisecond
	// vacuumPages is how many free pages one step returns to the file system,
	// and keepFreePages how many stay for the next writes.
	vacuumPages   = 500
	keepFreePages = 2000
)

// Compact implements kine.Store. The rows go later, in the writer's pauses.
func (s *Store) Compact(ctx context.Context, rev int64) error {
	if err := s.serving(ctx); err != nil {
		return err
	}
	return s.submit(ctx, &op{
		plan: func(*mvcc.Batch) error { return s.index.CheckCompact(rev) },
		extra: func(t *txn) error {
			return t.exec("UPDATE meta SET value=? WHERE name='compact' AND value<?", rev, rev)
		},
		after: func() {
			if err := s.index.Compact(rev); err != nil {
				// Another Compact of the same group went further.
				s.cfg.Log.Debug("compaction was overtaken", "revision", rev, "err", err)
			}
		},
	})
}

// sample is the newest revision at a time.
type sample struct {
	at       time.Time
	revision int64
}

// moveWindow compacts what is older than the window.
func (s *Store) moveWindow(ctx context.Context) {
	tick := time.NewTicker(s.cfg.CompactInterval)
	defer tick.Stop()
	var samples []sample
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			revision, compact := s.index.Revisions()
			samples = append(samples, sample{now, revision})
			target := int64(0)
			for len(samples) > 0 && now.Sub(samples[0].at) >= s.cfg.Window {
				target, samples = samples[0].revision, samples[1:]
			}
			if target <= compact {
				continue
			}
			if err := s.Compact(ctx, target); err != nil && ctx.Err() == nil {
				s.cfg.Log.Warn("compaction failed; the next one goes further", "revision", target, "err", err)
			}
		}
	}
}

// maintain is what the writer does once a second beside writes.
func (w *writer) maintain() {
	if w.settled {
		return
	}
	ctx := context.Background()
	more, err := w.clean(ctx)
	if err != nil {
		w.s.cfg.Log.Warn("old revisions could not be removed; it is tried again", "err", explain(err))
	}
	w.settled = err == nil && !more
	if !more {
		if err := w.vacuum(ctx); err != nil {
			w.s.cfg.Log.Warn("free space could not be returned; it is tried again", "err", explain(err))
		}
	}
	if w.pages > 0 && len(w.s.queue) == 0 {
		w.checkpoint()
	}
	if err := w.s.usage.measure(ctx, w.s.readers); err != nil {
		w.s.cfg.Log.Warn("the store's size could not be measured", "err", explain(err))
	}
}

// clean removes log rows that no read can reach, for a bounded time. more tells
// that some are left.
func (w *writer) clean(ctx context.Context) (more bool, err error) {
	start := time.Now()
	for time.Since(start) < cleanTime {
		if len(w.s.queue) > 0 {
			return true, nil
		}
		if more, err = w.cleanStep(ctx); err != nil || !more {
			return more, err
		}
	}
	return more, nil
}

// cleanStep goes through the next rows at or below the compact revision: what
// each replaced is out of reach, and so is each delete itself.
func (w *writer) cleanStep(ctx context.Context) (more bool, err error) {
	var removed, compact int64
	if err := w.s.readers.QueryRowContext(ctx, "SELECT (SELECT value FROM meta WHERE name='removed'), (SELECT value FROM meta WHERE name='compact')").Scan(&removed, &compact); err != nil {
		return false, err
	}
	limit := int64(mvcc.At(compact+1, 0)) - 1
	if removed >= limit {
		return false, nil
	}
	tx, err := w.s.db.BeginTx(ctx, nil)
	if err != nil {
		return false, err
	}
	defer tx.Rollback()
	rows, err := tx.QueryContext(ctx, "SELECT pos, prev, count FROM log WHERE pos > ? AND pos <= ? ORDER BY pos LIMIT ?", removed, limit, cleanRows)
	if err != nil {
		return false, err
	}
	var dead []int64
	n, last := 0, limit
	for rows.Next() {
		var pos, prev, count int64
		if err := rows.Scan(&pos, &prev, &count); err != nil {
			rows.Close()
			return false, err
		}
		if prev > 0 {
			dead = append(dead, prev)
		}
		if count == 0 {
			dead = append(dead, pos)
		}
		n, last = n+1, pos
	}
	if err := rows.Err(); err != nil {
		return false, err
	}
	rows.Close()
	if n < cleanRows {
		last = limit
	}
	del, err := tx.PrepareContext(ctx, "DELETE FROM log WHERE pos=?")
	if err != nil {
		return false, err
	}
	defer del.Close()
	for _, pos := range dead {
		if _, err := del.ExecContext(ctx, pos); err != nil {
			return false, err
		}
	}
	if _, err := tx.ExecContext(ctx, "UPDATE meta SET value=? WHERE name='removed'", last); err != nil {
		return false, err
	}
	w.pages += len(dead)/8 + 1
	return last < limit, tx.Commit()
}

// vacuum returns free pages to the file system, but for some.
func (w *writer) vacuum(ctx context.Context) error {
	if w.s.usage.freePages.Load() <= keepFreePages {
		return nil
	}
	w.settled = false
	// The pragma frees a page for each row that is fetched.
	rows, err := w.s.db.QueryContext(ctx, fmt.Sprintf("PRAGMA incremental_vacuum(%d)", vacuumPages))
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
	}
	w.pages += vacuumPages
	return rows.Err()
}

// checkpoint copies the write-ahead log into the database.
func (w *writer) checkpoint() {
	var busy, log, done int
	err := w.s.db.QueryRow("PRAGMA wal_checkpoint(PASSIVE)").Scan(&busy, &log, &done)
	if err != nil {
		w.s.cfg.Log.Warn("the write-ahead log could not be copied into the database; it is tried again", "err", explain(err))
		return
	}
	w.pages = 0
}

// Status implements kine.Store.
func (s *Store) Status(ctx context.Context) (kine.Status, error) {
	if err := s.serving(ctx); err != nil {
		return kine.Status{}, err
	}
	revision, compact := s.index.Revisions()
	return kine.Status{
		Revision: revision, CompactRevision: compact, OldestRevision: compact, Keys: s.index.Live(),
		SizeBytes: s.usage.size.Load(), FreeBytes: s.usage.freePages.Load() * s.usage.pageSize.Load(),
		QuotaBytes: s.cfg.QuotaBytes, Backend: "sqlite",
	}, nil
}
