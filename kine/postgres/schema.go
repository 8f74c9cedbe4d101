package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/lib/pq"
)

// channel is what NOTIFY calls.
const channel = "skiff_kine"

// migrations[i] leads from schema version i to i+1.
//
// The log has every write that is kept; pos is mvcc.Pos, so that commit order is
// key order, and prev is the position of the write that it replaced, or 0.
// current points from each key that exists to its newest write. meta has one
// row: its lock is what orders the writes of all servers. cleaner's row is for
// whoever removes old rows, and says up to where that is done. oldest is where the
// kept history begins, thinned up to where it was looked through, and moment says
// when a revision was the newest. source names where an unfinished transfer into
// these tables comes from.
var migrations = [][]string{{
	`CREATE TABLE skiff_meta (
		id       integer PRIMARY KEY CHECK (id = 1),
		revision bigint NOT NULL,
		compact  bigint NOT NULL
	) WITH (fillfactor = 20)`,
	`INSERT INTO skiff_meta (id, revision, compact) VALUES (1, 1, 0)`,
	`CREATE TABLE skiff_cleaner (id integer PRIMARY KEY CHECK (id = 1), removed bigint NOT NULL)`,
	`INSERT INTO skiff_cleaner (id, removed) VALUES (1, 0)`,
	`CREATE TABLE skiff_log (
		pos     bigint PRIMARY KEY,
		key     bytea  NOT NULL,
		created bigint NOT NULL,
		count   bigint NOT NULL,
		lease   bigint NOT NULL,
		prev    bigint NOT NULL,
		value   bytea  NOT NULL
	)`,
	`CREATE TABLE skiff_current (
		key     bytea  PRIMARY KEY,
		pos     bigint NOT NULL,
		created bigint NOT NULL,
		count   bigint NOT NULL,
		lease   bigint NOT NULL
	)`,
	`CREATE INDEX skiff_current_lease ON skiff_current (lease) WHERE lease <> 0`,
	`CREATE TABLE skiff_lease (id bigint PRIMARY KEY, ttl bigint NOT NULL, expires timestamptz NOT NULL)`,
}, {
	`ALTER TABLE skiff_meta ADD COLUMN oldest bigint NOT NULL DEFAULT 0`,
	`ALTER TABLE skiff_meta ADD COLUMN source text NOT NULL DEFAULT ''`,
	`ALTER TABLE skiff_cleaner ADD COLUMN thinned bigint NOT NULL DEFAULT 0`,
	`UPDATE skiff_meta SET oldest = compact`,
	`UPDATE skiff_cleaner SET thinned = removed`,
	`CREATE TABLE skiff_moment (revision bigint PRIMARY KEY, at timestamptz NOT NULL)`,
}}

// migrate brings the tables to this program's version. Servers that start
// together take turns.
func migrate(ctx context.Context, db *sql.DB) error {
	_, err := db.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS skiff_schema (id integer PRIMARY KEY, version integer NOT NULL)`)
	if err != nil && !alreadyThere(err) {
		return err
	}
	if _, err := db.ExecContext(ctx, `INSERT INTO skiff_schema (id, version) VALUES (1, 0) ON CONFLICT (id) DO NOTHING`); err != nil {
		return err
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	var version int
	if err := tx.QueryRowContext(ctx, `SELECT version FROM skiff_schema WHERE id = 1 FOR UPDATE`).Scan(&version); err != nil {
		return err
	}
	if version > len(migrations) {
		return &schemaError{version}
	}
	for ; version < len(migrations); version++ {
		for _, text := range migrations[version] {
			if _, err := tx.ExecContext(ctx, text); err != nil {
				return fmt.Errorf("schema version %d: %w", version+1, err)
			}
		}
	}
	if _, err := tx.ExecContext(ctx, `UPDATE skiff_schema SET version = $1 WHERE id = 1`, version); err != nil {
		return err
	}
	return tx.Commit()
}

// schemaError is what no waiting helps against.
type schemaError struct{ version int }

func (e *schemaError) Error() string {
	return fmt.Sprintf("the database was written by a newer skiff (schema %d, this one knows %d): run that version, or restore a backup made before the upgrade", e.version, len(migrations))
}

// alreadyThere tells that another server made the same table at this moment.
func alreadyThere(err error) bool {
	var e *pq.Error
	if !errors.As(err, &e) {
		return false
	}
	return e.Code == "23505" || e.Code == "42P07" || e.Code == "42710"
}
