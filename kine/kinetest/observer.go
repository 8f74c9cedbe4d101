package kinetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"skiff/kine"
)

// observation is what one watcher was told, through all the times that it had to
// be opened again.
type observation struct {
	keys kine.Range
	opts kine.WatchOptions
	// low and high are the bounds of the first revision that it must tell: they
	// differ for a watch from now on.
	low, high int64
	responses []kine.WatchResponse
	// compacted is the error that ended it, with the revision it was to go on at.
	compacted *kine.CompactedError
	next      int64
	opened    int
}

// observe opens a watcher somewhere around now, on some keys, and writes down what
// it is told.
func observe(ctx context.Context, s kine.Store, rnd *rand.Rand) *observation {
	o := &observation{keys: []kine.Range{
		kine.PrefixRange(chaosPrefix), kine.PrefixRange(chaosPrefix + "b/"), {Start: chaosPrefix + "a/1"}, {Start: chaosPrefix + "a/2", End: chaosPrefix + "b/3"},
	}[rnd.IntN(4)]}
	o.opts = kine.WatchOptions{PrevKV: rnd.IntN(2) == 0, NoPut: rnd.IntN(6) == 0, NoDelete: rnd.IntN(6) == 0, ProgressNotify: rnd.IntN(2) == 0}
	now, err := s.Revision(ctx)
	if err != nil {
		return nil
	}
	fromNow := rnd.IntN(5) == 0
	if !fromNow {
		o.opts.Revision = max(1, now-100+rnd.Int64N(201))
	}
	o.low, o.high, o.next = o.opts.Revision, o.opts.Revision, o.opts.Revision
	if fromNow {
		o.low = now + 1
	}
	ctx, cancel := context.WithTimeout(ctx, time.Duration(200+rnd.IntN(1500))*time.Millisecond)
	defer cancel()
	for ctx.Err() == nil && o.compacted == nil {
		opts := o.opts
		opts.Revision = o.next
		w, err := s.Watch(ctx, o.keys, opts)
		if err != nil {
			errors.As(err, &o.compacted)
			continue
		}
		o.opened++
		if o.next == 0 {
			after, err := s.Revision(ctx)
			if err != nil {
				return nil // where it begins is not known
			}
			o.high, o.next = after+1, after+1
		}
		o.read(ctx, w, rnd)
	}
	return o
}

func (o *observation) read(ctx context.Context, w kine.Watcher, rnd *rand.Rand) {
	for n := 0; ; n++ {
		if n%10 == 0 && rnd.IntN(3) == 0 {
			if w.RequestProgress(ctx) != nil {
				n = 1 // it ends by itself
			}
		}
		resp, ok := <-w.Responses()
		if !ok {
			errors.As(w.Err(), &o.compacted)
			return
		}
		o.responses = append(o.responses, resp)
		o.next = max(o.next, resp.Revision+1)
	}
}

