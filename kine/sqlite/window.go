package sqlite

import (
	"context"
	"fmt"
	"time"

	"skiff/kine/group"
	"skiff/kine/mvcc"
)

// moveWindow compacts what is older than the window, and lets go of the history
// that is older than what is kept.
func (s *Store) moveWindow(ctx context.Context) {
	tick := time.NewTicker(s.cfg.CompactInterval)
	defer tick.Stop()
	window := mvcc.Window{Span: s.cfg.HistoryWindow}
	marked := int64(0)
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			revision, compact := s.index.Revisions()
			target := window.Move(now, revision)
			if target > compact {
				if err := s.Compact(ctx, target); err != nil && ctx.Err() == nil {
					s.cfg.Log.Warn("compaction failed; the next one goes further", "revision", target, "err", err)
				}
			}
			if s.cfg.Keep.Window == 0 {
				continue
			}
			if err := s.moveHistory(ctx, now, revision, revision > marked); err != nil {
				if ctx.Err() == nil {
					s.cfg.Log.Warn("the history could not be moved on; it is tried again", "err", err)
				}
				continue
			}
			marked = revision
		}
	}
}

// moveHistory notes the time of a revision, if there are changes since the last
// one, and moves the history's beginning on.
func (s *Store) moveHistory(ctx context.Context, now time.Time, revision int64, changed bool) error {
	var old int64
	err := s.readers.QueryRowContext(ctx, "SELECT coalesce(max(revision), 0) FROM moment WHERE at <= ?", now.Add(-s.cfg.Keep.Window).Unix()).Scan(&old)
	if err != nil {
		return fmt.Errorf("moments: %w", explain(err))
	}
	_, compact := s.index.Revisions()
	old = min(old, compact)
	before := s.oldest.Load()
	if !changed && old <= before {
		return nil
	}
	return s.Submit(ctx, &group.Op{
		Plan: func(*mvcc.Batch) error { return nil },
		Extra: func(exec group.Exec) error {
			if err := exec("INSERT INTO moment (revision, at) VALUES (?,?) ON CONFLICT (revision) DO NOTHING", revision, now.Unix()); err != nil || old <= before {
				return err
			}
			return beginHistory(exec, old)
		},
		After: func() { s.oldest.Store(max(old, s.oldest.Load())) },
	})
}

// beginHistory moves the history's beginning on to a revision.
func beginHistory(exec group.Exec, revision int64) error {
	if err := exec("DELETE FROM moment WHERE revision < ?", revision); err != nil {
		return err
	}
	return exec("UPDATE meta SET value=? WHERE name='oldest' AND value<?", revision, revision)
}

// shorten lets the oldest part of the history go when the store takes more than
// it may with it, or than the disk has, so that history never fills either.
func (w *writer) shorten(ctx context.Context) error {
	bound := w.s.cfg.Keep.Bytes
	if quota := w.s.cfg.QuotaBytes; quota > 0 && (bound == 0 || bound > quota/4*3) {
		bound = quota / 4 * 3
	}
	_, compact := w.s.index.Revisions()
	oldest := w.s.oldest.Load()
	if w.s.cfg.Keep.Window == 0 || oldest >= compact || !w.settled || !w.s.reserve.full && !w.s.usage.full(bound) {
		return nil
	}
	revision := oldest + (compact-oldest)/8 + 1
	tx, err := w.s.conn.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	exec := func(text string, args ...any) error {
		_, err := tx.ExecContext(ctx, text, args...)
		return err
	}
	if err := beginHistory(exec, revision); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	w.s.oldest.Store(revision)
	w.settled = false
	w.s.cfg.Log.Debug("the history is shortened: the store takes more than it may", "oldest", revision, "bytes", w.s.usage.size.Load(), "bound", bound)
	return nil
}
