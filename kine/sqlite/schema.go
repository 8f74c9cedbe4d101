package sqlite

// schemaVersion is PRAGMA user_version of the files this program writes.
const schemaVersion = 1

// applicationID marks the file as skiff's ("skif").
const applicationID = 0x736b6966

// The log has every write that is kept; pos is mvcc.Pos, so that commit order is
// key order. prev is the position of the write that it replaced, or 0. current
// points from each key that exists to its newest write.
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
-- revision: the newest one; compact: what is below cannot be read;
-- removed: up to where the log has been cleaned.
CREATE TABLE meta (
	name  TEXT PRIMARY KEY,
	value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO meta VALUES ('revision', 1), ('compact', 0), ('removed', 0);
`
