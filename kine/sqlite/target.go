package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"

	"skiff/kine"
	"skiff/kine/mvcc"
	"skiff/kine/transfer"
)

// target is a database file that a transfer writes beside its place, and moves
// there when it is whole.
type target struct {
	path   string
	schema string
	lock   *os.File
	db     *sql.DB
}

// NewTarget is a new database file as the target of a transfer.
func NewTarget(path string) transfer.Target {
	return &target{path: path, schema: schema + stamp()}
}

// NewKineTarget is a new database file in the layout of k3s' kine.
func NewKineTarget(path string) transfer.Target {
	// staged keeps the ids of leases, which that layout does not have.
	return &kineTarget{target: &target{path: path, schema: kineSchema + "CREATE TABLE staged (id INTEGER PRIMARY KEY, lease INTEGER NOT NULL);"}}
}

// stage is where the file is while it is not whole.
func (t *target) stage() string { return t.path + ".transfer" }

func (t *target) Begin(ctx context.Context, from string, _ int64) (err error) {
	if _, err := os.Stat(t.path); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("sqlite: %w: %s exists already; name a new file, or move that one away", transfer.ErrNotEmpty, t.path)
	}
	if err := os.MkdirAll(filepath.Dir(t.path), 0o700); err != nil {
		return fmt.Errorf("sqlite: %w", explainFS(err))
	}
	if t.lock, err = lockFile(t.path + ".lock"); err != nil {
		return err
	}
	f, err := os.OpenFile(t.stage(), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("sqlite: %w", explainFS(err))
	}
	f.Close()
	if t.db, err = sql.Open("sqlite", dsn(t.stage(), false)); err != nil {
		return fmt.Errorf("sqlite: %w", err)
	}
	if err := t.claim(ctx, from); err != nil {
		return fmt.Errorf("sqlite: %s: %w", t.stage(), explain(err))
	}
	return nil
}

// claim makes the tables, or finds those of an earlier run from the same source.
func (t *target) claim(ctx context.Context, from string) error {
	var there bool
	if err := t.db.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name='transfer')").Scan(&there); err != nil {
		return err
	}
	if !there {
		return t.transact(ctx, func(tx *sql.Tx) error {
			if _, err := tx.ExecContext(ctx, t.schema+"CREATE TABLE transfer (source TEXT NOT NULL);"); err != nil {
				return err
			}
			_, err := tx.ExecContext(ctx, "INSERT INTO transfer VALUES (?)", from)
			return err
		})
	}
	var was string
	if err := t.db.QueryRowContext(ctx, "SELECT source FROM transfer").Scan(&was); err != nil {
		return err
	}
	if was != from {
		return fmt.Errorf("%w: it holds an unfinished transfer from %s; finish that one, or remove the file", transfer.ErrNotEmpty, was)
	}
	return nil
}

func (t *target) transact(ctx context.Context, do func(*sql.Tx) error) error {
	tx, err := t.db.BeginTx(ctx, nil)
	if err != nil {
		return explain(err)
	}
	if err := do(tx); err != nil {
		return errors.Join(explain(err), tx.Rollback())
	}
	return explain(tx.Commit())
}

func (t *target) KeepsRevisions() bool { return true }

func (t *target) Keys(ctx context.Context) iter.Seq2[kine.KeyValue, error] {
	// A connection of its own, which the writes of the transfer do not wait for.
	return func(yield func(kine.KeyValue, error) bool) {
		db, err := sql.Open("sqlite", dsn(t.stage(), true))
		if err != nil {
			yield(kine.KeyValue{}, err)
			return
		}
		defer db.Close()
		for kv, err := range keys(ctx, db) {
			if !yield(kv, err) {
				return
			}
		}
	}
}

