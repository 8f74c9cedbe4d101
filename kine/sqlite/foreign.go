package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"iter"

	"skiff/kine"
)

// kineSchema is the table of k3s' kine. A row's id is its revision; a delete is
// a row; lease is the time to live itself, in seconds.
const kineSchema = `
CREATE TABLE kine (
	id INTEGER PRIMARY KEY AUTOINCREMENT,
	name INTEGER,
	created INTEGER,
	deleted INTEGER,
	create_revision INTEGER,
	prev_revision INTEGER,
	lease INTEGER,
	value BLOB,
	old_value BLOB
);
CREATE INDEX kine_name_index ON kine (name);
CREATE INDEX kine_name_id_index ON kine (name, id);
CREATE INDEX kine_id_deleted_index ON kine (id, deleted);
CREATE INDEX kine_prev_revision_index ON kine (prev_revision);
CREATE UNIQUE INDEX kine_name_prev_revision_uindex ON kine (name, prev_revision);
CREATE INDEX kine_list_query_index ON kine (name, id DESC, deleted);
`

// kineCompactKey is the row that says up to where kine has compacted, and
// kineGaps are what it puts where a revision is missing.
const (
	kineCompactKey = "compact_rev_key"
	kineGaps       = "gap-"
)

// kineNewest are the keys of such a table as they are now.
const kineNewest = `SELECT k.name, k.id, k.created, k.create_revision, k.lease, k.value
	FROM kine k JOIN (SELECT max(id) AS id FROM kine GROUP BY name) n ON n.id = k.id
	WHERE k.deleted = 0 AND k.name <> '` + kineCompactKey + `' AND k.name NOT LIKE '` + kineGaps + `%' ORDER BY k.name`

// kineSource is the database file of k3s' kine.
type kineSource struct{ *source }

func (s *kineSource) open(ctx context.Context) error {
	return s.tx.QueryRowContext(ctx, "SELECT coalesce(max(id), 1) FROM kine").Scan(&s.revision)
}

func (s *kineSource) Keys(ctx context.Context) iter.Seq2[kine.KeyValue, error] {
	return each(ctx, s.tx, kineNewest, scanKine)
}

// scanKine reads a row of kineNewest. The table does not count the versions of
// a key; what counts for clients is whether there was one before.
func scanKine(rows *sql.Rows) (kine.KeyValue, error) {
	kv := kine.KeyValue{Version: 1}
	var created bool
	var createRevision, lease sql.NullInt64
	if err := rows.Scan(&kv.Key, &kv.ModRevision, &created, &createRevision, &lease, &kv.Value); err != nil {
		return kv, err
	}
	kv.Value, kv.Lease, kv.CreateRevision = notNil(kv.Value), lease.Int64, createRevision.Int64
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
	var out []kine.Lease
	for ttl, err := range each(ctx, s.tx, "SELECT DISTINCT lease FROM kine WHERE lease > 0 AND deleted = 0", func(rows *sql.Rows) (n int64, err error) {
		return n, rows.Scan(&n)
	}) {
		if err != nil {
			return nil, err
		}
		out = append(out, kine.Lease{ID: ttl, TTL: ttl})
	}
	return out, nil
}

// kineTarget is a new database file for k3s' kine.
type kineTarget struct {
	*target
	ttls map[int64]int64
}

// KeepsRevisions is false: the table does not count versions.
func (t *kineTarget) KeepsRevisions() bool { return false }

func (t *kineTarget) Grant(_ context.Context, leases []kine.Lease) error {
	t.ttls = map[int64]int64{}
	for _, l := range leases {
		t.ttls[l.ID] = l.TTL
	}
	return nil
}

// Keys have the ids of their leases again, so that they compare.
func (t *kineTarget) Keys(ctx context.Context) iter.Seq2[kine.KeyValue, error] {
	return each(ctx, t.db, `SELECT k.name, k.id, k.created, k.create_revision, s.lease, k.value FROM kine k JOIN staged s ON s.id = k.id ORDER BY k.name`, scanKine)
}

func (t *kineTarget) Apply(ctx context.Context, puts []kine.KeyValue, deletes []string) error {
	return t.replace(ctx, puts, deletes, []string{
		"DELETE FROM staged WHERE id IN (SELECT id FROM kine WHERE name = ?)", "DELETE FROM kine WHERE name = ?",
	}, func(tx *sql.Tx, kv *kine.KeyValue) error {
		created, before := kv.CreateRevision == kv.ModRevision, kv.CreateRevision
		if created {
			before = 0
		}
		// Keys that one transaction wrote share a revision, and a row cannot:
		// the next free one is theirs. A row names none before it, since kine
		// would take what has that id for old.
		id := kv.ModRevision
		for taken := true; taken; {
			if err := tx.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM kine WHERE id = ?)", id).Scan(&taken); err != nil {
				return err
			}
			if taken {
				id++
			}
		}
		if _, err := tx.ExecContext(ctx, "INSERT INTO kine (id, name, created, deleted, create_revision, prev_revision, lease, value) VALUES (?,?,?,0,?,0,?,?)",
			id, kv.Key, created, before, t.ttls[kv.Lease], kv.Value); err != nil {
			return fmt.Errorf("key %q: %w", kv.Key, err)
		}
		_, err := tx.ExecContext(ctx, "INSERT INTO staged (id, lease) VALUES (?,?)", id, kv.Lease)
		return err
	})
}

// Finish moves the next id on, and says that what was before is compacted.
func (t *kineTarget) Finish(ctx context.Context, revision int64) error {
	err := t.transact(ctx, func(tx *sql.Tx) error {
		var newest int64
		if err := tx.QueryRowContext(ctx, "SELECT coalesce(max(id), 0) FROM kine").Scan(&newest); err != nil {
			return err
		}
		revision = max(revision, newest+1)
		for _, q := range []struct {
			text string
			args []any
		}{
			{"DROP TABLE staged", nil},
			{"INSERT INTO kine (id, name, created, deleted, create_revision, prev_revision, lease, value) VALUES (?,?,1,0,0,?,0,?)", []any{revision, kineCompactKey, revision - 1, []byte{}}},
			{"UPDATE sqlite_sequence SET seq = ? WHERE name = 'kine'", []any{revision}},
			{"DROP TABLE transfer", nil},
		} {
			if _, err := tx.ExecContext(ctx, q.text, q.args...); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return t.install()
}
