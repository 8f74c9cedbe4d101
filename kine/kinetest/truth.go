package kinetest

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"skiff/kine"
)

// chaosPrefix is what all keys of a chaos run begin with.
const chaosPrefix = "/chaos/"

// truth is everything that happened, in order, as one watcher that misses nothing
// has it: what all other answers are compared with. It checks what it sees against
// the state that it builds of it.
type truth struct {
	s kine.Store
	// mayReset allows the store to say that the past is gone, as after a failover
	// to a standby that lagged.
	mayReset bool

	mu     sync.Mutex
	events []kine.Event
	state  map[string]kine.KeyValue
	// at is the revision up to which all is known; floor is the one that it began
	// at, or began anew.
	at, floor int64
	resets    int
	problems  []string
	// initial is the state that it began with, and compacted where the last
	// compaction ended.
	initial   map[string]kine.KeyValue
	compacted int64
}

func (w *truth) problem(format string, args ...any) {
	w.problems = append(w.problems, fmt.Sprintf(format, args...))
}

func (w *truth) revision() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.at
}

// begin takes the state at the newest revision.
func (w *truth) begin(ctx context.Context) error {
	res, err := w.s.List(ctx, kine.PrefixRange(chaosPrefix), kine.ReadOptions{})
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if res.Revision < w.at {
		w.problem("the revision went back from %d to %d", w.at, res.Revision)
	}
	w.state, w.initial = map[string]kine.KeyValue{}, map[string]kine.KeyValue{}
	for _, kv := range res.KVs {
		w.state[kv.Key], w.initial[kv.Key] = kv, kv
	}
	w.at, w.floor, w.events = res.Revision, res.Revision, nil
	return nil
}

// follow watches until ctx ends, through whatever happens to the store.
func (w *truth) follow(ctx context.Context) {
	for ctx.Err() == nil {
		err := w.watch(ctx)
		if ctx.Err() != nil {
			return
		}
		var slow *kine.SlowWatcherError
		if errors.As(err, &slow) && slow.ResumeRevision > w.revision()+1 {
			w.mu.Lock()
			w.problem("a slow watcher is told to go on at %d, and has seen up to %d", slow.ResumeRevision, w.at)
			w.mu.Unlock()
		}
		if !errors.Is(err, kine.ErrCompacted) {
			continue
		}
		w.mu.Lock()
		w.resets++
		if !w.mayReset {
			w.problem("nothing beyond revision %d was compacted, and a watch from there got: %v", w.at, err)
		}
		w.mu.Unlock()
		for w.begin(ctx) != nil && ctx.Err() == nil {
		}
	}
}

func (w *truth) watch(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	watch, err := w.s.Watch(ctx, kine.PrefixRange(chaosPrefix), kine.WatchOptions{Revision: w.revision() + 1, PrevKV: true, ProgressNotify: true})
	if err != nil {
		return err
	}
	for resp := range watch.Responses() {
		w.mu.Lock()
		for _, e := range resp.Events {
			w.add(e)
		}
		if resp.Revision < w.at {
			w.problem("a response at revision %d came after revision %d", resp.Revision, w.at)
		}
		w.at = max(w.at, resp.Revision)
		w.mu.Unlock()
	}
	return watch.Err()
}

// add takes the next event. The caller holds mu.
func (w *truth) add(e *kine.Event) {
	rev := e.KV.ModRevision
	if rev <= w.at {
		w.problem("event of %q at %d came when all up to %d had", e.KV.Key, rev, w.at)
		return
	}
	last := w.floor
	if n := len(w.events); n > 0 {
		last = w.events[n-1].KV.ModRevision
	}
	// All that writes to the store is under the prefix: each revision has an event.
	if rev != last && rev != last+1 {
		w.problem("revisions %d to %d are missing before the event of %q at %d", last+1, rev-1, e.KV.Key, rev)
	}
	before, had := w.state[e.KV.Key]
	switch {
	case !had && e.PrevKV != nil:
		w.problem("event of %q at %d has a previous key at %d, and there was none", e.KV.Key, rev, e.PrevKV.ModRevision)
	case had && (e.PrevKV == nil || !sameKey(&before, e.PrevKV)):
		w.problem("event of %q at %d has the previous key %+v, and it was %+v", e.KV.Key, rev, e.PrevKV, before)
	case !had && e.Type == kine.Delete:
		w.problem("%q was deleted at %d, and did not exist", e.KV.Key, rev)
	case e.Type == kine.Put && e.IsCreate() == had:
		w.problem("event of %q at %d says created %v, and it existed %v", e.KV.Key, rev, e.IsCreate(), had)
	case e.Type == kine.Put && had && (e.KV.Version != before.Version+1 || e.KV.CreateRevision != before.CreateRevision):
		w.problem("%q is version %d of %d at %d, after version %d of %d", e.KV.Key, e.KV.Version, e.KV.CreateRevision, rev, before.Version, before.CreateRevision)
	}
	if e.Type == kine.Delete {
		delete(w.state, e.KV.Key)
	} else {
		w.state[e.KV.Key] = e.KV
	}
	w.events = append(w.events, *e)
}

func sameKey(a, b *kine.KeyValue) bool {
	return a.Key == b.Key && string(a.Value) == string(b.Value) && a.ModRevision == b.ModRevision && a.CreateRevision == b.CreateRevision && a.Version == b.Version
}
