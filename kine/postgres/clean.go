package postgres

import (
	"context"
	"database/sql"
	"errors"

	"github.com/lib/pq"

	"skiff/kine/mvcc"
	"skiff/kine/sweep"
)

// cleanStep goes through the next rows below what is kept: what each replaced is
// out of reach, and so is each delete itself. The last revision's own events stay,
// since a watch may begin there. left is how many revisions are still to be
// looked at.
func (s *Store) cleanStep(ctx context.Context) (left int64, err error) {
	var kept int64
	left, err = s.sweep(ctx, "removed", func(p progress) (from, below int64) {
		kept = s.kept(p.compact, p.oldest)
		return p.removed, kept
	}, func(_ *sql.Tx, r sweep.Row) ([]int64, error) { return r.Unreachable(), nil })
	if err == nil && left == 0 && s.full() {
		return s.releaseStep(ctx, kept)
	}
	return left, err
}

// releaseStep removes what the events of the last removed revision replaced: a watch
// that begins there misses it as the previous value, which is no reason to refuse all
// writes when one delete of everything was what should make room. left is how many
// rows went, after which more may be there.
func (s *Store) releaseStep(ctx context.Context, kept int64) (left int64, err error) {
	res, err := s.readers.ExecContext(ctx, `DELETE FROM skiff_log WHERE pos IN (
			SELECT p.pos FROM skiff_log l JOIN skiff_log p ON p.pos = l.prev WHERE l.pos >= $1 AND l.pos < $2 LIMIT $3 FOR UPDATE OF p SKIP LOCKED
		)`, int64(mvcc.At(kept, 0)), int64(mvcc.At(kept+1, 0)), sweep.Rows)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// thinStep goes through the next rows of the kept history: keys without a past
// lose what a compaction would take, and a key that changes often loses all but
// its newest versions.
func (s *Store) thinStep(ctx context.Context) (left int64, err error) {
	if s.cfg.Keep.Window == 0 {
		return 0, nil
	}
	thin := sweep.Thinning{Skips: s.cfg.Keep.Skips, Most: s.cfg.Keep.Versions}
	return s.sweep(ctx, "thinned", func(p progress) (from, below int64) { return max(p.thinned, p.removed), p.compact },
		func(tx *sql.Tx, r sweep.Row) ([]int64, error) {
			return thin.Gone(r, func(pos, most int64) ([]int64, error) { return chainBeyond(ctx, tx, pos, most) })
		})
}

// chainBeyond are the positions of a key's versions before the newest most.
func chainBeyond(ctx context.Context, tx *sql.Tx, pos, most int64) (dead []int64, err error) {
	rows, err := tx.QueryContext(ctx, `WITH RECURSIVE chain (pos, prev, n) AS (
			SELECT pos, prev, 1::bigint FROM skiff_log WHERE pos = $1
			UNION ALL
			SELECT l.pos, l.prev, c.n + 1 FROM chain c JOIN skiff_log l ON l.pos = c.prev
		) SELECT pos FROM chain WHERE n > $2`, pos, most)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		if err := rows.Scan(&pos); err != nil {
			return nil, err
		}
		dead = append(dead, pos)
	}
	return dead, rows.Err()
}

// progress are the revisions and positions that the cleaning goes by.
type progress struct{ compact, oldest, removed, thinned int64 }

// sweep passes the next rows between the bounds, a position and a revision, and
// removes those that dead names. name is where it is noted how far it came.
func (s *Store) sweep(ctx context.Context, name string, bounds func(progress) (from, below int64), dead func(*sql.Tx, sweep.Row) ([]int64, error)) (left int64, err error) {
	const look = `SELECT m.compact, m.oldest, c.removed, c.thinned FROM skiff_cleaner c JOIN skiff_meta m ON m.id = c.id`
	var p progress
	// There is nothing to lock when there is nothing to do.
	if err := s.readers.QueryRowContext(ctx, look).Scan(&p.compact, &p.oldest, &p.removed, &p.thinned); err != nil {
		return 0, err
	}
	from, below := bounds(p)
	limit := int64(mvcc.At(below, 0)) - 1
	if from >= limit {
		return 0, nil
	}
	tx, err := s.readers.BeginTx(ctx, nil)
	if err != nil {
		return 0, err
	}
	defer tx.Rollback()
	err = tx.QueryRowContext(ctx, `SELECT removed, thinned FROM skiff_cleaner WHERE id = 1 FOR UPDATE SKIP LOCKED`).Scan(&p.removed, &p.thinned)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil // another server is at it
	}
	if err != nil {
		return 0, err
	}
	if from, _ = bounds(p); from >= limit {
		return 0, nil
	}
	gone, last, err := sweep.Step(ctx, tx, limit, func(r sweep.Row) ([]int64, error) { return dead(tx, r) },
		`SELECT pos, prev, count, key FROM skiff_log WHERE pos > $1 AND pos <= $2 ORDER BY pos LIMIT $3`, from, limit, sweep.Rows)
	if err != nil {
		return 0, err
	}
	if len(gone) > 0 {
		if _, err := tx.ExecContext(ctx, `DELETE FROM skiff_log WHERE pos = ANY($1::bigint[])`, pq.Int64Array(gone)); err != nil {
			return 0, err
		}
	}
	if _, err := tx.ExecContext(ctx, `UPDATE skiff_cleaner SET `+name+` = $1 WHERE id = 1`, last); err != nil {
		return 0, err
	}
	return (mvcc.Pos(limit) - mvcc.Pos(last)).Revision(), tx.Commit()
}
