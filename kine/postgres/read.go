package postgres

import (
	"context"
	"database/sql"
	"fmt"

	"skiff/kine"
	"skiff/kine/mvcc"
	"skiff/kine/watchhub"
)

// where is the condition that key, a column, is in the range, whose arguments
// begin at number n.
func where(key string, r kine.Range, n int) (string, []any) {
	switch r.End {
	case "":
		return fmt.Sprintf("%s = $%d", key, n), []any{[]byte(r.Start)}
	case kine.Unbounded:
		return fmt.Sprintf("%s >= $%d", key, n), []any{[]byte(r.Start)}
	}
	return fmt.Sprintf("%s >= $%d AND %s < $%d", key, n, key, n+1), []any{[]byte(r.Start), []byte(r.End)}
}

// versions is a FROM item, named v, of the keys in a range as they were at a
// revision, or are for 0. What was then and is not now has been replaced since:
// the log's newer rows point to it.
func versions(r kine.Range, revision int64) (string, []any) {
	if revision == 0 {
		cond, args := where("key", r, 1)
		return `(SELECT key, pos, created, count, lease FROM skiff_current WHERE ` + cond + `) v`, args
	}
	inCurrent, args := where("key", r, 2)
	inLog, _ := where("l.key", r, 2)
	return `(SELECT key, pos, created, count, lease FROM skiff_current WHERE pos < $1 AND ` + inCurrent + `
		UNION ALL
		SELECT p.key, p.pos, p.created, p.count, p.lease FROM skiff_log l JOIN skiff_log p ON p.pos = l.prev
		WHERE l.pos >= $1 AND l.prev > 0 AND l.prev < $1 AND ` + inLog + `) v`,
		append([]any{int64(mvcc.At(revision+1, 0))}, args...)
}

// Get implements kine.Store.
func (s *Store) Get(ctx context.Context, key string, opts kine.ReadOptions) (kine.ReadResult, error) {
	if key == "" {
		return kine.ReadResult{}, fmt.Errorf("key is empty: %w", kine.ErrInvalid)
	}
	return s.read(ctx, kine.Range{Start: key}, opts, opts.Limit)
}

// List implements kine.Store.
func (s *Store) List(ctx context.Context, r kine.Range, opts kine.ReadOptions) (kine.ReadResult, error) {
	return s.read(ctx, r, opts, opts.Limit)
}

// Count implements kine.Store.
func (s *Store) Count(ctx context.Context, r kine.Range, opts kine.ReadOptions) (kine.ReadResult, error) {
	return s.read(ctx, r, opts, -1)
}

// read reads, and makes sure that the database did not go back.
func (s *Store) read(ctx context.Context, r kine.Range, opts kine.ReadOptions, limit int64) (kine.ReadResult, error) {
	if err := s.Serving(ctx); err != nil {
		return kine.ReadResult{}, err
	}
	if opts.Revision < 0 {
		return kine.ReadResult{}, fmt.Errorf("revision %d is negative: %w", opts.Revision, kine.ErrInvalid)
	}
	for {
		seen := s.highest.Load()
		var res kine.ReadResult
		var err error
		if r.End == "" && opts == (kine.ReadOptions{Limit: opts.Limit}) && limit >= 0 {
			res, err = s.readKey(ctx, r.Start)
		} else {
			res, err = s.readOnce(ctx, r, opts, limit)
		}
		if res.Revision == 0 || res.Revision >= seen {
			raise(&s.highest, res.Revision)
			return res, err
		}
		if err := s.forward(ctx, res.Revision, seen); err != nil {
			return kine.ReadResult{}, readError(ctx, err)
		}
	}
}

// readOnce asks for everything in one statement, which sees one moment. A limit
// below 0 counts only.
func (s *Store) readOnce(ctx context.Context, r kine.Range, opts kine.ReadOptions, limit int64) (kine.ReadResult, error) {
	from, args := versions(r, opts.Revision)
	if limit < 0 {
		var res kine.ReadResult
		var compact int64
		if err := s.readers.QueryRowContext(ctx, `SELECT m.revision, m.compact, (SELECT count(*) FROM `+from+`) FROM skiff_meta m WHERE m.id = 1`, args...).Scan(&res.Revision, &compact, &res.Count); err != nil {
			return kine.ReadResult{}, readError(ctx, err)
		}
		return res, checkRevision(opts.Revision, res.Revision, compact)
	}
	value, join, count, cut := "NULL::bytea", "", "0", ""
	if !opts.KeysOnly {
		value, join = "x.value", " JOIN skiff_log x ON x.pos = v.pos"
	}
	if limit > 0 {
		count, cut = `(SELECT count(*) FROM `+from+`)`, fmt.Sprintf(" LIMIT %d", limit)
	}
	rows, err := s.readers.QueryContext(ctx, `SELECT m.revision, m.compact, `+count+`, r.key, r.pos, r.created, r.count, r.lease, r.value
		FROM skiff_meta m LEFT JOIN (
			SELECT v.key, v.pos, v.created, v.count, v.lease, `+value+` AS value FROM `+from+join+` ORDER BY v.key`+cut+`
		) r ON true WHERE m.id = 1 ORDER BY r.key`, args...)
	if err != nil {
		return kine.ReadResult{}, readError(ctx, err)
	}
	defer rows.Close()
	res := kine.ReadResult{KVs: []kine.KeyValue{}}
	var compact int64
	for rows.Next() {
		var key, value []byte
		var pos, created, n, lease sql.NullInt64
		if err := rows.Scan(&res.Revision, &compact, &res.Count, &key, &pos, &created, &n, &lease, &value); err != nil {
			return kine.ReadResult{}, readError(ctx, err)
		}
		if !pos.Valid {
			continue
		}
		v := mvcc.Version{Key: string(key), Pos: mvcc.Pos(pos.Int64), Created: created.Int64, Count: n.Int64, Lease: lease.Int64}
		res.KVs = append(res.KVs, v.KeyValue(value))
	}
	if err := rows.Err(); err != nil {
		return kine.ReadResult{}, readError(ctx, err)
	}
	if err := checkRevision(opts.Revision, res.Revision, compact); err != nil {
		return kine.ReadResult{Revision: res.Revision}, err
	}
	if limit == 0 {
		res.Count = int64(len(res.KVs))
	}
	res.More = limit > 0 && res.Count > limit
	return res, nil
}

