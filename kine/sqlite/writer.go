package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"skiff/kine"
	"skiff/kine/mvcc"
)

const (
	// maxGroup bounds how many operations one commit holds.
	maxGroup = 1024
	// checkpointPages is the length of the write-ahead log, in pages, at which it
	// is copied into the database. Reads get slower as it grows.
	checkpointPages = 2000
)

// writer is the one goroutine that changes the database.
type writer struct {
	s     *Store
	batch *mvcc.Batch
	conn  *sql.Conn

	insert, setCurrent, dropCurrent, setRevision *sql.Stmt
	value                                        *sql.Stmt
	// pages written to the log since the last checkpoint, roughly.
	pages int
	// settled tells that maintenance found nothing to do since the last write.
	settled bool
}

// txn is the transaction of one group.
type txn struct {
	ctx context.Context
	tx  *sql.Tx
}

func (t *txn) exec(text string, args ...any) error {
	_, err := t.tx.ExecContext(t.ctx, text, args...)
	return err
}

func (s *Store) newWriter(ctx context.Context) (*writer, error) {
	w := &writer{s: s}
	w.batch = mvcc.NewBatch(planState{s.index, s}, s.cfg.Limits)
	for _, p := range []struct {
		at   **sql.Stmt
		text string
	}{
		{&w.insert, "INSERT INTO log (pos, key, created, count, lease, prev, value) VALUES (?,?,?,?,?,?,?)"},
		{&w.setCurrent, "INSERT INTO current (key, pos, created, count, lease) VALUES (?,?,?,?,?) ON CONFLICT (key) DO UPDATE SET pos=excluded.pos, created=excluded.created, count=excluded.count, lease=excluded.lease"},
		{&w.dropCurrent, "DELETE FROM current WHERE key=?"},
		{&w.setRevision, "UPDATE meta SET value=? WHERE name='revision'"},
	} {
		var err error
		if *p.at, err = s.db.PrepareContext(ctx, p.text); err != nil {
			return nil, err
		}
	}
	return w, s.usage.measure(ctx, s.readers)
}

// planState is the committed state with values read from the database.
type planState struct {
	*mvcc.Index
	s *Store
}

func (p planState) Value(v *mvcc.Version) ([]byte, error) {
	var value []byte
	err := p.s.readers.QueryRow("SELECT value FROM log WHERE pos=?", int64(v.Pos)).Scan(&value)
	if err != nil {
		return nil, fmt.Errorf("%w: value of %q at revision %d: %w", kine.ErrUnavailable, v.Key, v.Pos.Revision(), explain(err))
	}
	return value, nil
}

func (p planState) HasLease(id int64) bool { return p.s.leases.has(id) }

// run takes what is queued until ctx ends, then what was queued before.
func (w *writer) run(ctx context.Context) {
	maintain := time.NewTicker(time.Second)
	defer maintain.Stop()
	for {
		select {
		case o := <-w.s.queue:
			w.group(o)
			if w.pages >= checkpointPages && len(w.s.queue) == 0 || w.pages >= 8*checkpointPages {
				w.checkpoint()
			}
		case <-maintain.C:
			w.maintain()
		case <-ctx.Done():
			for {
				select {
				case o := <-w.s.queue:
					w.group(o)
				default:
					w.checkpoint()
					return
				}
			}
		}
	}
}

// group commits first and whatever else is queued by now.
func (w *writer) group(first *op) {
	ops := append(make([]*op, 0, 16), first)
	for len(ops) < maxGroup {
		select {
		case o := <-w.s.queue:
			ops = append(ops, o)
			continue
		default:
		}
		break
	}
	w.settled = false
	w.batch.Reset(planState{w.s.index, w.s})
	answers := make([]error, len(ops))
	full := w.s.usage.full(w.s.cfg.QuotaBytes)
	var extras []func(*txn) error
	for i, o := range ops {
		if o.puts && full {
			answers[i] = fmt.Errorf("the store takes %d bytes and its quota is %d: delete objects or raise the quota: %w", w.s.usage.size.Load(), w.s.cfg.QuotaBytes, kine.ErrNoSpace)
			continue
		}
		if answers[i] = o.plan(w.batch); answers[i] == nil && o.extra != nil {
			extras = append(extras, o.extra)
		}
	}
	writes := w.batch.Writes()
	if len(writes) > 0 || len(extras) > 0 {
		if err := w.commit(writes, extras); err != nil {
			// What was planned on top of a write that is not there means nothing.
			for _, o := range ops {
				o.done <- err
			}
			return
		}
		w.publish(writes)
	}
	for i, o := range ops {
		if answers[i] == nil && o.after != nil {
			o.after()
		}
		o.done <- answers[i]
	}
}

