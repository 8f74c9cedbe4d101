package postgres

import (
	"context"
	"errors"
	"time"

	"skiff/kine"
	"skiff/kine/mvcc"
)

// moveWindow compacts what is older than the window, and lets go of the history
// that is older than what is kept. Servers may do it together.
func (s *Store) moveWindow(ctx context.Context) {
	tick := time.NewTicker(s.cfg.CompactInterval)
	defer tick.Stop()
	window := mvcc.Window{Span: s.cfg.HistoryWindow}
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			s.measure(ctx)
			target := window.Move(now, s.feed.position())
			if target > s.compact.Load() {
				if err := s.Compact(ctx, target); err != nil && !errors.Is(err, kine.ErrCompacted) && ctx.Err() == nil {
					s.cfg.Log.Warn("compaction failed; the next one goes further", "revision", target, "err", err)
				}
			}
			if s.cfg.Keep.Window == 0 {
				continue
			}
			err := s.moveHistory(ctx)
			if err == nil {
				err = s.shorten(ctx)
			}
			if err != nil && ctx.Err() == nil {
				s.cfg.Log.Warn("the history could not be moved on; it is tried again", "err", err)
			}
		}
	}
}

// moveHistory notes the time of the newest revision and moves the history's
// beginning on, by the database's clock.
func (s *Store) moveHistory(ctx context.Context) error {
	_, err := s.readers.ExecContext(ctx, `INSERT INTO skiff_moment (revision, at) SELECT revision, now() FROM skiff_meta WHERE id = 1 ON CONFLICT (revision) DO NOTHING`)
	if err != nil {
		return err
	}
	var old int64
	err = s.readers.QueryRowContext(ctx, `SELECT least(m.compact, (SELECT coalesce(max(revision), 0) FROM skiff_moment WHERE at <= now() - $1::bigint * interval '1 microsecond')) FROM skiff_meta m WHERE m.id = 1`,
		s.cfg.Keep.Window.Microseconds()).Scan(&old)
	if err != nil {
		return err
	}
	return s.beginHistory(ctx, old)
}

// beginHistory moves the history's beginning on to a revision.
func (s *Store) beginHistory(ctx context.Context, revision int64) error {
	res, err := s.readers.ExecContext(ctx, `UPDATE skiff_meta SET oldest = $1 WHERE id = 1 AND oldest < $1`, revision)
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n == 0 {
		return err
	}
	s.wakeCleaner()
	_, err = s.readers.ExecContext(ctx, `DELETE FROM skiff_moment WHERE revision < $1`, revision)
	return err
}

// rowBytes is roughly what a row of the log takes.
const rowBytes = `(octet_length(key) + octet_length(value) + 100)`

// shorten lets the oldest part of the history go when the rows take more than
// they may with it, so that history never uses up the quota. The tables' size on
// disk says whether it is worth a look: removed rows leave room in them.
func (s *Store) shorten(ctx context.Context) error {
	bound := s.cfg.Keep.Bytes
	if quota := s.cfg.QuotaBytes; quota > 0 && (bound == 0 || bound > quota/4*3) {
		bound = quota / 4 * 3
	}
	if bound == 0 || s.size.Load() < bound {
		return nil
	}
	var oldest, compact, bytes int64
	err := s.readers.QueryRowContext(ctx, `SELECT m.oldest, m.compact, (SELECT coalesce(sum(`+rowBytes+`), 0)::bigint FROM skiff_log) FROM skiff_meta m WHERE m.id = 1`).Scan(&oldest, &compact, &bytes)
	if err != nil || oldest >= compact || bytes < bound {
		return err
	}
	// As much of the oldest rows as is too much; those that are still the newest of
	// their keys stay, so the next turn may go further.
	var pos mvcc.Pos
	err = s.readers.QueryRowContext(ctx, `SELECT coalesce(min(pos), $2::bigint) FROM (
			SELECT pos, sum(`+rowBytes+`) OVER (ORDER BY pos) AS upto FROM skiff_log WHERE pos >= $1 AND pos < $2::bigint
		) l WHERE upto > $3::bigint`, int64(mvcc.At(oldest, 0)), int64(mvcc.At(compact, 0)), bytes-bound).Scan(&pos)
	if err != nil {
		return err
	}
	revision := min(pos.Revision()+1, compact)
	s.cfg.Log.Debug("the history is shortened: the store takes more than it may", "oldest", revision, "bytes", bytes, "bound", bound)
	return s.beginHistory(ctx, revision)
}
