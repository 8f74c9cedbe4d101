package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"os"

	"skiff/kine"
	"skiff/kine/mvcc"
	"skiff/kine/transfer"
)

// source is the state of a database file at one moment: that of a transaction
// on the write-ahead log, which a server may go on writing.
type source struct {
	lock     *os.File
	db       *sql.DB
	tx       *sql.Tx
	revision int64
}

// OpenSource opens a database file to move its state elsewhere. It may be the
// file of another kine.
func OpenSource(ctx context.Context, path string) (_ transfer.Source, err error) {
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("sqlite: %w", explainFS(err))
	}
	s := &source{}
	defer func() {
		if err != nil {
			err = fmt.Errorf("sqlite: %s: %w", path, explain(errors.Join(err, s.Close())))
		}
	}()
	if s.db, err = sql.Open("sqlite", dsn(path, true)); err != nil {
		return nil, err
	}
	var foreign int
	if err := s.db.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_schema WHERE type='table' AND name='kine'").Scan(&foreign); err != nil {
		return nil, err
	}
	if foreign == 0 {
		if err := checkOwn(ctx, s.db); err != nil {
			return nil, err
		}
		// A file that no server holds stays as it is while it is read.
		if lock, lerr := lockFile(path + ".lock"); lerr == nil {
			s.lock = lock
		}
	}
	if s.tx, err = s.db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true}); err != nil {
		return nil, err
	}
	if foreign > 0 {
		k := &kineSource{source: s}
		return k, k.open(ctx)
	}
	// The first read is what fixes the moment.
	var newest int64
	err = s.tx.QueryRowContext(ctx, "SELECT (SELECT value FROM meta WHERE name='revision'), (SELECT coalesce(max(pos),0) FROM log)").Scan(&s.revision, &newest)
	s.revision = max(s.revision, mvcc.Pos(newest).Revision())
	return s, err
}

// checkOwn refuses files that this program does not know.
func checkOwn(ctx context.Context, db *sql.DB) error {
	var version, app int
	if err := db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return err
	}
	if err := db.QueryRowContext(ctx, "PRAGMA application_id").Scan(&app); err != nil {
		return err
	}
	switch {
	case app != applicationID:
		return errors.New("is neither skiff's database nor one of k3s' kine")
	case version > schemaVersion:
		return newerSchema(version)
	}
	return nil
}

func (s *source) Revision() int64 { return s.revision }
func (s *source) Quiet() bool     { return s.lock != nil }

func (s *source) Close() error {
	var errs []error
	if s.tx != nil {
		errs = append(errs, s.tx.Rollback())
	}
	if s.db != nil {
		errs = append(errs, s.db.Close())
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
	}
	return errors.Join(errs...)
}

func (s *source) Keys(ctx context.Context) iter.Seq2[kine.KeyValue, error] { return keys(ctx, s.tx) }

type querier interface {
	QueryContext(ctx context.Context, text string, args ...any) (*sql.Rows, error)
}

// keys reads every key with its value.
func keys(ctx context.Context, q querier) iter.Seq2[kine.KeyValue, error] {
	return each(ctx, q, "SELECT c.key, c.pos, c.created, c.count, c.lease, l.value, l.pos IS NULL FROM current c LEFT JOIN log l ON l.pos = c.pos ORDER BY c.key",
		func(rows *sql.Rows) (kine.KeyValue, error) {
			v := mvcc.Version{}
			var value []byte
			var lost bool
			if err := rows.Scan(&v.Key, &v.Pos, &v.Created, &v.Count, &v.Lease, &value, &lost); err != nil {
				return kine.KeyValue{}, err
			}
			if lost {
				return kine.KeyValue{}, fmt.Errorf("the database is damaged: key %q has lost its value: restore the newest backup with `skiff restore`", v.Key)
			}
			return v.KeyValue(notNil(value)), nil
		})
}

// each turns the rows of a query into values, the error that ends them included.
func each[T any](ctx context.Context, q querier, text string, scan func(*sql.Rows) (T, error), args ...any) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var zero T
		rows, err := q.QueryContext(ctx, text, args...)
		if err != nil {
			yield(zero, explain(err))
			return
		}
		defer rows.Close()
		for rows.Next() {
			v, err := scan(rows)
			if err != nil {
				yield(zero, explain(err))
				return
			}
			if !yield(v, nil) {
				return
			}
		}
		if err := rows.Err(); err != nil {
			yield(zero, explain(err))
		}
	}
}

func notNil(value []byte) []byte {
	if value == nil {
		return []byte{}
	}
	return value
}

func (s *source) Leases(ctx context.Context) ([]kine.Lease, error) {
	var out []kine.Lease
	for l, err := range each(ctx, s.tx, "SELECT id, ttl FROM lease ORDER BY id", func(rows *sql.Rows) (l kine.Lease, err error) {
		return l, rows.Scan(&l.ID, &l.TTL)
	}) {
		if err != nil {
			return nil, err
		}
		out = append(out, l)
	}
	return out, nil
}
