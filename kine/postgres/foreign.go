package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"math"

	"github.com/lib/pq"

	"skiff/kine"
	"skiff/kine/transfer"
)

// kineTable is the table of k3s' kine, which makes what is missing by itself. A row's id
// is its revision; a delete is a row; lease is the time to live itself, in seconds.
const kineTable = `
CREATE TABLE IF NOT EXISTS kine (
	id BIGSERIAL PRIMARY KEY,
	name TEXT COLLATE "C",
	created INTEGER,
	deleted INTEGER,
	create_revision BIGINT,
	prev_revision BIGINT,
	lease INTEGER,
	value BYTEA,
	old_value BYTEA
);
CREATE INDEX IF NOT EXISTS kine_name_index ON kine (name);
CREATE INDEX IF NOT EXISTS kine_name_id_index ON kine (name, id);
CREATE INDEX IF NOT EXISTS kine_id_deleted_index ON kine (id, deleted);
CREATE INDEX IF NOT EXISTS kine_prev_revision_index ON kine (prev_revision);
CREATE UNIQUE INDEX IF NOT EXISTS kine_name_prev_revision_uindex ON kine (name, prev_revision);
CREATE INDEX IF NOT EXISTS kine_list_query_index ON kine (name, id DESC, deleted);
`

// kineStage is where the keys are until all of them are there.
const kineStage = `
CREATE TABLE IF NOT EXISTS kine_transfer (
	key BYTEA PRIMARY KEY,
	revision BIGINT NOT NULL,
	created BIGINT NOT NULL,
	lease BIGINT NOT NULL,
	ttl INTEGER NOT NULL,
	value BYTEA NOT NULL
);
CREATE TABLE IF NOT EXISTS kine_transfer_source (source TEXT NOT NULL);
`

// kineFill makes kine's rows of the stage. Keys that one transaction wrote share a
// revision, and rows cannot: the next free one is theirs. A row names none before it,
// since kine would take what has that id for old.
const kineFill = `INSERT INTO kine (id, name, created, deleted, create_revision, prev_revision, lease, value)
	SELECT n + max(revision - n) OVER (ORDER BY n), convert_from(key, 'UTF8'), CASE WHEN created = revision THEN 1 ELSE 0 END, 0,
		CASE WHEN created = revision THEN 0 ELSE created END, 0, ttl, value
	FROM (SELECT *, row_number() OVER (ORDER BY revision, key) AS n FROM kine_transfer) k`

// kineSource is the database of k3s' kine.
type kineSource struct{ *source }

// OpenKineSource opens the database of k3s' kine, which may have skiff's tables too.
func OpenKineSource(ctx context.Context, url string) (transfer.Source, error) {
	return openSource(ctx, url, func(s *source, _, foreign bool) (transfer.Source, error) {
		if !foreign {
			return nil, errors.New("the database does not hold the table of k3s' kine: check the database and the search_path of the URL")
		}
		return s.kine(ctx)
	})
}

func (s *source) kine(ctx context.Context) (*kineSource, error) {
	return &kineSource{s}, s.tx.QueryRowContext(ctx, `SELECT coalesce(max(id), 1) FROM kine`).Scan(&s.revision)
}

func (s *kineSource) Keys(ctx context.Context) iter.Seq2[kine.KeyValue, error] {
	return each(ctx, s.tx, `SELECT k.name, k.id, coalesce(k.created, 0) <> 0, coalesce(k.create_revision, 0), coalesce(k.lease, 0), coalesce(k.value, '')
		FROM kine k JOIN (SELECT max(id) AS id FROM kine GROUP BY name) n ON n.id = k.id
		WHERE k.deleted = 0 AND k.name <> 'compact_rev_key' AND k.name NOT LIKE 'gap-%' ORDER BY k.name COLLATE "C"`, scanKine)
}

// scanKine reads a row of a key: the table does not count its versions; what counts for
// clients is whether there was one before.
func scanKine(rows *sql.Rows) (kine.KeyValue, error) {
	kv := kine.KeyValue{Version: 1}
	var created bool
	var key []byte
	if err := rows.Scan(&key, &kv.ModRevision, &created, &kv.CreateRevision, &kv.Lease, &kv.Value); err != nil {
		return kv, err
	}
	kv.Key = string(key)
	if created || kv.CreateRevision == 0 {
		kv.CreateRevision = kv.ModRevision
	}
	if kv.CreateRevision != kv.ModRevision {
		kv.Version = 2
	}
	return kv, nil
}

// Leases are one for each time to live: its number is the lease's too.
func (s *kineSource) Leases(ctx context.Context) ([]kine.Lease, error) {
	return leases(ctx, s.tx, `SELECT DISTINCT lease, lease FROM kine WHERE lease > 0 AND deleted = 0`)
}

