// Package history reads what a store has kept of the past below the revision
// that the protocol ends at: for people who want to see, compare and bring back
// what was. Nothing of it shows in lists, watches or reads of old revisions.
package history

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"skiff/kine"
	"skiff/kine/mvcc"
)

// ErrNotKept: the past asked for is not kept any more.
var ErrNotKept = errors.New("the history does not go back that far")

// Retention says what is kept of the past.
type Retention struct {
	// Window is how long a change is kept; 0 keeps none below the compact revision.
	Window time.Duration
	// Bytes is what the store may take with its past: above it the oldest goes
	// first. 0 is no bound.
	Bytes int64
	// Versions bounds the versions of one key that are kept; 0 is no bound.
	Versions int64
	// Skip are the beginnings of keys without a past.
	Skip []string
}

// Validate refuses negative settings.
func (r *Retention) Validate() error {
	if r.Window < 0 || r.Bytes < 0 || r.Versions < 0 {
		return fmt.Errorf("history: window %v, bytes %d, versions %d: none may be negative; 0 switches it off", r.Window, r.Bytes, r.Versions)
	}
	return nil
}

// Skips tells whether a key has no past.
func (r *Retention) Skips(key string) bool {
	for _, prefix := range r.Skip {
		if strings.HasPrefix(key, prefix) {
			return true
		}
	}
	return false
}

// Keeper is a store that keeps a past.
type Keeper interface {
	// Past is what it has kept. ErrNotKept when it keeps none.
	Past(ctx context.Context) (Log, error)
}

// Log is a kept past as rows of the store's log.
type Log interface {
	// Bounds are the oldest revision that is kept, and the newest.
	Bounds(ctx context.Context) (oldest, newest int64, err error)
	// Rows are the writes of a range's keys from a position on, in log order and
	// without values.
	Rows(ctx context.Context, r kine.Range, from mvcc.Pos) iter.Seq2[Row, error]
	// Current are the keys of a range whose newest write is before a position, in
	// key order and without values.
	Current(ctx context.Context, r kine.Range, before mvcc.Pos) iter.Seq2[Row, error]
	// Row reads one row with its value; nil when it is not kept.
	Row(ctx context.Context, pos mvcc.Pos) (*Row, error)
	// Moments are when which revision was the newest, in order.
	Moments(ctx context.Context) ([]Moment, error)
}

// Row is one write of the log. Prev is the position of the one that it replaced,
// or 0.
type Row struct {
	mvcc.Version
	Prev  mvcc.Pos
	Value []byte
}

// Moment says that a revision was the newest at a time.
type Moment struct {
	Revision int64
	At       time.Time
}

// Change is one write of a key. KV is the key after it, or for a delete before it.
type Change struct {
	Revision int64
	Deleted  bool
	KV       kine.KeyValue
	// At is a time not before the write and hardly more than a minute after it.
	At time.Time
}