func checkRevision(revision, newest, compact int64) error {
	switch {
	case revision == 0:
		return nil
	case revision > newest:
		return fmt.Errorf("revision %d, newest is %d: %w", revision, newest, kine.ErrFutureRevision)
	case revision < compact:
		return &kine.CompactedError{Revision: revision, CompactRevision: compact}
	}
	return nil
}

// Revision implements kine.Store.
func (s *Store) Revision(ctx context.Context) (int64, error) {
	if err := s.Serving(ctx); err != nil {
		return 0, err
	}
	return s.now.Get(ctx, struct{}{})
}

func (s *Store) readRevision(ctx context.Context) (revision int64, err error) {
	for {
		seen := s.highest.Load()
		if err := s.readers.QueryRowContext(ctx, `SELECT revision FROM skiff_meta WHERE id = 1`).Scan(&revision); err != nil {
			return 0, unavailable(err)
		}
		if revision >= seen {
			raise(&s.highest, revision)
			return revision, nil
		}
		if err := s.forward(ctx, revision, seen); err != nil {
			return 0, unavailable(err)
		}
	}
}

// revisionForHub makes sure that the feed gets to the revision it returns.
func (s *Store) revisionForHub(ctx context.Context) (int64, error) {
	revision, err := s.Revision(ctx)
	if err == nil && revision > s.hub.Revision() {
		s.feed.wake()
	}
	return revision, err
}

// Watch implements kine.Store.
func (s *Store) Watch(ctx context.Context, r kine.Range, opts kine.WatchOptions) (kine.Watcher, error) {
	if err := s.Serving(ctx); err != nil {
		return nil, err
	}
	if opts.Revision == 0 {
		// From now on: what other servers wrote before is not part of it.
		now, err := s.revisionForHub(ctx)
		if err != nil {
			return nil, err
		}
		opts.Revision = now + 1
	}
	return s.hub.Watch(ctx, r, opts, s.compact.Load())
}

// Events implements watchhub.Log.
func (s *Store) Events(ctx context.Context, q watchhub.Query) (watchhub.Page, error) {
	cond, args := where("l.key", q.Range, 4)
	page, head, err := s.events(ctx, q, "AND "+cond+" ", "", append([]any{int64(mvcc.At(q.From, 0)), int64(mvcc.At(q.To+1, 0)), q.PrevKV}, args...))
	if err != nil {
		return watchhub.Page{}, readError(ctx, err)
	}
	if q.From < head.compact {
		return watchhub.Page{}, &kine.CompactedError{Revision: q.From, CompactRevision: head.compact}
	}
	return page.Page(), nil
}

// head is the row with the revisions.
type head struct{ revision, compact int64 }

// events reads the log. The arguments 1 to 3 are the positions from, to
// (excluded), and whether previous keys are wanted.
func (s *Store) events(ctx context.Context, q watchhub.Query, cond, limit string, args []any) (*watchhub.Collect, head, error) {
	var h head
	rows, err := s.readers.QueryContext(ctx, `SELECT m.revision, m.compact, e.* FROM skiff_meta m LEFT JOIN (
			SELECT l.pos, l.key, l.created, l.count, l.lease, l.value, p.pos AS ppos, p.created AS pcreated, p.count AS pcount, p.lease AS please, p.value AS pvalue
			FROM skiff_log l LEFT JOIN skiff_log p ON p.pos = l.prev AND l.prev > 0 AND $3::boolean
			WHERE l.pos >= $1 AND l.pos < $2 `+cond+`ORDER BY l.pos`+limit+`
		) e ON true WHERE m.id = 1 ORDER BY e.pos`, args...)
	if err != nil {
		return nil, h, err
	}
	defer rows.Close()
	collect := &watchhub.Collect{Query: q}
	for rows.Next() {
		v := &mvcc.Version{}
		var key, value, prevValue []byte
		var pos, created, count, lease, pPos, pCreated, pCount, pLease sql.NullInt64
		if err := rows.Scan(&h.revision, &h.compact, &pos, &key, &created, &count, &lease, &value, &pPos, &pCreated, &pCount, &pLease, &prevValue); err != nil {
			return nil, h, err
		}
		if !pos.Valid {
			continue
		}
		v.Key, v.Pos, v.Created, v.Count, v.Lease = string(key), mvcc.Pos(pos.Int64), created.Int64, count.Int64, lease.Int64
		w := mvcc.Write{Version: v, Value: value}
		if pPos.Valid {
			w.Prev = &mvcc.Version{Key: v.Key, Pos: mvcc.Pos(pPos.Int64), Created: pCreated.Int64, Count: pCount.Int64, Lease: pLease.Int64}
			w.PrevValue = prevValue
		}
		e := w.Event()
		if !collect.Add(&e) {
			return collect, h, nil
		}
	}
	return collect, h, rows.Err()
}
