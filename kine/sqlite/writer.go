package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"time"

	"skiff/kine"
	"skiff/kine/group"
	"skiff/kine/mvcc"
)

const (
	// checkpointPages is the length of the write-ahead log, in pages, at which it
	// is copied into the database. Reads get slower as it grows.
	checkpointPages = 2000
	// longLog is the length at which readers are waited for so that the log can be
	// used anew: every restartEvery, each time for no longer than readersWait, since
	// all writes wait too. One that reads for minutes is not worth them.
	longLog      = 32 * checkpointPages
	restartEvery = time.Second
	readersWait  = 50 * time.Millisecond
)

// writer is the one goroutine that changes the database.
type writer struct {
	s     *Store
	batch *mvcc.Batch

	// The session's statements run inside Store.conn.Raw.
	session                  session
	begin, end, undo         driver.StmtExecContext
	insert, setCurrent       bulk
	dropCurrent, setRevision driver.StmtExecContext
	// value and pageCount read on the same connection.
	value, pageCount *sql.Stmt
	// pages is the length of the write-ahead log, roughly, and copied is how much
	// of it is in the database too.
	pages, copied int
	// length is the most that the log has held since readers were last waited for.
	length int
	// restarted is when readers were waited for last.
	restarted time.Time
	// settled tells that maintenance found nothing to do since the last write.
	settled bool
	// measured is when the size was last looked at.
	measured time.Time
}

func (s *Store) newWriter(ctx context.Context) (w *writer, err error) {
	w = &writer{s: s}
	err = w.s.conn.Raw(func(on any) error { return w.prepare(ctx, on) })
	if err == nil {
		w.value, err = w.s.conn.PrepareContext(ctx, oneValue)
	}
	if err == nil {
		w.pageCount, err = w.s.conn.PrepareContext(ctx, "PRAGMA page_count")
	}
	if err != nil {
		return nil, errors.Join(err, w.close())
	}
	w.batch = mvcc.NewBatch(w.state(), s.cfg.Limits)
	return w, s.usage.measure(ctx, s.readers)
}

// prepare makes the statements that groups are written with.
func (w *writer) prepare(ctx context.Context, on any) (err error) {
	for _, p := range []struct {
		at   *driver.StmtExecContext
		text string
	}{
		{&w.begin, "BEGIN IMMEDIATE"}, {&w.end, "COMMIT"}, {&w.undo, "ROLLBACK"},
		{&w.dropCurrent, "DELETE FROM current WHERE key=?"},
		{&w.setRevision, "UPDATE meta SET value=? WHERE name='revision'"},
	} {
		if *p.at, err = w.session.prepare(ctx, on, p.text); err != nil {
			return err
		}
	}
	if w.insert, err = w.session.bulk(ctx, on, "INSERT INTO log (pos, key, created, count, lease, prev, value) VALUES ", 7, ""); err != nil {
		return err
	}
	w.setCurrent, err = w.session.bulk(ctx, on, "INSERT INTO current (key, pos, created, count, lease) VALUES ", 5,
		" ON CONFLICT (key) DO UPDATE SET pos=excluded.pos, created=excluded.created, count=excluded.count, lease=excluded.lease")
	return err
}

// close closes the statements: SQLite brings the log into the database when the
// last connection is closed, if no statement is left on it.
func (w *writer) close() error {
	var errs []error
	for _, stmt := range []*sql.Stmt{w.value, w.pageCount} {
		if stmt != nil {
			errs = append(errs, stmt.Close())
		}
	}
	errs = append(errs, w.s.conn.Raw(func(any) error { return w.session.close() }))
	return errors.Join(errs...)
}

// planState is the committed state with values read from the database.
type planState struct {
	*mvcc.Index
	s    *Store
	from *sql.Stmt
}

func (w *writer) state() planState { return planState{w.s.index, w.s, w.value} }

func (p planState) Value(v *mvcc.Version) ([]byte, error) {
	value, err := p.s.value(context.Background(), p.from, v)
	if err != nil {
		return nil, fmt.Errorf("%w: value of %q at revision %d: %w", kine.ErrUnavailable, v.Key, v.Pos.Revision(), err)
	}
	return value, nil
}

func (p planState) HasLease(id int64) bool { return p.s.leases.has(id) }

