package postgres

import "context"

// The database plans a statement as large as storeGroup for longer than it takes to store
// a small group by it. A function's plans are kept by each connection, without a name in
// the protocol, which a pooler would lose.
//
// It does what storeGroup does, and is called with the same. The tables are small when
// the plans are made and large later: none is read as a whole.
const (
	makeStoreFunction = `CREATE OR REPLACE FUNCTION skiff_store_1(
		g_pos bigint[], g_key bytea[], g_created bigint[], g_count bigint[], g_lease bigint[], g_prev bigint[], g_start integer[], g_size integer[], g_current boolean[],
		g_value bytea, g_revision bigint, g_base bigint, g_absent bytea[], g_gone bytea[], g_note text
	) RETURNS boolean LANGUAGE plpgsql SET enable_seqscan = off AS $$
	BEGIN
		UPDATE skiff_meta SET revision = g_revision WHERE id = 1 AND revision = g_base
			AND NOT EXISTS (SELECT 1 FROM skiff_current WHERE key = ANY(g_absent));
		IF NOT FOUND THEN
			RETURN false;
		END IF;
		INSERT INTO skiff_log (pos, key, created, count, lease, prev, value)
			SELECT w.pos, w.key, w.created, w.count, w.lease, w.prev, substr(g_value, w.start, w.size)
			FROM unnest(g_pos, g_key, g_created, g_count, g_lease, g_prev, g_start, g_size) AS w (pos, key, created, count, lease, prev, start, size);
		INSERT INTO skiff_current (key, pos, created, count, lease)
			SELECT w.key, w.pos, w.created, w.count, w.lease
			FROM unnest(g_pos, g_key, g_created, g_count, g_lease, g_current) AS w (pos, key, created, count, lease, current) WHERE w.current
			ON CONFLICT (key) DO UPDATE SET pos = excluded.pos, created = excluded.created, count = excluded.count, lease = excluded.lease;
		IF cardinality(g_gone) > 0 THEN
			DELETE FROM skiff_current WHERE key = ANY(g_gone);
		END IF;
		IF g_note <> '' THEN
			PERFORM pg_notify('` + channel + `', g_note);
		END IF;
		RETURN true;
	END $$`
	hasStoreFunction = `SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
		WHERE p.proname = 'skiff_store_1' AND n.nspname = current_schema())`
	callStoreFunction = `SELECT 1 WHERE skiff_store_1($1::bigint[], $2::bytea[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::integer[], $8::integer[], $9::boolean[],
		$10::bytea, $11::bigint, $12::bigint, $13::bytea[], $14::bytea[], $15::text)`
)

// storeFunction tells whether the database has the function, after it was made where it
// can be: a role may lack the right, and a distributed database the language.
func (s *Store) storeFunction(ctx context.Context) bool {
	has := func() (yes bool) {
		return s.writer.QueryRowContext(ctx, hasStoreFunction).Scan(&yes) == nil && yes
	}
	if has() {
		return true
	}
	if _, err := s.writer.ExecContext(ctx, makeStoreFunction); err != nil {
		s.cfg.Log.Debug("groups are stored by a statement, which the database plans each time", "err", err)
	}
	return has() // another server may have made it
}