// Changes are the kept writes of one key, oldest first. The first one may be the
// version that was there when the kept history begins.
func Changes(ctx context.Context, log Log, key string) ([]Change, error) {
	oldest, _, err := log.Bounds(ctx)
	if err != nil {
		return nil, err
	}
	at, err := times(ctx, log)
	if err != nil {
		return nil, err
	}
	var out []Change
	add := func(pos mvcc.Pos) error {
		row, err := log.Row(ctx, pos)
		if err != nil || row == nil {
			return err // what is cleaned meanwhile is not there
		}
		c := Change{Revision: pos.Revision(), Deleted: row.Deleted(), At: at(pos.Revision())}
		if !c.Deleted {
			c.KV = row.KeyValue(row.Value)
		} else if before, err := log.Row(ctx, row.Prev); err != nil {
			return err
		} else if before != nil {
			c.KV = before.KeyValue(before.Value)
		}
		out = append(out, c)
		return nil
	}
	r := kine.Range{Start: key}
	first := true
	for row, err := range log.Rows(ctx, r, mvcc.At(oldest, 0)) {
		if err != nil {
			return nil, err
		}
		if first && row.Prev > 0 {
			if err := add(row.Prev); err != nil {
				return nil, err
			}
		}
		first = false
		if err := add(row.Pos); err != nil {
			return nil, err
		}
	}
	if !first {
		return out, nil
	}
	for row, err := range log.Current(ctx, r, mvcc.At(oldest, 0)) {
		if err != nil {
			return nil, err
		}
		if err := add(row.Pos); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// times tells when a revision was written, as far as is known: moments are noted once a
// minute, and what is newer than the last of them was written since.
func times(ctx context.Context, log Log) (func(revision int64) time.Time, error) {
	moments, err := log.Moments(ctx)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	return func(revision int64) time.Time {
		i, _ := slices.BinarySearchFunc(moments, revision, func(m Moment, revision int64) int { return int(m.Revision - revision) })
		if i == len(moments) {
			return now
		}
		return moments[i].At
	}, nil
}

// RevisionAt is the newest revision that was there at a time.
func RevisionAt(ctx context.Context, log Log, at time.Time) (int64, error) {
	oldest, _, err := log.Bounds(ctx)
	if err != nil {
		return 0, err
	}
	moments, err := log.Moments(ctx)
	if err != nil {
		return 0, err
	}
	for _, m := range slices.Backward(moments) {
		if m.Revision >= oldest && !m.At.After(at) {
			return m.Revision, nil
		}
	}
	return 0, fmt.Errorf("%w: nothing is kept from %s or before", ErrNotKept, at.Format(time.RFC3339))
}

// State is a range as it was at a revision, in key order. lost are the keys that
// existed and whose version of then is not kept, since they have changed too
// often.
func State(ctx context.Context, log Log, r kine.Range, revision int64) (kvs []kine.KeyValue, lost []string, err error) {
	oldest, newest, err := log.Bounds(ctx)
	if err != nil {
		return nil, nil, err
	}
	switch {
	case revision < oldest:
		return nil, nil, fmt.Errorf("%w: revision %d, and the oldest kept is %d", ErrNotKept, revision, oldest)
	case revision > newest:
		return nil, nil, fmt.Errorf("revision %d, newest is %d: %w", revision, newest, kine.ErrFutureRevision)
	}
	after := mvcc.At(revision+1, 0)
	// A key that was written since was then what its first later write replaced.
	seen := map[string]bool{}
	var positions []mvcc.Pos
	for row, err := range log.Rows(ctx, r, after) {
		if err != nil {
			return nil, nil, err
		}
		if seen[row.Key] {
			continue
		}
		seen[row.Key] = true
		switch {
		case row.Prev == 0, row.Created > revision: // it did not exist
		case row.Prev >= after:
			lost = append(lost, row.Key)
		default:
			positions = append(positions, row.Prev)
		}
	}
	for row, err := range log.Current(ctx, r, after) {
		if err != nil {
			return nil, nil, err
		}
		if !seen[row.Key] {
			positions = append(positions, row.Pos)
		}
	}
	for _, pos := range positions {
		row, err := log.Row(ctx, pos)
		if err != nil {
			return nil, nil, err
		}
		if row != nil {
			kvs = append(kvs, row.KeyValue(row.Value))
		}
	}
	slices.SortFunc(kvs, func(a, b kine.KeyValue) int { return strings.Compare(a.Key, b.Key) })
	slices.Sort(lost)
	return kvs, lost, nil
}

// Deleted are the keys of a range that the kept history knows and that do not
// exist now, with their last deletes, newest first.
func Deleted(ctx context.Context, log Log, r kine.Range) ([]Change, error) {
	oldest, _, err := log.Bounds(ctx)
	if err != nil {
		return nil, err
	}
	last := map[string]Row{}
	for row, err := range log.Rows(ctx, r, mvcc.At(oldest, 0)) {
		if err != nil {
			return nil, err
		}
		if row.Deleted() {
			last[row.Key] = row
		} else {
			delete(last, row.Key)
		}
	}
	at, err := times(ctx, log)
	if err != nil {
		return nil, err
	}
	var out []Change
	for _, row := range last {
		before, err := log.Row(ctx, row.Prev)
		if err != nil {
			return nil, err
		}
		if before == nil {
			continue // it cannot be brought back
		}
		out = append(out, Change{Revision: row.Pos.Revision(), Deleted: true, KV: before.KeyValue(before.Value), At: at(row.Pos.Revision())})
	}
	slices.SortFunc(out, func(a, b Change) int { return int(b.Revision - a.Revision) })
	return out, nil
}
