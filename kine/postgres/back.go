package postgres

import (
	"context"
	"sync/atomic"
)

// raise sets v to at least to.
func raise(v *atomic.Int64, to int64) {
	for {
		old := v.Load()
		if old >= to || v.CompareAndSwap(old, to) {
			return
		}
	}
}

// A database can lose acknowledged writes, when a standby that lagged is
// promoted or an old backup restored. Its revision is then lower than one that
// clients have seen. The next revision is therefore given above that, and what
// was before counts as compacted: clients list again, and none sees time run
// back.
//
// bumped is the revision to go on from: whoever saw everything up to seen would
// continue at the next one, and must find that compacted.
func bumped(seen int64) int64 { return seen + 2 }

const bumpRevision = `UPDATE skiff_meta SET revision = $1, compact = $1 WHERE id = 1 AND revision < $1`

// forward brings a database that went back above seen.
func (s *Store) forward(ctx context.Context, now, seen int64) error {
	target := bumped(seen)
	s.cfg.Log.Error("the database has lost writes: its revision is lower than before; clients list again", "revision", now, "seen", seen)
	if _, err := s.readers.ExecContext(ctx, bumpRevision, target); err != nil {
		return err
	}
	raise(&s.compact, target)
	s.feed.wake()
	return nil
}
