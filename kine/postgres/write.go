package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/lib/pq"

	"skiff/kine"
	"skiff/kine/group"
	"skiff/kine/mvcc"
)

// probeEvery is how often writes are tried while they fail and nobody writes.
const probeEvery = time.Second

const (
	lockRevision = `SELECT revision, compact FROM skiff_meta WHERE id = 1 FOR UPDATE`
	// storeGroup writes a whole group if the revision is still $12 and none of the keys
	// $13 exists, and else nothing. Its one row tells that it did: the rest follows from
	// it, so it comes first. It locks the revision's row; who had to wait for that finds
	// another revision.
	storeGroup = `WITH
		m AS (UPDATE skiff_meta SET revision = $11::bigint WHERE id = 1 AND revision = $12::bigint
			AND NOT EXISTS (SELECT 1 FROM skiff_current WHERE key = ANY($13::bytea[])) RETURNING id),
		w AS (SELECT * FROM unnest($1::bigint[], $2::bytea[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::integer[], $8::integer[], $9::boolean[])
				AS w (pos, key, created, count, lease, prev, start, size, current)
			WHERE EXISTS (SELECT 1 FROM m)),
		l AS (INSERT INTO skiff_log (pos, key, created, count, lease, prev, value)
			SELECT pos, key, created, count, lease, prev, substr($10::bytea, start, size) FROM w),
		c AS (INSERT INTO skiff_current (key, pos, created, count, lease)
			SELECT key, pos, created, count, lease FROM w WHERE current
			ON CONFLICT (key) DO UPDATE SET pos = excluded.pos, created = excluded.created, count = excluded.count, lease = excluded.lease),
		d AS (DELETE FROM skiff_current WHERE key = ANY($14::bytea[]) AND EXISTS (SELECT 1 FROM m)) `
	storeQuietly  = storeGroup + `SELECT id FROM m`
	storeNotified = storeGroup + `SELECT pg_notify('` + channel + `', $15::text) FROM m`
)

// write takes what is queued until ctx ends, then what was queued before.
func (s *Store) write(ctx context.Context) {
	again := time.NewTimer(probeEvery)
	defer again.Stop()
	for {
		if s.Failing() != nil {
			again.Reset(probeEvery)
		}
		select {
		case <-s.Wake():
			s.group(s.Take())
		case <-again.C:
			if s.Failing() != nil {
				s.Note(s.tryWrite())
			}
		case <-ctx.Done():
			// What is queued gets its chance, but not for longer than a moment.
			for deadline := time.Now().Add(s.cfg.Timeout); s.Waiting() && time.Now().Before(deadline); {
				s.group(s.Take())
			}
			return
		}
	}
}

// tryWrite changes nothing, which is a write all the same: PostgreSQL stores a row anew
// that gets the values that it has.
func (s *Store) tryWrite() error {
	ctx, cancel := context.WithTimeout(context.Background(), s.cfg.Timeout)
	defer cancel()
	if _, err := s.writer.ExecContext(ctx, "UPDATE skiff_meta SET compact = compact WHERE id = 1"); err != nil {
		return unavailable(err)
	}
	return nil
}

func (s *Store) group(ops []*group.Op) {
	if len(ops) == 0 {
		return // taken with those before
	}
	ctx := context.Background() // what was taken from the queue is finished
	answers, commit, err := s.transact(ctx, ops)
	if err != nil {
		if errors.Is(err, kine.ErrUnknownOutcome) {
			s.feed.wake()
		}
		s.Note(err)
		// What was planned on top of a write that is not there means nothing.
		s.Fail(ops, err)
		return
	}
	if commit != nil {
		s.Note(nil)
		raise(&s.highest, commit.revision)
		s.feed.offer(*commit)
	}
	s.Answer(ops, answers)
}

// committed is a group that is in the log.
type committed struct {
	base, revision int64
	writes         []mvcc.Write
}

// transact plans and commits a group. The answers are each operation's own; the
// error is the whole group's.
func (s *Store) transact(ctx context.Context, ops []*group.Op) ([]error, *committed, error) {
	answers, c, err := s.unlocked(ctx, ops)
	if errors.Is(err, errBeyond) {
		return s.locked(ctx, ops)
	}
	return answers, c, err
}

// committed notes a group that is in the log now.
func (s *Store) committed(state *txState, b *mvcc.Batch) *committed {
	s.memory.learn(state, b, time.Now())
	return &committed{state.revision, b.Revision(), b.Writes()}
}

// locked plans and commits a group under the revision's lock.
func (s *Store) locked(ctx context.Context, ops []*group.Op) ([]error, *committed, error) {
	tx, err := s.writer.BeginTx(ctx, nil)
	if err != nil {
		return nil, nil, unavailable(err)
	}
	state := &txState{ctx: ctx, tx: tx}
	answers, b, extras, err := s.planLocked(state, ops)
	if err == nil {
		err = s.storeLocked(state, b, extras)
	}
	if err != nil {
		return nil, nil, errors.Join(unavailable(err), ignoreDone(tx.Rollback()))
	}
	if len(b.Writes()) == 0 && len(extras) == 0 {
		return answers, nil, ignoreDone(tx.Rollback())
	}
	if err := tx.Commit(); err != nil {
		if refusal(err) != "" {
			return nil, nil, unavailable(err)
		}
		return nil, nil, fmt.Errorf("%w: %w", kine.ErrUnknownOutcome, err)
	}
	if len(b.Writes()) == 0 {
		return answers, nil, nil
	}
	return answers, s.committed(state, b), nil
}

