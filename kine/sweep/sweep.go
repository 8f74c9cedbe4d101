// Package sweep is what the cleaners of the SQL stores share: they pass over the
// log's rows a step at a time, and remove what no read needs any more.
package sweep

import (
	"context"
	"database/sql"
)

// Rows bounds one step: writes may wait for it.
const Rows = 1000

// Row is a row of the log that a sweep passes. Prev is the position of the version
// that it replaced, Count the number of the key's versions, 0 for a delete.
type Row struct {
	Pos, Prev, Count int64
	Key              string
}

// Unreachable are the positions that no read from the row on can see.
func (r Row) Unreachable() []int64 {
	var gone []int64
	if r.Prev > 0 {
		gone = append(gone, r.Prev)
	}
	if r.Count == 0 {
		gone = append(gone, r.Pos)
	}
	return gone
}

// Thinning is how the kept history gets thinner: keys that Skips names lose what a
// compaction would take, and of the others only the newest Most versions stay; 0 is
// all of them.
type Thinning struct {
	Skips func(key string) bool
	Most  int64
}

// Gone are the positions that go when the row is passed. Every so many versions is
// often enough to look at a key: then beyond gives the positions of its versions
// before the newest Most.
func (t Thinning) Gone(r Row, beyond func(pos, most int64) ([]int64, error)) ([]int64, error) {
	switch {
	case t.Skips(r.Key):
		return r.Unreachable(), nil
	case t.Most > 0 && r.Count > t.Most && r.Count%max(t.Most/2, 1) == 0:
		return beyond(r.Pos, t.Most)
	}
	return nil, nil
}

// Step reads the rows of one step with query, which selects at most Rows of pos, prev,
// count and key by position up to limit. gone is what dead names of them, last the
// position that the sweep has come to.
func Step(ctx context.Context, tx *sql.Tx, limit int64, dead func(Row) ([]int64, error), query string, args ...any) (gone []int64, last int64, err error) {
	rows, err := read(ctx, tx, query, args...)
	if err != nil {
		return nil, 0, err
	}
	last = limit
	if len(rows) == Rows {
		last = rows[len(rows)-1].Pos
	}
	for _, r := range rows {
		positions, err := dead(r)
		if err != nil {
			return nil, 0, err
		}
		gone = append(gone, positions...)
	}
	return gone, last, nil
}

func read(ctx context.Context, tx *sql.Tx, query string, args ...any) ([]Row, error) {
	rows, err := tx.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []Row
	for rows.Next() {
		var r Row
		if err := rows.Scan(&r.Pos, &r.Prev, &r.Count, &r.Key); err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, rows.Err()
}
