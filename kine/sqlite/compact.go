package sqlite

import (
	"context"
	"errors"
	"fmt"
	"time"

	"skiff/kine"
	"skiff/kine/group"
	"skiff/kine/mvcc"
)

const (
	// maintainEvery is the pause between two looks for something to clean, when
	// the last one found nothing.
	maintainEvery = time.Second
	// failPause is the pause after a failure.
	failPause = 10 * time.Second
	// Steps of the cleaning take a fifth of the time, or half of it when more than
	// backlog revisions wait.
	backlog = 100_000
	// vacuumPages is how many free pages one step returns to the file system,
	// and keepFreePages how many stay for the next writes.
	vacuumPages   = 500
	keepFreePages = 2000
)

// Compact implements kine.Store. The rows go later, in the writer's pauses.
func (s *Store) Compact(ctx context.Context, rev int64) error {
	if err := s.Serving(ctx); err != nil {
		return err
	}
	return s.Submit(ctx, &group.Op{
		Plan: func(*mvcc.Batch) error { return s.index.CheckCompact(rev) },
		Extra: func(exec group.Exec) error {
			return exec("UPDATE meta SET value=? WHERE name='compact' AND value<?", rev, rev)
		},
		After: func() {
			if err := s.index.Compact(rev); err != nil {
				// Another Compact of the same group went further.
				s.cfg.Log.Debug("compaction was overtaken", "revision", rev, "err", err)
			}
		},
	})
}

// maintain is what the writer does beside writes. It returns the time until
// the next turn.
func (w *writer) maintain() time.Duration {
	ctx, start := context.Background(), time.Now()
	left, err := w.cleanStep(ctx)
	if err == nil && left == 0 {
		left, err = w.thinStep(ctx)
	}
	w.settled = err == nil && left == 0
	if err == nil && left > 0 && time.Since(w.measured) < maintainEvery {
		if w.pages-w.copied >= checkpointPages && !w.s.Waiting() {
			w.checkpoint("PASSIVE")
		}
		pause := 4 * time.Since(start)
		if left > backlog {
			pause = time.Since(start)
		}
		return min(max(pause, time.Millisecond), maintainEvery)
	}
	w.measured = start
	if err == nil {
		err = w.s.usage.measure(ctx, w.s.readers)
	}
	if err == nil {
		err = w.shorten(ctx)
	}
	if err == nil {
		err = w.vacuum(ctx)
	}
	if err != nil {
		w.settled = false
		if errors.Is(explain(err), kine.ErrNoSpace) {
			w.s.reserve.full = true // the next turn uses the reserve
		}
		w.s.cfg.Log.Warn("old revisions could not be removed, or their space returned; it is tried again", "err", explain(err), "in", failPause)
		return failPause
	}
	switch {
	case max(w.length, w.pages) >= 2*checkpointPages:
		w.checkpoint("RESTART") // once a second also while somebody always waits
	case w.s.Waiting():
	case w.pages > w.copied:
		w.checkpoint("PASSIVE")
	}
	if !w.settled {
		return min(4*time.Since(start)+time.Millisecond, maintainEvery)
	}
	return maintainEvery
}

// vacuum returns free pages to the file system, but for some where the disk has room.
func (w *writer) vacuum(ctx context.Context) error {
	if free := w.s.usage.freePages.Load(); free == 0 || free <= keepFreePages && !w.s.reserve.full {
		return nil
	}
	w.settled = false
	w.s.at(BeforeVacuum)
	// The pragma frees a page for each row that is fetched.
	rows, err := w.s.conn.QueryContext(ctx, fmt.Sprintf("PRAGMA incremental_vacuum(%d)", vacuumPages))
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
	}
	w.pages += vacuumPages
	return rows.Err()
}

// checkpoint copies the write-ahead log into the database. The modes are
// SQLite's: PASSIVE waits for nobody; RESTART waits for readers, so that the next write
// begins the log anew, and so does TRUNCATE, which cuts it off.
func (w *writer) checkpoint(mode string) {
	w.s.at(BeforeCopying)
	defer w.s.at(AfterCopying)
	if mode != "PASSIVE" {
		w.patience(readersWait)
		defer w.patience(busyTimeout)
	}
	var busy, log, done int
	if err := w.s.conn.QueryRowContext(context.Background(), "PRAGMA wal_checkpoint("+mode+")").Scan(&busy, &log, &done); err != nil {
		if errors.Is(explain(err), kine.ErrNoSpace) && !w.s.reserve.full {
			w.s.reserve.full = true
			w.onReserve(func() {})
			return
		}
		w.s.cfg.Log.Warn("the write-ahead log could not be copied into the database; it is tried again", "err", explain(err))
		w.copied = w.pages
		return
	}
	w.pages, w.copied, w.length = max(log, 0), max(done, 0), max(w.length, log)
	if w.copied == w.pages {
		// The next write begins the log anew, unless a reader is in it.
		w.pages, w.copied = 0, 0
	}
	if mode != "PASSIVE" && busy == 0 {
		w.length = 0
	}
}

// patience is how long the writer's connection waits for others.
func (w *writer) patience(d time.Duration) {
	if _, err := w.s.conn.ExecContext(context.Background(), fmt.Sprintf("PRAGMA busy_timeout=%d", d.Milliseconds())); err != nil {
		w.s.cfg.Log.Debug("busy_timeout is not set", "err", err)
	}
}
