// Package watchhub hands the committed events of a store to its watchers. Every
// backend that decides the order of events itself uses it.
//
// The backend calls Publish for each commit, in order, before it answers the
// writes. A watcher that starts in the past first gets what the log has; the
// hub joins the two without a gap or a repetition. A watcher that does not keep
// up is ended with the revision to resume from: nothing is ever skipped.
package watchhub

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"skiff/kine"
)

const (
	// queueEvents and queueBytes bound what waits for a slow watcher.
	queueEvents = 50_000
	queueBytes  = 64 << 20
	// catchUpRevisions and catchUpBytes bound what one read for a catch-up covers.
	catchUpRevisions = 1000
	catchUpBytes     = 8 << 20
)

// Log reads the past.
type Log interface {
	// Events returns the events of r with revisions from to to, both included,
	// in log order. kine.ErrCompacted when from is not kept any more.
	Events(ctx context.Context, q Query) (Page, error)
}

// Query names events of the past.
type Query struct {
	Range    kine.Range
	From, To int64
	// PrevKV asks for the keys before the events.
	PrevKV bool
	// Bytes is the size after which the answer may end, with a whole revision.
	Bytes int
}

// Page is a part of the past: all of its events up to and including Through.
type Page struct {
	Events  []*kine.Event
	Through int64
}

// Collect adds events to a Page until it is full.
type Collect struct {
	Query
	page  Page
	bytes int
}

// Add takes the next event; false when it belongs to the next page.
func (c *Collect) Add(e *kine.Event) bool {
	n := len(c.page.Events)
	if c.Bytes > 0 && c.bytes >= c.Bytes && n > 0 && c.page.Events[n-1].KV.ModRevision < e.KV.ModRevision {
		c.page.Through = c.page.Events[n-1].KV.ModRevision
		return false
	}
	c.page.Events = append(c.page.Events, e)
	c.bytes += size(e)
	return true
}

// Page is what was collected.
func (c *Collect) Page() Page {
	if c.page.Through == 0 {
		c.page.Through = c.To
	}
	return c.page
}

func size(e *kine.Event) int {
	n := len(e.KV.Key) + len(e.KV.Value)
	if e.PrevKV != nil {
		n += len(e.PrevKV.Value)
	}
	return n
}

// Config of a Hub.
type Config struct {
	Log Log
	// Revision is the store's newest revision, which the hub may be about to be
	// told of.
	Revision func(ctx context.Context) (int64, error)
	// Progress is how often idle watchers that ask for it are told the revision;
	// default 5 s.
	Progress time.Duration
}

// Hub is the set of watchers of one store.
type Hub struct {
	cfg Config

	mu       sync.Mutex
	revision int64
	closed   bool
	prefixes map[string]map[*watcher]struct{}
	keys     map[string]map[*watcher]struct{}
	ranges   map[*watcher]struct{}
	wantPrev int
	// waiting are the watchers that want to be told once the hub is there.
	waiting map[*watcher]int64
	pumps   sync.WaitGroup
}

// New is a hub at a revision.
func New(cfg Config, revision int64) *Hub {
	if cfg.Progress == 0 {
		cfg.Progress = 5 * time.Second
	}
	return &Hub{
		cfg: cfg, revision: revision,
		prefixes: map[string]map[*watcher]struct{}{}, keys: map[string]map[*watcher]struct{}{}, ranges: map[*watcher]struct{}{},
		waiting: map[*watcher]int64{},
	}
}

// Run sends progress notifications until ctx ends, then ends every watcher and
// waits for it.
func (h *Hub) Run(ctx context.Context) {
	tick := time.NewTicker(h.cfg.Progress)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			h.close()
			return
		case <-tick.C:
			h.progress()
		}
	}
}

func (h *Hub) close() {
	h.mu.Lock()
	h.closed = true
	for w := range h.all() {
		w.end(kine.ErrStopped)
	}
	h.mu.Unlock()
	h.pumps.Wait()
}

