package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"

	"github.com/lib/pq"

	"skiff/kine"
	"skiff/kine/mvcc"
	"skiff/kine/transfer"
)

// target is a database that a transfer fills. No server opens it meanwhile.
type target struct {
	url string
	db  *sql.DB
}

// NewTarget is a database without a store as the target of a transfer.
func NewTarget(url string) transfer.Target { return &target{url: url} }

// unfinishedError: the tables are not whole.
type unfinishedError struct{ from string }

func (e *unfinishedError) Error() string {
	return fmt.Sprintf("the database holds an unfinished transfer from %s: run `skiff migrate` again to finish it", e.from)
}

func (t *target) Begin(ctx context.Context, from string, _ int64) (err error) {
	if t.db, err = openTransfer(t.url); err != nil {
		return fmt.Errorf("postgres: %w", err)
	}
	if err := migrate(ctx, t.db); err != nil {
		return fmt.Errorf("postgres: %w", explain(err))
	}
	if err := t.transact(ctx, func(tx *sql.Tx) error { return claim(ctx, tx, from) }); err != nil {
		return fmt.Errorf("postgres: %w", err)
	}
	return nil
}

// claim marks a store without keys, or finds the mark of an earlier run.
func claim(ctx context.Context, tx *sql.Tx, from string) error {
	var was string
	var used bool
	err := tx.QueryRowContext(ctx, `SELECT source, revision > 1 OR EXISTS (SELECT 1 FROM skiff_log) FROM skiff_meta WHERE id = 1 FOR UPDATE`).Scan(&was, &used)
	switch {
	case err != nil:
		return err
	case was == from && from != "":
		return nil
	case was != "":
		return fmt.Errorf("%w: it holds an unfinished transfer from %s; finish that one, or name an empty database or search_path", transfer.ErrNotEmpty, was)
	case used:
		return fmt.Errorf("%w: the database has a store already; name an empty database or search_path", transfer.ErrNotEmpty)
	}
	_, err = tx.ExecContext(ctx, `UPDATE skiff_meta SET source = $1 WHERE id = 1`, from)
	return err
}

func (t *target) transact(ctx context.Context, do func(*sql.Tx) error) error {
	tx, err := t.db.BeginTx(ctx, nil)
	if err != nil {
		return explain(err)
	}
	if err := do(tx); err != nil {
		return errors.Join(explain(err), ignoreDone(tx.Rollback()))
	}
	return explain(tx.Commit())
}

func (t *target) KeepsRevisions() bool { return true }

func (t *target) Keys(ctx context.Context) iter.Seq2[kine.KeyValue, error] { return keys(ctx, t.db) }

func (t *target) Grant(ctx context.Context, leases []kine.Lease) error {
	return t.transact(ctx, func(tx *sql.Tx) error {
		var ids, ttls pq.Int64Array
		for _, l := range leases {
			ids, ttls = append(ids, l.ID), append(ttls, l.TTL)
		}
		_, err := tx.ExecContext(ctx, `DELETE FROM skiff_lease`)
		if err != nil || len(ids) == 0 {
			return err
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO skiff_lease (id, ttl, expires) SELECT id, ttl, now() + ttl * interval '1 second' FROM unnest($1::bigint[], $2::bigint[]) AS l (id, ttl)`, ids, ttls)
		return err
	})
}

func (t *target) Apply(ctx context.Context, puts []kine.KeyValue, deletes []string) error {
	return t.transact(ctx, func(tx *sql.Tx) error {
		var gone pq.ByteaArray
		for _, key := range deletes {
			gone = append(gone, []byte(key))
		}
		for i := range puts {
			gone = append(gone, []byte(puts[i].Key))
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM skiff_log WHERE pos IN (SELECT pos FROM skiff_current WHERE key = ANY($1::bytea[]))`, gone); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM skiff_current WHERE key = ANY($1::bytea[])`, gone); err != nil {
			return err
		}
		if len(puts) == 0 {
			return nil
		}
		taken, err := lastPositions(ctx, tx, puts)
		if err != nil {
			return err
		}
		var c columns
		for i := range puts {
			kv := &puts[i]
			// Keys that one transaction wrote follow each other in the log.
			pos := mvcc.At(kv.ModRevision, 0)
			if last, ok := taken[kv.ModRevision]; ok {
				pos = last + 1
			}
			if pos.Revision() != kv.ModRevision {
				return fmt.Errorf("revision %d has more than %d keys", kv.ModRevision, mvcc.MaxWritesPerRevision)
			}
			taken[kv.ModRevision] = pos
			c.add(&mvcc.Version{Key: kv.Key, Pos: pos, Created: kv.CreateRevision, Count: kv.Version, Lease: kv.Lease}, 0, kv.Value)
		}
		_, err = tx.ExecContext(ctx, `WITH rows AS (
				SELECT pos, key, created, count, lease, substr($6::bytea, start, size) AS value
				FROM unnest($1::bigint[], $2::bytea[], $3::bigint[], $4::bigint[], $5::bigint[], $7::integer[], $8::integer[]) AS r (pos, key, created, count, lease, start, size)
			), c AS (
				INSERT INTO skiff_current (key, pos, created, count, lease) SELECT key, pos, created, count, lease FROM rows
			)
			INSERT INTO skiff_log (pos, key, created, count, lease, prev, value) SELECT pos, key, created, count, lease, 0, value FROM rows`,
			c.pos, c.key, c.created, c.count, c.lease, notNil(c.value), c.start, c.size)
		return err
	})
}

// lastPositions are the last positions that the puts' revisions have by now.
func lastPositions(ctx context.Context, tx *sql.Tx, puts []kine.KeyValue) (map[int64]mvcc.Pos, error) {
	var first, next pq.Int64Array
	for i := range puts {
		first, next = append(first, int64(mvcc.At(puts[i].ModRevision, 0))), append(next, int64(mvcc.At(puts[i].ModRevision+1, 0)))
	}
	out := map[int64]mvcc.Pos{}
	rows, err := tx.QueryContext(ctx, `SELECT max(l.pos) FROM unnest($1::bigint[], $2::bigint[]) AS r (first, next) JOIN skiff_log l ON l.pos >= r.first AND l.pos < r.next GROUP BY r.first`, first, next)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var pos mvcc.Pos
		if err := rows.Scan(&pos); err != nil {
			return nil, err
		}
		out[pos.Revision()] = pos
	}
	return out, rows.Err()
}

func (t *target) Finish(ctx context.Context, revision int64) error {
	return t.transact(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE skiff_meta SET revision = $1, compact = $1, oldest = $1, source = '' WHERE id = 1`, revision)
		return err
	})
}

func (t *target) Close() error {
	if t.db == nil {
		return nil
	}
	return t.db.Close()
}
