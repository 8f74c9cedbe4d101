package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"

	"skiff/kine/mvcc"
	"skiff/kine/sweep"
)

// kept is where the log begins that is kept whole but for thinning.
func (s *Store) kept(compact, oldest int64) int64 {
	if s.cfg.Keep.Window == 0 {
		return compact
	}
	return min(oldest, compact)
}

// progress are the revisions and positions that the cleaning goes by.
type progress struct{ compact, oldest, removed, thinned int64 }

func (s *Store) progress(ctx context.Context) (p progress, err error) {
	err = s.readers.QueryRowContext(ctx, `SELECT (SELECT value FROM meta WHERE name='compact'), (SELECT value FROM meta WHERE name='oldest'),
		(SELECT value FROM meta WHERE name='removed'), (SELECT value FROM meta WHERE name='thinned')`).Scan(&p.compact, &p.oldest, &p.removed, &p.thinned)
	return p, err
}

// cleanStep goes through the next rows below what is kept: what each replaced is
// out of reach, and so is each delete itself. The last revision's own events stay,
// since a watch may begin there. left is how many revisions are still to be
// looked at.
func (w *writer) cleanStep(ctx context.Context) (left int64, err error) {
	p, err := w.s.progress(ctx)
	if err != nil {
		return 0, err
	}
	kept := w.s.kept(p.compact, p.oldest)
	left, err = w.sweep(ctx, "removed", p.removed, kept, func(_ *sql.Tx, r sweep.Row) ([]int64, error) {
		return r.Unreachable(), nil
	})
	if err == nil && left == 0 && (w.s.reserve.full || w.s.usage.full(w.s.cfg.QuotaBytes)) {
		return w.releaseStep(ctx, kept)
	}
	return left, err
}

// releaseStep removes what the events of the last removed revision replaced: a watch
// that begins there misses it as the previous value, which is no reason to refuse all
// writes when one delete of everything was what should make room. left is how many
// rows went, after which more may be there.
func (w *writer) releaseStep(ctx context.Context, kept int64) (left int64, err error) {
	const replaced = "SELECT p.pos FROM log l JOIN log p ON p.pos = l.prev WHERE l.pos >= ? AND l.pos < ? LIMIT ?"
	from, to := int64(mvcc.At(kept, 0)), int64(mvcc.At(kept+1, 0))
	var any bool
	if err := w.s.readers.QueryRowContext(ctx, "SELECT EXISTS ("+replaced+")", from, to, 1).Scan(&any); err != nil || !any {
		return 0, err
	}
	res, err := w.s.conn.ExecContext(ctx, "DELETE FROM log WHERE pos IN ("+replaced+")", from, to, sweep.Rows)
	if err != nil {
		return 0, err
	}
	left, err = res.RowsAffected()
	w.pages += int(left)
	return left, err
}

// thinStep goes through the next rows of the kept history: keys without a past
// lose what a compaction would take, and a key that changes often loses all but
// its newest versions.
func (w *writer) thinStep(ctx context.Context) (left int64, err error) {
	if w.s.cfg.Keep.Window == 0 {
		return 0, nil
	}
	p, err := w.s.progress(ctx)
	if err != nil {
		return 0, err
	}
	thin := sweep.Thinning{Skips: w.s.cfg.Keep.Skips, Most: w.s.cfg.Keep.Versions}
	return w.sweep(ctx, "thinned", max(p.thinned, p.removed), p.compact, func(tx *sql.Tx, r sweep.Row) ([]int64, error) {
		return thin.Gone(r, func(pos, most int64) ([]int64, error) { return chainBeyond(ctx, tx, pos, most) })
	})
}

// chainBeyond are the positions of a key's versions before the newest most.
func chainBeyond(ctx context.Context, tx *sql.Tx, pos, most int64) ([]int64, error) {
	var dead []int64
	for n := int64(1); ; n++ {
		err := tx.QueryRowContext(ctx, "SELECT prev FROM log WHERE pos=?", pos).Scan(&pos)
		if errors.Is(err, sql.ErrNoRows) {
			if len(dead) > 0 {
				dead = dead[:len(dead)-1] // it was gone already
			}
			return dead, nil
		}
		if err != nil || pos == 0 {
			return dead, err
		}
		if n >= most {
			dead = append(dead, pos)
		}
	}
}

// sweep passes the next rows after a position and below a revision, and removes
// those that dead names. name is where it is noted how far it came.
func (w *writer) sweep(ctx context.Context, name string, from, below int64, dead func(*sql.Tx, sweep.Row) ([]int64, error)) (left int64, err error) {
	limit := int64(mvcc.At(below, 0)) - 1
	if from >= limit {
		return 0, nil
	}
	w.s.at(BeforeClean)
	tx, err := w.s.conn.BeginTx(ctx, nil)
	if err != nil {
		return 0, err
	}
	defer tx.Rollback()
	gone, last, err := sweep.Step(ctx, tx, limit, func(r sweep.Row) ([]int64, error) { return dead(tx, r) },
		"SELECT pos, prev, count, key FROM log WHERE pos > ? AND pos <= ? ORDER BY pos LIMIT ?", from, limit, sweep.Rows)
	if err != nil {
		return 0, err
	}
	if len(gone) > 0 {
		list, err := json.Marshal(gone)
		if err != nil {
			return 0, err
		}
		if _, err := tx.ExecContext(ctx, "DELETE FROM log WHERE pos IN (SELECT value FROM json_each(?))", string(list)); err != nil {
			return 0, err
		}
	}
	if _, err := tx.ExecContext(ctx, "UPDATE meta SET value=? WHERE name=?", last, name); err != nil {
		return 0, err
	}
	w.pages += len(gone) + 2 // what was replaced lies all over the log
	w.s.at(InClean)
	if err := tx.Commit(); err != nil {
		return 0, err
	}
	w.s.at(AfterClean)
	return (mvcc.Pos(limit) - mvcc.Pos(last)).Revision(), nil
}
