package postgres

import (
	"context"
	"time"

	"skiff/kine/group"
	"skiff/kine/mvcc"
)

// cleanInterval is the pause when nothing is left to clean.
const cleanInterval = 10 * time.Second

// Compact implements kine.Store. The rows go later, in the background.
func (s *Store) Compact(ctx context.Context, rev int64) error {
	return s.Submit(ctx, &group.Op{
		Plan: func(b *mvcc.Batch) error { return b.CheckCompact(rev) },
		Extra: func(exec group.Exec) error {
			return exec(`UPDATE skiff_meta SET compact = $1 WHERE id = 1 AND compact < $1`, rev)
		},
		After: func() {
			raise(&s.compact, rev)
			s.wakeCleaner()
		},
	})
}

// clean removes log rows that no read can reach, in small steps, for half of the
// time at most. Of several servers one does it at a time.
func (s *Store) clean(ctx context.Context) {
	for {
		start := time.Now()
		s.measure(ctx)
		left, err := s.cleanStep(ctx)
		if err == nil && left == 0 {
			left, err = s.thinStep(ctx)
		}
		if err != nil && ctx.Err() == nil {
			s.cfg.Log.Debug("old revisions could not be removed; it is tried again", "err", err)
		}
		pause := cleanInterval
		if err == nil && left > 0 {
			pause = time.Since(start)
		} else {
			s.measureUsed(ctx)
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		case <-s.dirty:
			timer.Stop()
		}
	}
}

func (s *Store) wakeCleaner() {
	select {
	case s.dirty <- struct{}{}:
	default:
	}
}
