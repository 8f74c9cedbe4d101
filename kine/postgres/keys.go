package postgres

import (
	"context"
	"database/sql"

	"github.com/lib/pq"

	"skiff/kine"
	"skiff/kine/mvcc"
)

// maxKeys bounds the keys of one statement, whose values are in memory together.
const maxKeys = 64

// moment is some keys as they were at a revision.
type moment struct {
	revision int64
	found    map[string]kine.KeyValue
}

// readKey reads a key as it is now. Who reads beside others does so in one statement
// with them: to parse and to plan it is most of a read's cost.
func (s *Store) readKey(ctx context.Context, key string) (kine.ReadResult, error) {
	got, err := s.gets.Get(ctx, key)
	if err != nil {
		return kine.ReadResult{}, readError(ctx, err)
	}
	res := kine.ReadResult{Revision: got.revision, KVs: []kine.KeyValue{}}
	if kv, ok := got.found[key]; ok {
		res.KVs, res.Count = append(res.KVs, kv), 1
	}
	return res, nil
}

// readKeys sees all keys at one moment. Callers may share a value, and none changes
// one. Each key is looked up by itself: for many at a time the planner would go
// through a whole table that is still small.
func (s *Store) readKeys(ctx context.Context, asked []string) (moment, error) {
	names := make(pq.ByteaArray, len(asked))
	for i, key := range asked {
		names[i] = []byte(key)
	}
	rows, err := s.readers.QueryContext(ctx, `SELECT m.revision, r.key, r.pos, r.created, r.count, r.lease, r.value
		FROM skiff_meta m LEFT JOIN (
			SELECT v.* FROM unnest($1::bytea[]) AS k (key) CROSS JOIN LATERAL (
				SELECT c.key, c.pos, c.created, c.count, c.lease, x.value FROM skiff_current c JOIN skiff_log x ON x.pos = c.pos WHERE c.key = k.key LIMIT 1
			) v
		) r ON true WHERE m.id = 1`, names)
	if err != nil {
		return moment{}, err
	}
	defer rows.Close()
	out := moment{found: make(map[string]kine.KeyValue, len(asked))}
	for rows.Next() {
		var key, value []byte
		var pos, created, n, lease sql.NullInt64
		if err := rows.Scan(&out.revision, &key, &pos, &created, &n, &lease, &value); err != nil {
			return moment{}, err
		}
		if pos.Valid {
			v := mvcc.Version{Key: string(key), Pos: mvcc.Pos(pos.Int64), Created: created.Int64, Count: n.Int64, Lease: lease.Int64}
			out.found[v.Key] = v.KeyValue(value)
		}
	}
	return out, rows.Err()
}
