package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/lib/pq"

	"skiff/kine"
	"skiff/kine/mvcc"
	"skiff/kine/transfer"
)

// transferTimeout is how long the database may think before the first row of a
// whole table comes.
const transferTimeout = 10 * time.Minute

// source is the state of a database at one moment: that of a transaction, which
// servers may go on writing beside.
type source struct {
	db       *sql.DB
	tx       *sql.Tx
	revision int64
}

// OpenSource opens a database to move its state elsewhere. It may be the one of
// another kine.
func OpenSource(ctx context.Context, url string) (transfer.Source, error) {
	return openSource(ctx, url, func(s *source, own, foreign bool) (transfer.Source, error) {
		switch {
		case own:
			return s, s.open(ctx)
		case foreign:
			return s.kine(ctx)
		}
		return nil, errors.New("the database holds neither skiff's tables nor those of k3s' kine: check the database and the search_path of the URL")
	})
}

// openSource begins the transaction, and lets as say whose tables it reads.
func openSource(ctx context.Context, url string, as func(s *source, own, foreign bool) (transfer.Source, error)) (_ transfer.Source, err error) {
	s := &source{}
	defer func() {
		if err != nil {
			err = fmt.Errorf("postgres: %w", explain(errors.Join(err, s.Close())))
		}
	}()
	if s.db, err = openTransfer(url); err != nil {
		return nil, err
	}
	if s.tx, err = s.db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true}); err != nil {
		return nil, err
	}
	var own, foreign bool
	if err := s.tx.QueryRowContext(ctx, `SELECT to_regclass('skiff_schema') IS NOT NULL, to_regclass('kine') IS NOT NULL`).Scan(&own, &foreign); err != nil {
		return nil, err
	}
	return as(s, own, foreign)
}

func openTransfer(url string) (*sql.DB, error) {
	cfg, err := config(url)
	if err != nil {
		return nil, err
	}
	connector, err := pq.NewConnectorConfig(cfg)
	if err != nil {
		return nil, err
	}
	connector.Dialer(dialer{timeout: transferTimeout})
	return sql.OpenDB(connector), nil
}

func (s *source) open(ctx context.Context) error {
	var version int
	if err := s.tx.QueryRowContext(ctx, `SELECT version FROM skiff_schema WHERE id = 1`).Scan(&version); err != nil {
		return err
	}
	if version > len(migrations) {
		return &schemaError{version}
	}
	if version > 1 {
		var from string
		if err := s.tx.QueryRowContext(ctx, `SELECT source FROM skiff_meta WHERE id = 1`).Scan(&from); err != nil {
			return err
		}
		if from != "" {
			return &unfinishedError{from}
		}
	}
	return s.tx.QueryRowContext(ctx, `SELECT revision FROM skiff_meta WHERE id = 1`).Scan(&s.revision)
}

func (s *source) Revision() int64 { return s.revision }

// Quiet is false: who else writes to the database is not known.
func (s *source) Quiet() bool { return false }

func (s *source) Close() error {
	var errs []error
	if s.tx != nil {
		errs = append(errs, s.tx.Rollback())
	}
	if s.db != nil {
		errs = append(errs, s.db.Close())
	}
	return errors.Join(errs...)
}

func (s *source) Keys(ctx context.Context) iter.Seq2[kine.KeyValue, error] { return keys(ctx, s.tx) }

// keys reads every key with its value.
func keys(ctx context.Context, q querier) iter.Seq2[kine.KeyValue, error] {
	return each(ctx, q, `SELECT c.key, c.pos, c.created, c.count, c.lease, l.value FROM skiff_current c LEFT JOIN skiff_log l ON l.pos = c.pos ORDER BY c.key`,
		func(rows *sql.Rows) (kine.KeyValue, error) {
			v := mvcc.Version{}
			var key, value []byte
			if err := rows.Scan(&key, &v.Pos, &v.Created, &v.Count, &v.Lease, &value); err != nil {
				return kine.KeyValue{}, err
			}
			v.Key = string(key)
			if value == nil {
				return kine.KeyValue{}, fmt.Errorf("the database is damaged: key %q has lost its value: restore a backup", v.Key)
			}
			return v.KeyValue(value), nil
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
				yield(zero, err)
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

func (s *source) Leases(ctx context.Context) ([]kine.Lease, error) {
	return leases(ctx, s.tx, `SELECT id, ttl FROM skiff_lease ORDER BY id`)
}

func leases(ctx context.Context, q querier, text string) ([]kine.Lease, error) {
	var out []kine.Lease
	for l, err := range each(ctx, q, text, func(rows *sql.Rows) (l kine.Lease, err error) {
		return l, rows.Scan(&l.ID, &l.TTL)
	}) {
		if err != nil {
			return nil, err
		}
		out = append(out, l)
	}
	return out, nil
}