// kineTarget is a database for k3s' kine.
type kineTarget struct {
	target
	ttls map[int64]int64
}

// NewKineTarget is a database without a store of k3s' kine as the target of a transfer.
func NewKineTarget(url string) transfer.Target { return &kineTarget{target: target{url: url}} }

func (t *kineTarget) Begin(ctx context.Context, from string, _ int64) (err error) {
	if t.db, err = openTransfer(t.url); err != nil {
		return fmt.Errorf("postgres: %w", err)
	}
	if err := t.transact(ctx, func(tx *sql.Tx) error { return t.claim(ctx, tx, from) }); err != nil {
		return fmt.Errorf("postgres: %w", err)
	}
	return nil
}

// claim makes the stage, or finds that of an earlier run from the same source. The table
// itself comes at the end, so that nobody takes half of the keys for all.
func (t *kineTarget) claim(ctx context.Context, tx *sql.Tx, from string) error {
	var used bool
	if err := tx.QueryRowContext(ctx, `SELECT to_regclass('kine') IS NOT NULL`).Scan(&used); err != nil {
		return err
	}
	if used {
		if err := tx.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM kine)`).Scan(&used); err != nil {
			return err
		}
	}
	if used {
		return fmt.Errorf("%w: its table kine has rows; name an empty database or search_path", transfer.ErrNotEmpty)
	}
	if _, err := tx.ExecContext(ctx, kineStage); err != nil {
		return err
	}
	var was string
	err := tx.QueryRowContext(ctx, `SELECT source FROM kine_transfer_source`).Scan(&was)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		_, err := tx.ExecContext(ctx, `INSERT INTO kine_transfer_source VALUES ($1)`, from)
		return err
	case err == nil && was != from:
		return fmt.Errorf("%w: it holds an unfinished transfer from %s; finish that one, or drop the tables kine_transfer and kine_transfer_source", transfer.ErrNotEmpty, was)
	}
	return err
}

// KeepsRevisions is false: the table does not count versions.
func (t *kineTarget) KeepsRevisions() bool { return false }

func (t *kineTarget) Grant(_ context.Context, leases []kine.Lease) error {
	t.ttls = map[int64]int64{}
	for _, l := range leases {
		t.ttls[l.ID] = min(l.TTL, math.MaxInt32)
	}
	return nil
}

// Keys have the ids of their leases again, so that they compare.
func (t *kineTarget) Keys(ctx context.Context) iter.Seq2[kine.KeyValue, error] {
	return each(ctx, t.db, `SELECT key, revision, created = revision, created, lease, value FROM kine_transfer ORDER BY key`, scanKine)
}

func (t *kineTarget) Apply(ctx context.Context, puts []kine.KeyValue, deletes []string) error {
	return t.transact(ctx, func(tx *sql.Tx) error {
		var gone, keys, values pq.ByteaArray
		var revisions, created, leases, ttls pq.Int64Array
		for _, key := range deletes {
			gone = append(gone, []byte(key))
		}
		for i := range puts {
			kv := &puts[i]
			keys, values = append(keys, []byte(kv.Key)), append(values, kv.Value)
			revisions, created = append(revisions, kv.ModRevision), append(created, kv.CreateRevision)
			leases, ttls = append(leases, kv.Lease), append(ttls, t.ttls[kv.Lease])
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM kine_transfer WHERE key = ANY($1::bytea[])`, append(gone, keys...)); err != nil || len(puts) == 0 {
			return err
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO kine_transfer (key, revision, created, lease, ttl, value)
			SELECT * FROM unnest($1::bytea[], $2::bigint[], $3::bigint[], $4::bigint[], $5::integer[], $6::bytea[])`, keys, revisions, created, leases, ttls, values)
		return err
	})
}

// Finish moves the keys to their table and its next id on, and says that what was before
// is compacted.
func (t *kineTarget) Finish(ctx context.Context, revision int64) error {
	return t.transact(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, kineTable+kineFill); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO kine (id, name, created, deleted, create_revision, prev_revision, lease, value)
			SELECT n.id, 'compact_rev_key', 1, 0, 0, n.id - 1, 0, ''
			FROM (SELECT greatest($1::bigint, max(id) + 1) AS id FROM kine) n`, revision)
		if err == nil {
			_, err = tx.ExecContext(ctx, `SELECT setval(pg_get_serial_sequence('kine', 'id'), max(id)) FROM kine`)
		}
		if err == nil {
			_, err = tx.ExecContext(ctx, `DROP TABLE kine_transfer, kine_transfer_source`)
		}
		return err
	})
}
