package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"github.com/lib/pq"

	"skiff/kine"
	"skiff/kine/group"
	"skiff/kine/mvcc"
)

// txState is the committed state as a transaction that holds the revision's
// lock sees it. It is what compares are decided by. Without a transaction it is
// what glance has read, and to ask for more is errBeyond.
type txState struct {
	ctx context.Context
	tx  *sql.Tx

	revision, compact int64
	// bumped tells that the database had gone back.
	bumped bool
	// known holds what was read; nil for a key that does not exist.
	known map[string]*mvcc.Version
	// values of known versions.
	values map[mvcc.Pos][]byte
	// absent are the keys that are only guessed not to exist; nil when all is read.
	absent pq.ByteaArray
	// err is the database's first failure: the transaction is lost then.
	err error
}

// errBeyond: the operations need more than the keys that they name.
var errBeyond = errors.New("more than the named keys is needed")

func (t *txState) fail(err error) error {
	if err != nil && t.err == nil {
		t.err = err
	}
	return err
}

// lock takes the revision's row. A revision below seen is one that went back.
func (t *txState) lock(seen int64) error {
	t.known, t.values = map[string]*mvcc.Version{}, map[mvcc.Pos][]byte{}
	if err := t.fail(t.tx.QueryRowContext(t.ctx, lockRevision).Scan(&t.revision, &t.compact)); err != nil {
		return err
	}
	if t.revision >= seen {
		return nil
	}
	t.revision, t.compact, t.bumped = bumped(seen), bumped(seen), true
	_, err := t.tx.ExecContext(t.ctx, bumpRevision, t.revision)
	return t.fail(err)
}

// prefetch reads the keys that the operations name at once.
func (t *txState) prefetch(ops []*group.Op) error {
	names, valued := t.names(ops)
	if len(names) == 0 {
		return nil
	}
	rows, err := t.tx.QueryContext(t.ctx, `SELECT `+namedKeys, names, valued)
	if err != nil {
		return t.fail(err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := t.scan(rows); err != nil {
			return t.fail(err)
		}
	}
	return t.fail(rows.Err())
}

// glance reads the revision and the keys that the operations name, as they are at one
// moment.
func (t *txState) glance(on querier, ops []*group.Op) error {
	t.known, t.values = map[string]*mvcc.Version{}, map[mvcc.Pos][]byte{}
	names, valued := t.names(ops)
	if len(names) == 0 {
		return errBeyond
	}
	rows, err := on.QueryContext(t.ctx, `SELECT m.revision, m.compact, k.* FROM skiff_meta m LEFT JOIN (SELECT `+namedKeys+`) k ON true WHERE m.id = 1`, names, valued)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := t.scan(rows, &t.revision, &t.compact); err != nil {
			return err
		}
	}
	return rows.Err()
}

// namedKeys are the columns and the rows of the keys $1, with the values of those
// that are in $2 too.
const namedKeys = `c.key, c.pos, c.created, c.count, c.lease, l.value
	FROM skiff_current c LEFT JOIN skiff_log l ON l.pos = c.pos AND c.key = ANY($2::bytea[])
	WHERE c.key = ANY($1::bytea[])`

// names are the keys that operations name, and those whose values are needed. Each
// counts as known from here on.
func (t *txState) names(ops []*group.Op) (names, valued pq.ByteaArray) {
	valued = pq.ByteaArray{}
	for _, o := range ops {
		for _, key := range o.Keys {
			if _, ok := t.known[key]; !ok {
				t.known[key] = nil
				names = append(names, []byte(key))
			}
			if o.Values {
				valued = append(valued, []byte(key))
			}
		}
	}
	return names, valued
}

// scan takes a row of namedKeys, after the columns that are before it.
func (t *txState) scan(rows *sql.Rows, before ...any) error {
	var key, value []byte
	var pos, created, count, lease sql.NullInt64
	if err := rows.Scan(append(before, &key, &pos, &created, &count, &lease, &value)...); err != nil || !pos.Valid {
		return err
	}
	v := &mvcc.Version{Key: string(key), Pos: mvcc.Pos(pos.Int64), Created: created.Int64, Count: count.Int64, Lease: lease.Int64}
	t.known[v.Key] = v
	if value != nil {
		t.values[v.Pos] = value
	}
	return nil
}

// Revisions implements mvcc.State.
func (t *txState) Revisions() (int64, int64) { return t.revision, t.compact }

