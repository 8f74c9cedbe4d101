package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"

	"skiff/kine/mvcc"
)

// load fills the index: the state at the compact revision, then the log after it.
func (s *Store) load(ctx context.Context) error {
	conn, err := s.readers.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	tx, err := conn.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return err
	}
	defer tx.Rollback()
	var revision, compact, oldest, removed, newest int64
	if err := tx.QueryRowContext(ctx, "SELECT (SELECT value FROM meta WHERE name='revision'), (SELECT value FROM meta WHERE name='compact'), (SELECT value FROM meta WHERE name='oldest'), (SELECT value FROM meta WHERE name='removed'), (SELECT coalesce(max(pos),0) FROM log)").Scan(&revision, &compact, &oldest, &removed, &newest); err != nil {
		return err
	}
	// What was removed while no history was kept is gone.
	s.oldest.Store(max(oldest, mvcc.Pos(removed+1).Revision()))
	revision = max(revision, mvcc.Pos(newest).Revision(), compact)
	index := mvcc.NewIndex()
	s.leases.clear()
	cut := int64(0)
	var queries []loadQuery
	if compact > 0 {
		cut = int64(mvcc.At(compact+1, 0)) - 1
		queries = []loadQuery{
			{"SELECT key, pos, created, count, lease FROM current WHERE pos <= ? ORDER BY key", []int64{cut}},
			{"SELECT p.key, p.pos, p.created, p.count, p.lease FROM log l JOIN log p ON p.pos = l.prev WHERE l.pos > ? AND l.prev > 0 AND l.prev <= ?", []int64{cut, cut}},
		}
	}
	queries = append(queries, loadQuery{"SELECT key, pos, created, count, lease FROM log WHERE pos > ? ORDER BY pos", []int64{cut}})
	for _, q := range queries {
		if err := conn.Raw(func(on any) error { return q.into(ctx, on, index) }); err != nil {
			return err
		}
	}
	index.SetRevisions(revision, compact)
	s.index = index
	return s.loadLeases(ctx, tx)
}

// loadQuery selects versions.
type loadQuery struct {
	text string
	args []int64
}

// loadRows is how many rows are put into the index at a time, while the next are read.
const loadRows = 1000

// into puts the versions into an index. It runs on the driver's own connection: through
// database/sql a million rows take twice as long.
func (q *loadQuery) into(ctx context.Context, on any, index *mvcc.Index) error {
	queryer, ok := on.(driver.QueryerContext)
	if !ok {
		return fmt.Errorf("connection of type %T: %w", on, errors.ErrUnsupported)
	}
	args := named(q.args...)
	rows, err := queryer.QueryContext(ctx, q.text, args)
	if err != nil {
		return err
	}
	read, done := make(chan []*mvcc.Version, 1), make(chan struct{})
	go func() {
		defer close(done)
		for versions := range read {
			index.Load(versions)
		}
	}()
	for err == nil {
		var versions []*mvcc.Version
		if versions, err = readVersions(rows); len(versions) > 0 {
			read <- versions
		}
	}
	close(read)
	<-done
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return errors.Join(err, rows.Close())
}

// readVersions reads the next rows; with the last ones it returns io.EOF.
func readVersions(rows driver.Rows) ([]*mvcc.Version, error) {
	versions := make([]*mvcc.Version, 0, loadRows)
	row := make([]driver.Value, 5)
	for len(versions) < loadRows {
		if err := rows.Next(row); err != nil {
			return versions, err
		}
		key, isKey := row[0].(string)
		pos, isPos := row[1].(int64)
		created, isCreated := row[2].(int64)
		count, isCount := row[3].(int64)
		lease, isLease := row[4].(int64)
		if !isKey || !isPos || !isCreated || !isCount || !isLease {
			return versions, fmt.Errorf("the log has a row of %v, want a key and numbers", row)
		}
		versions = append(versions, &mvcc.Version{Key: key, Pos: mvcc.Pos(pos), Created: created, Count: count, Lease: lease})
	}
	return versions, nil
}