func (t *target) Grant(ctx context.Context, leases []kine.Lease) error {
	return t.transact(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, "DELETE FROM lease"); err != nil {
			return err
		}
		for _, l := range leases {
			if _, err := tx.ExecContext(ctx, "INSERT INTO lease (id, ttl) VALUES (?,?)", l.ID, l.TTL); err != nil {
				return err
			}
		}
		return nil
	})
}

func (t *target) Apply(ctx context.Context, puts []kine.KeyValue, deletes []string) error {
	return t.replace(ctx, puts, deletes, []string{
		"DELETE FROM log WHERE pos = (SELECT pos FROM current WHERE key = ?)", "DELETE FROM current WHERE key = ?",
	}, func(tx *sql.Tx, kv *kine.KeyValue) error {
		// Keys that one transaction wrote follow each other in the log.
		first, next := int64(mvcc.At(kv.ModRevision, 0)), int64(mvcc.At(kv.ModRevision+1, 0))
		var pos int64
		if err := tx.QueryRowContext(ctx, "SELECT coalesce(max(pos)+1, ?) FROM log WHERE pos >= ? AND pos < ?", first, first, next).Scan(&pos); err != nil {
			return err
		}
		if pos == next {
			return fmt.Errorf("revision %d has more than %d keys", kv.ModRevision, mvcc.MaxWritesPerRevision)
		}
		if _, err := tx.ExecContext(ctx, "INSERT INTO log (pos, key, created, count, lease, prev, value) VALUES (?,?,?,?,?,0,?)", pos, kv.Key, kv.CreateRevision, kv.Version, kv.Lease, kv.Value); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, "INSERT INTO current (key, pos, created, count, lease) VALUES (?,?,?,?,?)", kv.Key, pos, kv.CreateRevision, kv.Version, kv.Lease)
		return err
	})
}

// replace removes with each of the statements, which take a key, what is deleted or
// put anew, and puts in one transaction.
func (t *target) replace(ctx context.Context, puts []kine.KeyValue, deletes, remove []string, put func(*sql.Tx, *kine.KeyValue) error) error {
	return t.transact(ctx, func(tx *sql.Tx) error {
		gone := func(key string) error {
			for _, text := range remove {
				if _, err := tx.ExecContext(ctx, text, key); err != nil {
					return err
				}
			}
			return nil
		}
		for _, key := range deletes {
			if err := gone(key); err != nil {
				return err
			}
		}
		for i := range puts {
			if err := gone(puts[i].Key); err != nil {
				return err
			}
			if err := put(tx, &puts[i]); err != nil {
				return err
			}
		}
		return nil
	})
}

func (t *target) Finish(ctx context.Context, revision int64) error {
	err := t.transact(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, "UPDATE meta SET value = ? WHERE name IN ('revision', 'compact', 'oldest')", revision); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, "DROP TABLE transfer")
		return err
	})
	if err != nil {
		return err
	}
	return t.install()
}

// install closes the file, which brings its log into it, and moves it to its
// place.
func (t *target) install() error {
	err := t.db.Close()
	t.db = nil
	if err != nil {
		return explain(err)
	}
	if _, err := os.Stat(t.stage() + "-wal"); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("sqlite: %s-wal is still there: another process has the file open; end it and try again", t.stage())
	}
	if err := syncFile(t.stage()); err != nil {
		return fmt.Errorf("sqlite: %w", explainFS(err))
	}
	// The log of a database that was taken away would be played into this one.
	for _, suffix := range []string{"-wal", "-shm"} {
		if err := os.Remove(t.path + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("sqlite: what is left of another database: %w", explainFS(err))
		}
	}
	if err := os.Rename(t.stage(), t.path); err != nil {
		return fmt.Errorf("sqlite: %w", err)
	}
	return syncFile(filepath.Dir(t.path))
}

func (t *target) Close() error {
	var errs []error
	if t.db != nil {
		errs = append(errs, t.db.Close())
	}
	if t.lock != nil {
		errs = append(errs, t.lock.Close())
	}
	return errors.Join(errs...)
}
