package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"time"

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

func (p past) Bounds(context.Context) (oldest, newest int64, err error) {
	newest, compact := p.s.index.Revisions()
	return p.s.kept(compact, p.s.oldest.Load()), newest, nil
}

// inRange is the condition that a key is in a range.
func inRange(r kine.Range) (string, []any) {
	switch r.End {
	case "":
		return "key = ?", []any{r.Start}
	case kine.Unbounded:
		return "key >= ?", []any{r.Start}
	}
	return "key >= ? AND key < ?", []any{r.Start, r.End}
}

func (p past) Rows(ctx context.Context, r kine.Range, from mvcc.Pos) iter.Seq2[history.Row, error] {
	cond, args := inRange(r)
	return p.rows(ctx, "SELECT pos, key, created, count, lease, prev FROM log WHERE pos >= ? AND "+cond+" ORDER BY pos", append([]any{int64(from)}, args...)...)
}

func (p past) Current(ctx context.Context, r kine.Range, before mvcc.Pos) iter.Seq2[history.Row, error] {
	cond, args := inRange(r)
	return p.rows(ctx, "SELECT pos, key, created, count, lease, 0 FROM current WHERE pos < ? AND "+cond+" ORDER BY key", append([]any{int64(before)}, args...)...)
}

func (p past) rows(ctx context.Context, text string, args ...any) iter.Seq2[history.Row, error] {
	return each(ctx, p.s.readers, text, func(rows *sql.Rows) (r history.Row, err error) {
		return r, rows.Scan(&r.Pos, &r.Key, &r.Created, &r.Count, &r.Lease, &r.Prev)
	}, args...)
}

func (p past) Row(ctx context.Context, pos mvcc.Pos) (*history.Row, error) {
	r := &history.Row{}
	err := p.s.readers.QueryRowContext(ctx, "SELECT pos, key, created, count, lease, prev, value FROM log WHERE pos = ?", int64(pos)).
		Scan(&r.Pos, &r.Key, &r.Created, &r.Count, &r.Lease, &r.Prev, &r.Value)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, p.s.readError(ctx, err)
	}
	r.Value = notNil(r.Value)
	return r, nil
}

func (p past) Moments(ctx context.Context) ([]history.Moment, error) {
	var out []history.Moment
	for m, err := range each(ctx, p.s.readers, "SELECT revision, at FROM moment ORDER BY revision", func(rows *sql.Rows) (m history.Moment, err error) {
		var at int64
		err = rows.Scan(&m.Revision, &at)
		m.At = time.Unix(at, 0)
		return m, err
	}) {
		if err != nil {
			return nil, fmt.Errorf("moments: %w", err)
		}
		out = append(out, m)
	}
	return out, nil
}