// check compares an observation with the truth: ordered, unique, reliable, atomic,
// resumable, bookmarkable, and filter, previous key and creation as they must be.
func (o *observation) check(w *truth) error {
	var want []*kine.Event
	for i := range w.events {
		e := &w.events[i]
		if o.keys.Contains(e.KV.Key) && (e.Type == kine.Put && !o.opts.NoPut || e.Type == kine.Delete && !o.opts.NoDelete) {
			want = append(want, e)
		}
	}
	// What is before the truth begins is not known.
	first := max(o.low, w.floor+1)
	want = want[atRevision(want, first):]
	started := o.low == o.high
	watermark := first - 1
	for _, resp := range o.responses {
		seen := int64(-1)
		for _, e := range resp.Events {
			if e.KV.ModRevision < first {
				if e.KV.ModRevision < o.low {
					return fmt.Errorf("event of %q at %d before the start at %d", e.KV.Key, e.KV.ModRevision, o.low)
				}
				continue
			}
			if e.KV.ModRevision <= watermark {
				return fmt.Errorf("event of %q at %d when all up to %d was told: twice, out of order, or a split revision", e.KV.Key, e.KV.ModRevision, watermark)
			}
			if e.KV.ModRevision < seen {
				return fmt.Errorf("event of %q at %d after one at %d", e.KV.Key, e.KV.ModRevision, seen)
			}
			seen = e.KV.ModRevision
			if !started {
				// From now on: whatever was written while it was opened may be left out.
				started = true
				if at := atRevision(want, e.KV.ModRevision); len(want) > 0 && at > 0 && want[at-1].KV.ModRevision >= o.high {
					return fmt.Errorf("the first event is at %d, and there was one at %d after the watch was open at %d", e.KV.ModRevision, want[at-1].KV.ModRevision, o.high)
				}
				want = want[atRevision(want, e.KV.ModRevision):]
			}
			if len(want) == 0 {
				return fmt.Errorf("event of %q at %d, which did not happen", e.KV.Key, e.KV.ModRevision)
			}
			if err := sameEvent(want[0], e, o.opts.PrevKV); err != nil {
				return err
			}
			want = want[1:]
		}
		if resp.Revision < seen {
			return fmt.Errorf("a response says revision %d and has an event at %d", resp.Revision, seen)
		}
		if resp.Revision < watermark && resp.Revision >= first {
			return fmt.Errorf("a response at revision %d after one at %d", resp.Revision, watermark)
		}
		if resp.Revision > w.at {
			break // the truth did not get that far
		}
		watermark = max(watermark, resp.Revision)
		if started && len(want) > 0 && want[0].KV.ModRevision <= watermark {
			return fmt.Errorf("all up to %d is told, and the event of %q at %d is missing", watermark, want[0].KV.Key, want[0].KV.ModRevision)
		}
	}
	// Of a watch from now on it is not known where it was to go on, before it was
	// told something: not before low.
	told := o.low - 1
	for _, resp := range o.responses {
		told = max(told, resp.Revision)
	}
	if c := o.compacted; c != nil && c.CompactRevision <= told && o.next > 0 && w.resets == 0 {
		return fmt.Errorf("the watch was to go on at %d, and the error says that only %d is compacted", told+1, c.CompactRevision)
	}
	return nil
}

// atRevision is the place of the first event at or after a revision.
func atRevision(events []*kine.Event, revision int64) int {
	i, _ := slices.BinarySearchFunc(events, revision, func(e *kine.Event, revision int64) int {
		if e.KV.ModRevision < revision {
			return -1
		}
		return 1
	})
	return i
}

func sameEvent(want, got *kine.Event, prev bool) error {
	switch {
	case want.Type != got.Type || want.KV.Key != got.KV.Key || want.KV.ModRevision != got.KV.ModRevision:
		return fmt.Errorf("event of %q at %d (type %d), want that of %q at %d (type %d)", got.KV.Key, got.KV.ModRevision, got.Type, want.KV.Key, want.KV.ModRevision, want.Type)
	case !sameKey(&want.KV, &got.KV):
		return fmt.Errorf("event at %d has %+v, want %+v", got.KV.ModRevision, got.KV, want.KV)
	case want.IsCreate() != got.IsCreate():
		return fmt.Errorf("event of %q at %d says created %v", got.KV.Key, got.KV.ModRevision, got.IsCreate())
	case !prev && got.PrevKV != nil:
		return fmt.Errorf("event of %q at %d has a previous key, which was not asked for", got.KV.Key, got.KV.ModRevision)
	case prev && (want.PrevKV == nil) != (got.PrevKV == nil), prev && want.PrevKV != nil && !sameKey(want.PrevKV, got.PrevKV):
		return fmt.Errorf("event of %q at %d has the previous key %+v, want %+v", got.KV.Key, got.KV.ModRevision, got.PrevKV, want.PrevKV)
	}
	return nil
}
