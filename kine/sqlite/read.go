package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"

	"skiff/kine"
	"skiff/kine/mvcc"
)

// readTries bounds how often a read of the newest state begins anew because a
// compaction took a version that was replaced meanwhile.
const readTries = 5

// Get implements kine.Store.
func (s *Store) Get(ctx context.Context, key string, opts kine.ReadOptions) (kine.ReadResult, error) {
	if key == "" {
		return kine.ReadResult{}, fmt.Errorf("key is empty: %w", kine.ErrInvalid)
	}
	return s.List(ctx, kine.Range{Start: key}, opts)
}

// List implements kine.Store.
func (s *Store) List(ctx context.Context, r kine.Range, opts kine.ReadOptions) (kine.ReadResult, error) {
	return s.read(ctx, r, opts, opts.Limit)
}

// Count implements kine.Store.
func (s *Store) Count(ctx context.Context, r kine.Range, opts kine.ReadOptions) (kine.ReadResult, error) {
	return s.read(ctx, r, opts, -1)
}

func (s *Store) read(ctx context.Context, r kine.Range, opts kine.ReadOptions, limit int64) (kine.ReadResult, error) {
	if err := s.serving(ctx); err != nil {
		return kine.ReadResult{}, err
	}
	for try := 1; ; try++ {
		// The index is ahead of no acknowledged write and behind the database.
		sel, err := s.index.Select(r, opts.Revision, limit)
		if err != nil {
			return kine.ReadResult{Revision: sel.Revision}, err
		}
		res := kine.ReadResult{Revision: sel.Revision, Count: sel.Count, More: limit > 0 && sel.Count > limit}
		if limit < 0 {
			return res, nil
		}
		res.KVs = make([]kine.KeyValue, len(sel.Versions))
		if opts.KeysOnly {
			for i, v := range sel.Versions {
				res.KVs[i] = v.KeyValue(nil)
			}
			return res, nil
		}
		err = s.values(ctx, sel.Versions, res.KVs)
		if errors.Is(err, errGone) {
			if opts.Revision == 0 && try < readTries {
				continue
			}
			_, compact := s.index.Revisions()
			return res, &kine.CompactedError{Revision: opts.Revision, CompactRevision: compact}
		}
		return res, err
	}
}

// errGone: a compaction removed a version after it was selected.
var errGone = errors.New("version is gone")

const (
	// readChunk bounds the versions that one query reads.
	readChunk = 2000
	oneValue  = "SELECT value FROM log WHERE pos=?"
	values    = "SELECT pos, value FROM log WHERE pos IN (SELECT value FROM json_each(?))"
)

// values reads the versions' values into out, in their order.
func (s *Store) values(ctx context.Context, versions []*mvcc.Version, out []kine.KeyValue) error {
	switch len(versions) {
	case 0:
		return nil
	case 1:
		var value []byte
		err := s.readers.QueryRowContext(ctx, oneValue, int64(versions[0].Pos)).Scan(&value)
		if errors.Is(err, sql.ErrNoRows) {
			return errGone
		}
		if err != nil {
			return readError(ctx, err)
		}
		out[0] = versions[0].KeyValue(value)
		return nil
	}
	for len(versions) > 0 {
		n := min(len(versions), readChunk)
		if err := s.chunk(ctx, versions[:n], out[:n]); err != nil {
			return err
		}
		versions, out = versions[n:], out[n:]
	}
	return nil
}

func (s *Store) chunk(ctx context.Context, versions []*mvcc.Version, out []kine.KeyValue) error {
	list := make([]byte, 0, 20*len(versions))
	list = append(list, '[')
	at := make(map[int64]int, len(versions))
	for i, v := range versions {
		if i > 0 {
			list = append(list, ',')
		}
		list = strconv.AppendInt(list, int64(v.Pos), 10)
		at[int64(v.Pos)] = i
	}
	list = append(list, ']')
	rows, err := s.readers.QueryContext(ctx, values, string(list))
	if err != nil {
		return readError(ctx, err)
	}
	defer rows.Close()
	found := 0
	for rows.Next() {
		var pos int64
		var value []byte
		if err := rows.Scan(&pos, &value); err != nil {
			return readError(ctx, err)
		}
		i := at[pos]
		out[i] = versions[i].KeyValue(value)
		found++
	}
	if err := rows.Err(); err != nil {
		return readError(ctx, err)
	}
	if found != len(versions) {
		return errGone
	}
	return nil
}

func readError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return fmt.Errorf("%w: %w", kine.ErrUnavailable, explain(err))
}

// Revision implements kine.Store: the one writer's index is the truth.
func (s *Store) Revision(ctx context.Context) (int64, error) {
	if err := s.serving(ctx); err != nil {
		return 0, err
	}
	revision, _ := s.index.Revisions()
	return revision, nil
}

// Watch implements kine.Store.
func (s *Store) Watch(ctx context.Context, r kine.Range, opts kine.WatchOptions) (kine.Watcher, error) {
	if err := s.serving(ctx); err != nil {
		return nil, err
	}
	_, compact := s.index.Revisions()
	return s.hub.Watch(ctx, r, opts, compact)
}

// Events implements watchhub.Log.
func (s *Store) Events(ctx context.Context, r kine.Range, from, to int64, prev bool) ([]*kine.Event, error) {
	events, err := s.events(ctx, r, from, to, prev)
	if err != nil {
		return nil, err
	}
	// Looked at last: a compaction during the read may have taken some.
	if _, compact := s.index.Revisions(); from <= compact {
		return nil, &kine.CompactedError{Revision: from, CompactRevision: compact}
	}
	return events, nil
}

func (s *Store) events(ctx context.Context, r kine.Range, from, to int64, prev bool) ([]*kine.Event, error) {
	text := "SELECT l.pos, l.key, l.created, l.count, l.lease, l.value, p.pos, p.created, p.count, p.lease, p.value FROM log l LEFT JOIN log p ON p.pos = l.prev AND ? WHERE l.pos >= ? AND l.pos < ?"
	args := []any{prev, int64(mvcc.At(from, 0)), int64(mvcc.At(to+1, 0))}
	switch r.End {
	case "":
		text += " AND l.key = ?"
		args = append(args, r.Start)
	case kine.Unbounded:
		text += " AND l.key >= ?"
		args = append(args, r.Start)
	default:
		text += " AND l.key >= ? AND l.key < ?"
		args = append(args, r.Start, r.End)
	}
	rows, err := s.readers.QueryContext(ctx, text+" ORDER BY l.pos", args...)
	if err != nil {
		return nil, readError(ctx, err)
	}
	defer rows.Close()
	var out []*kine.Event
	for rows.Next() {
		v := &mvcc.Version{}
		var value, prevValue []byte
		var pPos, pCreated, pCount, pLease sql.NullInt64
		if err := rows.Scan(&v.Pos, &v.Key, &v.Created, &v.Count, &v.Lease, &value, &pPos, &pCreated, &pCount, &pLease, &prevValue); err != nil {
			return nil, readError(ctx, err)
		}
		wr := mvcc.Write{Version: v, Value: value}
		if pPos.Valid {
			wr.Prev = &mvcc.Version{Key: v.Key, Pos: mvcc.Pos(pPos.Int64), Created: pCreated.Int64, Count: pCount.Int64, Lease: pLease.Int64}
			wr.PrevValue = prevValue
			if prevValue == nil {
				wr.PrevValue = []byte{}
			}
		}
		e := wr.Event()
		out = append(out, &e)
	}
	if err := rows.Err(); err != nil {
		return nil, readError(ctx, err)
	}
	return out, nil
}
