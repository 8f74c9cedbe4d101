package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// restoreGap is how far a restore moves the revision on: more than any writes
// that the backup may lack, so that no revision is given twice.
const restoreGap = 1_000_000

// Snapshot copies the database at from into a new file at to: a consistent state
// while a server goes on writing.
func Snapshot(ctx context.Context, from, to string) (err error) {
	if _, err := os.Stat(to); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("sqlite: %s exists already: name a new file", to)
	}
	if _, err := os.Stat(from); err != nil {
		return fmt.Errorf("sqlite: %w", explainFS(err))
	}
	// The file is made first, so that the copy has its mode.
	tmp := to + ".new"
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return fmt.Errorf("sqlite: %w", explainFS(err))
	}
	defer func() {
		if err != nil {
			os.Remove(tmp)
		}
	}()
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("sqlite: %w", explainFS(err))
	}
	f.Close()
	// A connection that may write, since VACUUM INTO counts as one; it changes
	// nothing in the database that it copies.
	db, err := sql.Open("sqlite", dsn(from, false))
	if err != nil {
		return fmt.Errorf("sqlite: %w", err)
	}
	defer db.Close()
	if _, err := db.ExecContext(ctx, "VACUUM INTO ?", tmp); err != nil {
		return fmt.Errorf("sqlite: snapshot of %s: %w", from, explain(err))
	}
	if err := syncFile(tmp); err != nil {
		return fmt.Errorf("sqlite: %w", explainFS(err))
	}
	return os.Rename(tmp, to)
}

func syncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// Verify checks a database file: SQLite's own structure, and that each key points
// to a write of the log. It returns the number of keys and the revision.
func Verify(ctx context.Context, path string) (keys, revision int64, err error) {
	if _, err := os.Stat(path); err != nil {
		return 0, 0, fmt.Errorf("sqlite: %w", explainFS(err))
	}
	db, err := sql.Open("sqlite", dsn(path, true))
	if err != nil {
		return 0, 0, fmt.Errorf("sqlite: %w", err)
	}
	defer db.Close()
	var verdict string
	if err := db.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&verdict); err != nil {
		return 0, 0, fmt.Errorf("sqlite: %s: %w", path, explain(err))
	}
	if verdict != "ok" {
		return 0, 0, fmt.Errorf("sqlite: %s is damaged: %s", path, verdict)
	}
	var lost int64
	err = db.QueryRowContext(ctx, `SELECT (SELECT count(*) FROM current), (SELECT value FROM meta WHERE name='revision'),
		(SELECT count(*) FROM current c LEFT JOIN log l ON l.pos = c.pos AND l.key = c.key WHERE l.pos IS NULL)`).Scan(&keys, &revision, &lost)
	if err != nil {
		return 0, 0, fmt.Errorf("sqlite: %s: %w", path, explain(err))
	}
	if lost > 0 {
		return 0, 0, fmt.Errorf("sqlite: %s: %d keys have lost their values", path, lost)
	}
	return keys, revision, nil
}

// Rebase moves a restored database's revision on and marks all before it as
// compacted: clients list again, and none sees time run back.
func Rebase(ctx context.Context, path string) error {
	lock, err := lockFile(path + ".lock")
	if err != nil {
		return err
	}
	defer lock.Close()
	db, err := sql.Open("sqlite", dsn(path, false))
	if err != nil {
		return fmt.Errorf("sqlite: %w", err)
	}
	defer db.Close()
	_, err = db.ExecContext(ctx, "UPDATE meta SET value = (SELECT value FROM meta WHERE name='revision') + ? WHERE name IN ('revision', 'compact')", restoreGap)
	if err != nil {
		return fmt.Errorf("sqlite: %s: %w", path, explain(err))
	}
	return nil
}