func (h *Hub) all() map[*watcher]struct{} {
	out := map[*watcher]struct{}{}
	for _, index := range []map[string]map[*watcher]struct{}{h.prefixes, h.keys} {
		for _, set := range index {
			for w := range set {
				out[w] = struct{}{}
			}
		}
	}
	for w := range h.ranges {
		out[w] = struct{}{}
	}
	return out
}

func (h *Hub) progress() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for w := range h.all() {
		if w.opts.ProgressNotify {
			w.notify(h.revision, true)
		}
	}
}

// WantsPrev tells whether any watcher asks for previous keys, so that it pays
// to find them before Publish.
func (h *Hub) WantsPrev() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.wantPrev > 0
}

// Publish delivers the events after the hub's revision, in log order, and moves
// the hub on to revision. prev tells that every event has its previous key; if
// not, watchers that ask for it read the log.
func (h *Hub) Publish(revision int64, events []*kine.Event, prev bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	after := h.revision
	touched := map[*watcher][]*kine.Event{}
	offer := func(w *watcher, e *kine.Event) {
		if w.wants(e) {
			touched[w] = append(touched[w], w.view(e))
		}
	}
	give := func(set map[*watcher]struct{}, e *kine.Event) {
		for w := range set {
			offer(w, e)
		}
	}
	for _, e := range events {
		key := e.KV.Key
		if len(h.keys) > 0 {
			give(h.keys[key], e)
		}
		if len(h.prefixes) > 0 {
			give(h.prefixes[""], e)
			for at := 0; ; {
				i := strings.IndexByte(key[at:], '/')
				if i < 0 {
					break
				}
				at += i + 1
				give(h.prefixes[key[:at]], e)
			}
		}
		for w := range h.ranges {
			if w.r.Contains(key) {
				offer(w, e)
			}
		}
	}
	h.revision = max(h.revision, revision)
	for w, es := range touched {
		it := item{WatchResponse: kine.WatchResponse{Events: es, Revision: revision}}
		if w.opts.PrevKV && !prev {
			it = item{WatchResponse: kine.WatchResponse{Revision: revision}, reread: max(after+1, w.from)}
		}
		w.push(it)
	}
	for w, at := range h.waiting {
		if at <= h.revision {
			delete(h.waiting, w)
			w.notify(h.revision, false)
		}
	}
}

// Reset ends every watcher with err and goes on at revision: for a store whose
// log the hub cannot follow any more.
func (h *Hub) Reset(revision int64, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for w := range h.all() {
		w.end(err)
	}
	h.revision = max(h.revision, revision)
}

// Revision is how far the hub has delivered.
func (h *Hub) Revision() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.revision
}

// Watch opens a watcher. floor is the compact revision: a start below it is
// refused.
func (h *Hub) Watch(ctx context.Context, r kine.Range, opts kine.WatchOptions, floor int64) (kine.Watcher, error) {
	if r.Start == "" && r.End == "" {
		return nil, fmt.Errorf("watch of an empty key: %w", kine.ErrInvalid)
	}
	w := &watcher{hub: h, r: r, opts: opts, out: make(chan kine.WatchResponse), wake: make(chan struct{}, 1)}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, kine.ErrStopped
	}
	now := h.revision
	if opts.Revision > 0 && opts.Revision < floor {
		w.end(&kine.CompactedError{Revision: opts.Revision, CompactRevision: floor})
	}
	// What is before the watch begins is not delivered; what the log has is
	// read up to now, what comes later is queued.
	w.from, w.until = opts.Revision, now
	if opts.Revision == 0 {
		w.from = now + 1
	}
	w.next = w.from
	w.add(+1)
	h.pumps.Go(func() {
		defer close(w.out)
		w.pump(ctx)
		h.mu.Lock()
		w.add(-1)
		delete(h.waiting, w)
		h.mu.Unlock()
	})
	return w, nil
}