func (s *Store) planLocked(state *txState, ops []*group.Op) ([]error, *mvcc.Batch, []func(group.Exec) error, error) {
	seen := s.highest.Load()
	if err := state.lock(seen); err != nil {
		return nil, nil, nil, err
	}
	if state.bumped {
		s.cfg.Log.Error("the database has lost writes: its revision was lower than before; clients list again", "seen", seen)
	}
	if err := state.prefetch(ops); err != nil {
		return nil, nil, nil, err
	}
	return s.plan(state, ops)
}

func (s *Store) plan(state *txState, ops []*group.Op) ([]error, *mvcc.Batch, []func(group.Exec) error, error) {
	b := mvcc.NewBatch(state, s.cfg.Limits)
	answers := make([]error, len(ops))
	var extras []func(group.Exec) error
	full := s.full()
	for i, o := range ops {
		if o.Puts && full {
			answers[i] = fmt.Errorf("the store takes %d bytes and its quota is %d: delete objects or raise the quota: %w", s.size.Load(), s.cfg.QuotaBytes, kine.ErrNoSpace)
			continue
		}
		answers[i] = o.Plan(b)
		if state.err != nil {
			return nil, nil, nil, state.err // the database failed, not the operation
		}
		if answers[i] == nil && o.Extra != nil {
			extras = append(extras, o.Extra)
		}
	}
	return answers, b, extras, nil
}

// storeLocked writes what was planned under the lock.
func (s *Store) storeLocked(state *txState, b *mvcc.Batch, extras []func(group.Exec) error) error {
	for _, extra := range extras {
		err := extra(func(text string, args ...any) error {
			_, err := state.tx.ExecContext(state.ctx, text, args...)
			return err
		})
		if err != nil {
			return err
		}
	}
	if len(b.Writes()) == 0 {
		return nil
	}
	n, err := s.store(state.ctx, state.tx, state, b)
	if err == nil && n == 0 {
		err = fmt.Errorf("revision %d has changed under its lock", state.revision)
	}
	return err
}

// store writes what was planned over a state, and returns 0 when that is not the
// newest one.
func (s *Store) store(ctx context.Context, on querier, state *txState, b *mvcc.Batch) (n int, err error) {
	writes := b.Writes()
	var log columns
	var current pq.BoolArray
	var gone pq.ByteaArray
	for i := range writes {
		w := &writes[i]
		var prev int64
		if w.Prev != nil {
			prev = int64(w.Prev.Pos)
		}
		log.add(w.Version, prev, w.Value)
		// Only the last write of a key in the group is its current one.
		last, err := b.Last(w.Version.Key)
		newest := err == nil && last == w.Version
		current = append(current, newest && !w.Version.Deleted())
		if newest && w.Version.Deleted() {
			gone = append(gone, []byte(w.Version.Key))
		}
	}
	if gone == nil {
		gone = pq.ByteaArray{}
	}
	absent := state.absent
	if absent == nil {
		absent = pq.ByteaArray{}
	}
	text, args := storeQuietly, []any{
		log.pos, log.key, log.created, log.count, log.lease, log.prev, log.start, log.size, current, notNil(log.value),
		b.Revision(), state.revision, absent, gone,
	}
	note := fmt.Sprint(b.Revision(), " ", s.name)
	switch {
	case s.function && s.notifies:
		text, args = callStoreFunction, append(args, note)
	case s.function:
		text, args = callStoreFunction, append(args, "")
	case s.notifies:
		text, args = storeNotified, append(args, note)
	}
	rows, err := on.QueryContext(ctx, text, args...)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	// A statement outside of a transaction is committed when the last row is there.
	for rows.Next() {
		n++
	}
	return n, rows.Err()
}

// columns are rows turned by 90 degrees, to be sent as arrays. The values are one after
// the other, since that is sent as it is: an array of them is text, twice as long, which
// the database has to read.
type columns struct {
	pos, created, count, lease, prev pq.Int64Array
	key                              pq.ByteaArray
	value                            []byte
	// start, from 1, and size are where in value each row's is.
	start, size pq.Int64Array
}

func (c *columns) add(v *mvcc.Version, prev int64, value []byte) {
	c.pos = append(c.pos, int64(v.Pos))
	c.key = append(c.key, []byte(v.Key))
	c.created = append(c.created, v.Created)
	c.count = append(c.count, v.Count)
	c.lease = append(c.lease, v.Lease)
	c.prev = append(c.prev, prev)
	c.start = append(c.start, int64(len(c.value))+1)
	c.size = append(c.size, int64(len(value)))
	c.value = append(c.value, value...)
}

// notNil are bytes that are not NULL to the database.
func notNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

func ignoreDone(err error) error {
	if errors.Is(err, sql.ErrTxDone) {
		return nil
	}
	return err
}