// Newest implements mvcc.State.
func (t *txState) Newest(key string) (*mvcc.Version, error) {
	if v, ok := t.known[key]; ok {
		return v, nil
	}
	if t.tx == nil {
		return nil, t.fail(errBeyond)
	}
	v := &mvcc.Version{Key: key}
	err := t.tx.QueryRowContext(t.ctx, `SELECT pos, created, count, lease FROM skiff_current WHERE key = $1`, []byte(key)).Scan(&v.Pos, &v.Created, &v.Count, &v.Lease)
	if errors.Is(err, sql.ErrNoRows) {
		v, err = nil, nil
	}
	if err != nil {
		return nil, t.fail(err)
	}
	t.known[key] = v
	return v, nil
}

// Select implements mvcc.State.
func (t *txState) Select(r kine.Range, revision, limit int64) (mvcc.Selection, error) {
	sel := mvcc.Selection{Revision: t.revision}
	if revision == t.revision {
		revision = 0
	}
	if v, ok := t.known[r.Start]; ok && r.End == "" && revision == 0 {
		if v != nil {
			sel.Count = 1
			if limit >= 0 {
				sel.Versions = []*mvcc.Version{v}
			}
		}
		return sel, nil
	}
	if t.tx == nil {
		return sel, t.fail(errBeyond)
	}
	from, args := versions(r, revision)
	if limit != 0 {
		if err := t.tx.QueryRowContext(t.ctx, `SELECT count(*) FROM `+from, args...).Scan(&sel.Count); err != nil {
			return sel, t.fail(err)
		}
	}
	if limit < 0 {
		return sel, nil
	}
	text := `SELECT v.key, v.pos, v.created, v.count, v.lease FROM ` + from + ` ORDER BY v.key`
	if limit > 0 {
		text += fmt.Sprintf(" LIMIT %d", limit)
	}
	rows, err := t.tx.QueryContext(t.ctx, text, args...)
	if err != nil {
		return sel, t.fail(err)
	}
	defer rows.Close()
	for rows.Next() {
		v := &mvcc.Version{}
		var key []byte
		if err := rows.Scan(&key, &v.Pos, &v.Created, &v.Count, &v.Lease); err != nil {
			return sel, t.fail(err)
		}
		v.Key = string(key)
		sel.Versions = append(sel.Versions, v)
	}
	if limit == 0 {
		sel.Count = int64(len(sel.Versions))
	}
	return sel, t.fail(rows.Err())
}

// Value implements mvcc.State.
func (t *txState) Value(v *mvcc.Version) ([]byte, error) {
	if value, ok := t.values[v.Pos]; ok {
		return value, nil
	}
	if t.tx == nil {
		return nil, t.fail(errBeyond)
	}
	value := []byte{}
	if err := t.tx.QueryRowContext(t.ctx, `SELECT value FROM skiff_log WHERE pos = $1`, int64(v.Pos)).Scan(&value); err != nil {
		return nil, t.fail(fmt.Errorf("value of %q at revision %d: %w", v.Key, v.Pos.Revision(), err))
	}
	t.values[v.Pos] = value
	return value, nil
}

// HasLease implements mvcc.State.
func (t *txState) HasLease(id int64) bool {
	if t.tx == nil {
		return t.fail(errBeyond) == nil
	}
	var n int
	err := t.fail(t.tx.QueryRowContext(t.ctx, `SELECT count(*) FROM skiff_lease WHERE id = $1`, id).Scan(&n))
	return err == nil && n > 0
}

// LeaseKeys implements mvcc.State.
func (t *txState) LeaseKeys(id int64) []string {
	if t.tx == nil {
		_ = t.fail(errBeyond)
		return nil
	}
	keys, err := leaseKeys(t.ctx, t.tx, id)
	if t.fail(err) != nil {
		return nil
	}
	return keys
}

type querier interface {
	QueryContext(ctx context.Context, text string, args ...any) (*sql.Rows, error)
}

func leaseKeys(ctx context.Context, q querier, id int64) ([]string, error) {
	rows, err := q.QueryContext(ctx, `SELECT key FROM skiff_current WHERE lease = $1 AND lease <> 0`, id)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var keys []string
	for rows.Next() {
		var key []byte
		if err := rows.Scan(&key); err != nil {
			return nil, err
		}
		keys = append(keys, string(key))
	}
	slices.Sort(keys)
	return keys, rows.Err()
}
