package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"

	"skiff/kine"
	"skiff/kine/history"
	"skiff/kine/mvcc"
)

// Past implements history.Keeper.
func (s *Store) Past(ctx context.Context) (history.Log, error) {
	if err := s.Serving(ctx); err != nil {
		return nil, err
	}
	return past{s}, nil
}

// past reads the log below the compact revision.
type past struct{ s *Store }

func (p past) Bounds(ctx context.Context) (oldest, newest int64, err error) {
	var compact int64
	err = p.s.readers.QueryRowContext(ctx, `SELECT revision, compact, `+oldestKept+` FROM skiff_meta m WHERE m.id = 1`).Scan(&newest, &compact, &oldest)
	if err != nil {
		return 0, 0, readError(ctx, err)
	}
	return p.s.kept(compact, oldest), newest, nil
}

// oldestKept is where the history begins: what was removed while none was kept is
// gone.
const oldestKept = `greatest(m.oldest, (SELECT (removed + 1) >> 20 FROM skiff_cleaner WHERE id = 1))`

// kept is where the log begins that is kept whole but for thinning.
func (s *Store) kept(compact, oldest int64) int64 {
	if s.cfg.Keep.Window == 0 {
		return compact
	}
	return min(oldest, compact)
}

func (p past) Rows(ctx context.Context, r kine.Range, from mvcc.Pos) iter.Seq2[history.Row, error] {
	cond, args := where("key", r, 2)
	return p.rows(ctx, `SELECT pos, key, created, count, lease, prev FROM skiff_log WHERE pos >= $1 AND `+cond+` ORDER BY pos`, append([]any{int64(from)}, args...)...)
}

func (p past) Current(ctx context.Context, r kine.Range, before mvcc.Pos) iter.Seq2[history.Row, error] {
	cond, args := where("key", r, 2)
	return p.rows(ctx, `SELECT pos, key, created, count, lease, 0 FROM skiff_current WHERE pos < $1 AND `+cond+` ORDER BY key`, append([]any{int64(before)}, args...)...)
}

func (p past) rows(ctx context.Context, text string, args ...any) iter.Seq2[history.Row, error] {
	return each(ctx, p.s.readers, text, func(rows *sql.Rows) (r history.Row, err error) {
		var key []byte
		err = rows.Scan(&r.Pos, &key, &r.Created, &r.Count, &r.Lease, &r.Prev)
		r.Key = string(key)
		return r, err
	}, args...)
}

func (p past) Row(ctx context.Context, pos mvcc.Pos) (*history.Row, error) {
	r := &history.Row{}
	var key []byte
	err := p.s.readers.QueryRowContext(ctx, `SELECT pos, key, created, count, lease, prev, value FROM skiff_log WHERE pos = $1`, int64(pos)).
		Scan(&r.Pos, &key, &r.Created, &r.Count, &r.Lease, &r.Prev, &r.Value)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, readError(ctx, err)
	}
	r.Key = string(key)
	return r, nil
}

func (p past) Moments(ctx context.Context) ([]history.Moment, error) {
	var out []history.Moment
	for m, err := range each(ctx, p.s.readers, `SELECT revision, at FROM skiff_moment ORDER BY revision`, func(rows *sql.Rows) (m history.Moment, err error) {
		return m, rows.Scan(&m.Revision, &m.At)
	}) {
		if err != nil {
			return nil, fmt.Errorf("moments: %w", err)
		}
		out = append(out, m)
	}
	return out, nil
}
