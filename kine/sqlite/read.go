package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"

	"skiff/kine"
	"skiff/kine/mvcc"
	"skiff/kine/watchhub"
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
	if err := s.Serving(ctx); err != nil {
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
		value, err := s.value(ctx, s.oneValue, versions[0])
		out[0] = versions[0].KeyValue(value)
		return err
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

// value reads one version's value, from memory when it is recent.
func (s *Store) value(ctx context.Context, from *sql.Stmt, v *mvcc.Version) ([]byte, error) {
	if value, ok := s.recent.Get(v.Pos); ok {
		return value, nil
	}
	value := []byte{}
	err := from.QueryRowContext(ctx, int64(v.Pos)).Scan(&value)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil, errGone
	case err != nil:
		return nil, s.readError(ctx, err)
	case value == nil:
		value = []byte{}
	}
	s.recent.Add(v.Pos, value)
	return value, nil
}

func (s *Store) chunk(ctx context.Context, versions []*mvcc.Version, out []kine.KeyValue) error {
	list := make([]byte, 0, 20*len(versions))
	at := make(map[int64]int, len(versions))
	for i, v := range versions {
		if value, ok := s.recent.Get(v.Pos); ok {
			out[i] = v.KeyValue(value)
			continue
		}
		list = strconv.AppendInt(append(list, ','), int64(v.Pos), 10)
		at[int64(v.Pos)] = i
	}
	if len(at) == 0 {
		return nil
	}
	list[0] = '['
	list = append(list, ']')
	rows, err := s.readers.QueryContext(ctx, values, string(list))
	if err != nil {
		return s.readError(ctx, err)
	}
	defer rows.Close()
	found := 0
	for rows.Next() {
		var pos int64
		var value []byte
		if err := rows.Scan(&pos, &value); err != nil {
			return s.readError(ctx, err)
		}
		if value == nil {
			value = []byte{}
		}
		i := at[pos]
		out[i] = versions[i].KeyValue(value)
		found++
	}
	if err := rows.Err(); err != nil {
		return s.readError(ctx, err)
	}
	if found != len(at) {
		return errGone
	}
	return nil
}

func (s *Store) readError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	select {
	case <-s.Stopped():
		return kine.ErrStopped
	default:
	}
	return fmt.Errorf("%w: %w", kine.ErrUnavailable, explain(err))
}

// Revision implements kine.Store: the one writer's index is the truth.
func (s *Store) Revision(ctx context.Context) (int64, error) {
	if err := s.Serving(ctx); err != nil {
		return 0, err
	}
	revision, _ := s.index.Revisions()
	return revision, nil
}

// Watch implements kine.Store.
func (s *Store) Watch(ctx context.Context, r kine.Range, opts kine.WatchOptions) (kine.Watcher, error) {
	if err := s.Serving(ctx); err != nil {
		return nil, err
	}
	_, compact := s.index.Revisions()
	return s.hub.Watch(ctx, r, opts, compact)
}

// Events implements watchhub.Log.
func (s *Store) Events(ctx context.Context, q watchhub.Query) (watchhub.Page, error) {
	page, err := s.events(ctx, q)
	if err != nil {
		return watchhub.Page{}, err
	}
	// Looked at last: a compaction during the read may have taken some.
	if _, compact := s.index.Revisions(); q.From < compact {
		return watchhub.Page{}, &kine.CompactedError{Revision: q.From, CompactRevision: compact}
	}
	return page, nil
}

func (s *Store) events(ctx context.Context, q watchhub.Query) (page watchhub.Page, err error) {
	text := "SELECT l.pos, l.key, l.created, l.count, l.lease, l.value, p.pos, p.created, p.count, p.lease, p.value FROM log l LEFT JOIN log p ON p.pos = l.prev AND ? WHERE l.pos >= ? AND l.pos < ?"
	args := []any{q.PrevKV, int64(mvcc.At(q.From, 0)), int64(mvcc.At(q.To+1, 0))}
	switch q.Range.End {
	case "":
		text += " AND l.key = ?"
		args = append(args, q.Range.Start)
	case kine.Unbounded:
		text += " AND l.key >= ?"
		args = append(args, q.Range.Start)
	default:
		text += " AND l.key >= ? AND l.key < ?"
		args = append(args, q.Range.Start, q.Range.End)
	}
	rows, err := s.readers.QueryContext(ctx, text+" ORDER BY l.pos", args...)
	if err != nil {
		return page, s.readError(ctx, err)
	}
	defer rows.Close()
	collect := watchhub.Collect{Query: q}
	for rows.Next() {
		v := &mvcc.Version{}
		var value, prevValue []byte
		var pPos, pCreated, pCount, pLease sql.NullInt64
		if err := rows.Scan(&v.Pos, &v.Key, &v.Created, &v.Count, &v.Lease, &value, &pPos, &pCreated, &pCount, &pLease, &prevValue); err != nil {
			return page, s.readError(ctx, err)
		}
		if value == nil {
			value = []byte{}
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
		if !collect.Add(&e) {
			return collect.Page(), nil
		}
	}
	if err := rows.Err(); err != nil {
		return page, s.readError(ctx, err)
	}
	return collect.Page(), nil
}