func (w *writer) commit(writes []mvcc.Write, extras []func(*txn) error) error {
	ctx := context.Background() // what was taken from the queue is finished
	tx, err := w.s.db.BeginTx(ctx, nil)
	if err != nil {
		return unavailable(err)
	}
	if err := w.write(ctx, tx, writes, extras); err != nil {
		return errors.Join(unavailable(err), ignoreDone(tx.Rollback()))
	}
	if err := tx.Commit(); err != nil {
		return w.settle(ctx, tx, writes, err)
	}
	return nil
}

func (w *writer) write(ctx context.Context, tx *sql.Tx, writes []mvcc.Write, extras []func(*txn) error) error {
	insert, setCurrent, dropCurrent := tx.StmtContext(ctx, w.insert), tx.StmtContext(ctx, w.setCurrent), tx.StmtContext(ctx, w.dropCurrent)
	for i := range writes {
		wr := &writes[i]
		v := wr.Version
		var prev int64
		if wr.Prev != nil {
			prev = int64(wr.Prev.Pos)
		}
		if _, err := insert.ExecContext(ctx, int64(v.Pos), v.Key, v.Created, v.Count, v.Lease, prev, wr.Value); err != nil {
			return err
		}
		w.pages += 1 + len(wr.Value)/4096
		// Only the last write of a key in the group is its current one.
		if last, err := w.batch.Last(v.Key); err != nil || last != v {
			continue
		}
		var err error
		if v.Deleted() {
			_, err = dropCurrent.ExecContext(ctx, v.Key)
		} else {
			_, err = setCurrent.ExecContext(ctx, v.Key, int64(v.Pos), v.Created, v.Count, v.Lease)
		}
		if err != nil {
			return err
		}
	}
	for _, extra := range extras {
		if err := extra(&txn{ctx, tx}); err != nil {
			return err
		}
	}
	if len(writes) == 0 {
		return nil
	}
	_, err := tx.StmtContext(ctx, w.setRevision).ExecContext(ctx, w.batch.Revision())
	w.pages += 2
	return err
}

// settle finds out whether a commit that returned an error happened.
func (w *writer) settle(ctx context.Context, tx *sql.Tx, writes []mvcc.Write, cause error) error {
	_ = tx.Rollback() // there may be nothing to roll back; the look below decides
	if len(writes) == 0 {
		return unavailable(cause)
	}
	var n int
	err := w.s.db.QueryRowContext(ctx, "SELECT count(*) FROM log WHERE pos=?", int64(writes[0].Version.Pos)).Scan(&n)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", kine.ErrUnknownOutcome, explain(cause))
	case n > 0:
		return nil
	}
	return unavailable(cause)
}

func unavailable(err error) error {
	err = explain(err)
	if errors.Is(err, kine.ErrNoSpace) || errors.Is(err, kine.ErrUnavailable) {
		return err
	}
	return fmt.Errorf("%w: %w", kine.ErrUnavailable, err)
}

func ignoreDone(err error) error {
	if errors.Is(err, sql.ErrTxDone) {
		return nil
	}
	return err
}

// publish makes committed writes visible to readers, then to watchers.
func (w *writer) publish(writes []mvcc.Write) {
	if len(writes) == 0 {
		return
	}
	if w.s.hub.WantsPrev() {
		for i := range writes {
			wr := &writes[i]
			if wr.Prev != nil && wr.PrevValue == nil {
				value, err := planState{w.s.index, w.s}.Value(wr.Prev)
				if err != nil {
					w.s.cfg.Log.Error("a previous value for a watcher could not be read", "key", wr.Version.Key, "err", err)
					continue
				}
				wr.PrevValue = value
			}
		}
	}
	revision := w.batch.Revision()
	w.s.index.Apply(revision, writes)
	events := make([]kine.Event, len(writes))
	pointers := make([]*kine.Event, len(writes))
	for i := range writes {
		events[i] = writes[i].Event()
		pointers[i] = &events[i]
	}
	w.s.hub.Publish(revision, pointers)
}