// run takes what is queued until ctx ends, then what was queued before.
func (w *writer) run(ctx context.Context) {
	maintain := time.NewTimer(maintainEvery)
	defer maintain.Stop()
	armed := true // an idle store has nothing to wake up for
	w.noteCommit(nil)
	for {
		select {
		case <-w.s.Wake():
			w.group(w.s.Take())
			if !armed {
				maintain.Reset(maintainEvery)
				armed = true
			}
			switch {
			case max(w.length, w.pages) >= longLog && time.Since(w.restarted) >= restartEvery:
				w.restarted = time.Now()
				w.checkpoint("RESTART") // readers kept the log from being used anew
			case w.pages-w.copied >= checkpointPages && !w.s.Waiting() || w.pages-w.copied >= 8*checkpointPages || w.growing():
				w.checkpoint("PASSIVE")
			}
		case <-maintain.C:
			var pause time.Duration
			switch {
			case w.s.reserve.full:
				w.onReserve(func() { pause = w.maintain() })
			case w.s.Failing() != nil:
				w.probe()
				fallthrough
			default:
				pause = w.maintain()
			}
			if w.s.Failing() != nil {
				w.settled, pause = false, min(pause, maintainEvery)
			}
			if armed = !w.settled; armed {
				maintain.Reset(pause)
			}
		case <-ctx.Done():
			for w.s.Waiting() {
				w.group(w.s.Take())
			}
			w.checkpoint("TRUNCATE")
			return
		}
	}
}

// group commits what was queued, all of it at once.
func (w *writer) group(ops []*group.Op) {
	if len(ops) == 0 {
		return // taken with those before
	}
	w.settled = false
	if w.s.reserve.full {
		w.takeReserve()
	}
	answers, err := w.try(ops)
	if errors.Is(err, kine.ErrNoSpace) && !errors.Is(err, kine.ErrUnknownOutcome) && !w.s.reserve.full {
		w.s.reserve.full = true
		answers, err = w.try(ops)
	}
	if err != nil {
		// What was planned on top of a write that is not there means nothing.
		w.s.Fail(ops, err)
		return
	}
	w.s.Answer(ops, answers)
}

// try plans a group and commits it. With an error nothing of it has happened, or nobody
// knows.
func (w *writer) try(ops []*group.Op) (answers []error, err error) {
	w.batch.Reset(w.state())
	answers = make([]error, len(ops))
	refused := w.refusal()
	var extras []func(group.Exec) error
	for i, o := range ops {
		if o.Puts && refused != nil {
			answers[i] = refused
			continue
		}
		if answers[i] = o.Plan(w.batch); answers[i] == nil && o.Extra != nil {
			extras = append(extras, o.Extra)
		}
	}
	writes := w.batch.Writes()
	if len(writes) == 0 && len(extras) == 0 {
		return answers, nil
	}
	if w.s.reserve.full {
		w.onReserve(func() { err = w.commit(writes, extras) })
	} else {
		err = w.commit(writes, extras)
	}
	w.noteCommit(err)
	if err == nil {
		w.publish(writes)
	}
	return answers, err
}

// refusal is why no put is taken at the moment.
func (w *writer) refusal() error {
	switch {
	case w.s.reserve.full:
		return errFull
	case w.s.usage.full(w.s.cfg.QuotaBytes):
		return fmt.Errorf("the store takes %d bytes and its quota is %d: delete objects or raise the quota: %w", w.s.usage.size.Load(), w.s.cfg.QuotaBytes, kine.ErrNoSpace)
	}
	return nil
}

// noteCommit remembers how a commit went.
func (w *writer) noteCommit(err error) {
	if err == nil && w.s.reserve.full {
		err = errFull // deletes alone succeed
	}
	w.s.Note(err)
}

// probe commits a change of nothing, to see whether writes succeed again. It adds a row
// and takes it away: a row that gets the values that it has is not written by SQLite.
func (w *writer) probe() {
	w.noteCommit(w.commit(nil, []func(group.Exec) error{func(exec group.Exec) error {
		return errors.Join(exec("INSERT INTO lease VALUES (-1, 0)"), exec("DELETE FROM lease WHERE id=-1"))
	}}))
}
