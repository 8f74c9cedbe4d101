package sqlite

import "fmt"

// schemaVersion is PRAGMA user_version of the files this program writes.
const schemaVersion = 2

// applicationID marks the file as skiff's ("skif").
const applicationID = 0x736b6966

// The log has every write that is kept; pos is mvcc.Pos, so that commit order is
// key order. prev is the position of the write that it replaced, or 0. current
// points from each key that exists to its newest write. moment says when a
// revision was the newest, in seconds since 1970.
const schema = `
CREATE TABLE log (
	pos     INTEGER PRIMARY KEY,
	key     TEXT NOT NULL,
	created INTEGER NOT NULL,
	count   INTEGER NOT NULL,
	lease   INTEGER NOT NULL,
	prev    INTEGER NOT NULL,
	value   BLOB
) STRICT;
CREATE TABLE current (
	key     TEXT PRIMARY KEY,
	pos     INTEGER NOT NULL,
	created INTEGER NOT NULL,
	count   INTEGER NOT NULL,
	lease   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE lease (
	id  INTEGER PRIMARY KEY,
	ttl INTEGER NOT NULL
) STRICT;
CREATE TABLE moment (
	revision INTEGER PRIMARY KEY,
	at       INTEGER NOT NULL
) STRICT;
-- revision: the newest one; compact: what is below cannot be read, oldest: nor
-- in the history; removed: up to where the log has been cleaned, and thinned: up
-- to where the history that is kept was looked through.
CREATE TABLE meta (
	name  TEXT PRIMARY KEY,
	value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO meta VALUES ('revision', 1), ('compact', 0), ('oldest', 0), ('removed', 0), ('thinned', 0);
`

// stamp says whose file it is.
func stamp() string {
	return fmt.Sprintf("PRAGMA user_version=%d; PRAGMA application_id=%d;", schemaVersion, applicationID)
}

// upgrades[i] leads from schema version i+1 to i+2.
var upgrades = []string{`
CREATE TABLE moment (
	revision INTEGER PRIMARY KEY,
	at       INTEGER NOT NULL
) STRICT;
INSERT INTO meta SELECT 'oldest', value FROM meta WHERE name='compact';
INSERT INTO meta SELECT 'thinned', value FROM meta WHERE name='removed';
`}
