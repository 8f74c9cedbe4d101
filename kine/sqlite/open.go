package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	// The driver "sqlite".
	sqlite3 "modernc.org/sqlite"
	sqlite3lib "modernc.org/sqlite/lib"

	"skiff/kine"
)

// lockFile takes the store for this process. It holds until the file is closed,
// also when the process is killed.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("sqlite: lock file: %w", explainFS(err))
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		holder := make([]byte, 32)
		n, _ := f.ReadAt(holder, 0)
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("sqlite: %s is in use by process %s: stop that one first; a SQLite store serves one process, several servers share a postgres:// one", strings.TrimSuffix(path, ".lock"), strings.TrimSpace(string(holder[:n])))
		}
		return nil, fmt.Errorf("sqlite: lock %s: %w", path, err)
	}
	if err := f.Truncate(0); err != nil {
		f.Close()
		return nil, fmt.Errorf("sqlite: lock file: %w", explainFS(err))
	}
	if _, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0); err != nil {
		f.Close()
		return nil, fmt.Errorf("sqlite: lock file: %w", explainFS(err))
	}
	return f, nil
}

func explainFS(err error) error {
	switch {
	case errors.Is(err, unix.EROFS):
		return fmt.Errorf("%w: the file system is read-only: remount it writable", err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: run as root, or give this user the folder", err)
	case errors.Is(err, unix.EISDIR):
		return fmt.Errorf("%w: name a file in it, such as state.db", err)
	case errors.Is(err, unix.ENOSPC):
		return fmt.Errorf("%w: free some space", err)
	}
	return err
}

// busyTimeout is how long a connection waits for a lock that another one holds.
const busyTimeout = 10 * time.Second

// dsn is the driver's name of the file. Readers cannot write.
func dsn(path string, reader bool) string {
	q := url.Values{}
	q.Add("_pragma", fmt.Sprintf("busy_timeout(%d)", busyTimeout.Milliseconds()))
	if reader {
		q.Add("_pragma", "query_only(1)")
		q.Add("_pragma", "cache_size(-8000)")
	} else {
		q.Add("_pragma", "auto_vacuum(incremental)")
		q.Add("_pragma", "journal_mode(wal)")
		q.Add("_pragma", "synchronous(full)")
		q.Add("_pragma", "cache_size(-16000)")
		// Checkpoints run in the writer's pauses, not inside a commit.
		q.Add("_pragma", "wal_autocheckpoint(0)")
		// What a burst or a long read made of it is cut off when it begins anew.
		q.Add("_pragma", fmt.Sprintf("journal_size_limit(%d)", checkpointPages*pageBytes))
		q.Add("_txlock", "immediate")
	}
	return (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: q.Encode()}).String()
}

// open opens or makes the database and loads the index.
func (s *Store) open(ctx context.Context) (err error) {
	if err := os.MkdirAll(filepath.Dir(s.cfg.Path), 0o700); err != nil {
		return fmt.Errorf("sqlite: %w", explainFS(err))
	}
	lock, err := lockFile(s.cfg.Path + ".lock")
	if err != nil {
		return err
	}
	s.lock = lock
	// A full disk has room for what opening needs.
	if err := s.reserve.open(s.cfg.Path); err != nil {
		return fmt.Errorf("sqlite: %w", explainFS(err))
	}
	// SQLite gives a new file, its log and its index the mode of the file.
	f, err := os.OpenFile(s.cfg.Path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("sqlite: %w", explainFS(err))
	}
	f.Close()
	// The times of the files are not worth a turn of the file system's journal at
	// each commit. The switch is the process's; every sync is as safe with it.
	if _, err := sqlite3.Fdatasync(true); err != nil {
		s.cfg.Log.Debug("syncs write the times of the files too", "err", err)
	}
	if s.db, err = sql.Open("sqlite", dsn(s.cfg.Path, false)); err != nil {
		return fmt.Errorf("sqlite: %w", err)
	}
	s.db.SetMaxOpenConns(1)
	if err := s.prepareSchema(ctx); err != nil {
		return fmt.Errorf("sqlite: %s: %w", s.cfg.Path, explain(err))
	}
	if s.conn, err = s.db.Conn(ctx); err != nil {
		return fmt.Errorf("sqlite: %s: %w", s.cfg.Path, explain(err))
	}
	if s.readers, err = sql.Open("sqlite", dsn(s.cfg.Path, true)); err != nil {
		return fmt.Errorf("sqlite: %w", err)
	}
	s.readers.SetMaxOpenConns(8)
	s.readers.SetMaxIdleConns(4)
	if s.oneValue, err = s.readers.PrepareContext(ctx, oneValue); err != nil {
		return fmt.Errorf("sqlite: %s: %w", s.cfg.Path, explain(err))
	}
	if err := s.load(ctx); err != nil {
		return fmt.Errorf("sqlite: load %s: %w", s.cfg.Path, explain(err))
	}
	if err := s.files.open(s.cfg.Path); err != nil {
		return fmt.Errorf("sqlite: %w", explainFS(err))
	}
	if err := s.reserve.take(); err != nil {
		return fmt.Errorf("sqlite: %w", explainFS(err))
	}
	return nil
}

