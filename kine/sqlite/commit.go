package sqlite

import (
	"context"
	"errors"
	"fmt"

	"skiff/kine"
	"skiff/kine/group"
	"skiff/kine/mvcc"
)

// commit writes a group in one transaction.
func (w *writer) commit(writes []mvcc.Write, extras []func(group.Exec) error) error {
	if err := w.s.files.check(); err != nil {
		return unavailable(err)
	}
	ctx := context.Background() // what was taken from the queue is finished
	var atEnd error
	err := w.s.conn.Raw(func(on any) error {
		if _, err := w.begin.ExecContext(ctx, nil); err != nil {
			return err
		}
		err := w.write(ctx, on, writes, extras)
		if err == nil {
			w.s.at(BeforeCommit)
			_, atEnd = w.end.ExecContext(ctx, nil)
		}
		if err != nil || atEnd != nil {
			// Some failures have ended the transaction already.
			_, _ = w.undo.ExecContext(ctx, nil)
		}
		return err
	})
	switch {
	case err != nil:
		return unavailable(err)
	case atEnd != nil:
		return w.settle(ctx, writes, atEnd)
	}
	w.s.at(AfterCommit)
	return nil
}

func (w *writer) write(ctx context.Context, on any, writes []mvcc.Write, extras []func(group.Exec) error) error {
	var gone []string
	for i := range writes {
		wr := &writes[i]
		v := wr.Version
		var prev int64
		if wr.Prev != nil {
			prev = int64(wr.Prev.Pos)
		}
		w.insert.add(int64(v.Pos), v.Key, v.Created, v.Count, v.Lease, prev, wr.Value)
		w.pages += 1 + len(wr.Value)/4096
		// Only the last write of a key in the group is its current one.
		if last, err := w.batch.Last(v.Key); err != nil || last != v {
			continue
		}
		if v.Deleted() {
			gone = append(gone, v.Key)
		} else {
			w.setCurrent.add(v.Key, int64(v.Pos), v.Created, v.Count, v.Lease)
		}
	}
	if err := errors.Join(w.insert.flush(ctx), w.setCurrent.flush(ctx)); err != nil {
		return err
	}
	for _, key := range gone {
		if _, err := w.dropCurrent.ExecContext(ctx, named(key)); err != nil {
			return err
		}
	}
	exec := func(text string, args ...any) error {
		return once(ctx, on, text, args...)
	}
	for _, extra := range extras {
		if err := extra(exec); err != nil {
			return err
		}
	}
	if len(writes) == 0 {
		return nil
	}
	_, err := w.setRevision.ExecContext(ctx, named(w.batch.Revision()))
	w.pages += 2
	return err
}

// settle finds out whether a commit that returned an error happened.
func (w *writer) settle(ctx context.Context, writes []mvcc.Write, cause error) error {
	if len(writes) == 0 {
		return unavailable(cause)
	}
	var n int
	err := w.s.conn.QueryRowContext(ctx, "SELECT count(*) FROM log WHERE pos=?", int64(writes[0].Version.Pos)).Scan(&n)
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

// publish makes committed writes visible to readers, then to watchers.
func (w *writer) publish(writes []mvcc.Write) {
	if len(writes) == 0 {
		return
	}
	prev := w.s.hub.WantsPrev()
	for i := range writes {
		wr := &writes[i]
		if !prev || wr.Prev == nil || wr.PrevValue != nil {
			continue
		}
		value, err := w.s.value(context.Background(), w.value, wr.Prev)
		if err != nil {
			prev = false // who wants it reads it, and is told of the error
			break
		}
		wr.PrevValue = value
	}
	revision := w.batch.Revision()
	for i := range writes {
		wr := &writes[i]
		if !wr.Version.Deleted() {
			w.s.recent.Add(wr.Version.Pos, wr.Value)
		}
		if wr.Prev != nil {
			w.s.recent.Drop(wr.Prev.Pos)
		}
	}
	w.s.index.Apply(revision, writes)
	events := make([]kine.Event, len(writes))
	pointers := make([]*kine.Event, len(writes))
	for i := range writes {
		events[i] = writes[i].Event()
		pointers[i] = &events[i]
	}
	w.s.hub.Publish(revision, pointers, prev)
	w.s.at(AfterPublish)
}