func (s *Store) prepareSchema(ctx context.Context) error {
	var version, app, tables int
	if err := s.db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return err
	}
	if err := s.db.QueryRowContext(ctx, "PRAGMA application_id").Scan(&app); err != nil {
		return err
	}
	if err := s.db.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_schema").Scan(&tables); err != nil {
		return err
	}
	steps := []string{schema}
	switch {
	case version > schemaVersion && app == applicationID:
		return newerSchema(version)
	case version == schemaVersion && app == applicationID:
		return nil
	case version > 0 && app == applicationID:
		steps = upgrades[version-1:]
	case tables > 0:
		return errors.New("is a database of another program: `skiff migrate --from` reads the ones of k3s' kine; choose another path for the new store")
	}
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	for _, text := range append(steps, stamp()) {
		if _, err := tx.ExecContext(ctx, text); err != nil {
			return err
		}
	}
	return tx.Commit()
}

func newerSchema(version int) error {
	return fmt.Errorf("was written by a newer skiff (schema %d, this one knows %d): run that version, or restore a backup made before the upgrade", version, schemaVersion)
}

// passes tells whether what keeps the store from opening can pass by itself.
func passes(err error) bool {
	if errors.Is(err, kine.ErrNoSpace) {
		return true
	}
	for _, errno := range []error{unix.ENOSPC, unix.EDQUOT, unix.EROFS, unix.EACCES, unix.EPERM, unix.EIO, unix.EMFILE, unix.ENFILE, unix.ENOMEM} {
		if errors.Is(err, errno) {
			return true
		}
	}
	var e *sqlite3.Error
	if !errors.As(err, &e) {
		return false
	}
	switch e.Code() & 0xff {
	case sqlite3lib.SQLITE_READONLY, sqlite3lib.SQLITE_FULL, sqlite3lib.SQLITE_IOERR, sqlite3lib.SQLITE_CANTOPEN, sqlite3lib.SQLITE_BUSY, sqlite3lib.SQLITE_NOMEM:
		return true
	}
	return false
}

// explain adds the remedy to what SQLite says.
func explain(err error) error {
	var e *sqlite3.Error
	if !errors.As(err, &e) {
		return err
	}
	switch e.Code() & 0xff {
	case sqlite3lib.SQLITE_CORRUPT, sqlite3lib.SQLITE_NOTADB:
		return fmt.Errorf("the database is damaged: restore the newest backup with `skiff restore`, and check the disk: %w", err)
	case sqlite3lib.SQLITE_READONLY:
		return fmt.Errorf("the database cannot be written: is the file system read-only or the file another user's?: %w", err)
	case sqlite3lib.SQLITE_FULL:
		return fmt.Errorf("%w: the disk is full: free some space: %w", kine.ErrNoSpace, err)
	case sqlite3lib.SQLITE_IOERR:
		return fmt.Errorf("the disk does not read or write: check it: %w", err)
	}
	return err
}
