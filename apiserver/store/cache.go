package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/btree"

	"skiff/kine"
)

const (
	treeDegree = 32
	// The window of events that a watch can start in.
	windowEvents = 20000
	windowBytes  = 32 << 20
	windowAge    = 5 * time.Minute
	// Resources without a window keep this many, for clients that list and
	// watch at once.
	smallWindowEvents = 64
	loadTimeout       = time.Minute
	// Old states kept for lists in pages.
	maxPageViews = 16
	pageViewAge  = time.Minute
)

type tree = btree.BTreeG[*Item]

func newTree() *tree {
	return btree.NewG(treeDegree, func(a, b *Item) bool { return a.Key < b.Key })
}

// Event is one change of one object, as the caches keep it.
type event struct {
	rev int64
	at  time.Time
	// cur is nil for a delete, prev for a create.
	cur, prev *Item

	once sync.Once
	gone *Item
}

// last is the object as it was before it went, at the revision of the event.
func (e *event) last() *Item {
	e.once.Do(func() { e.gone = e.prev.at(e.rev) })
	return e.gone
}

func (e *event) size() int {
	n := 128
	if e.cur != nil {
		n += len(e.cur.Raw)
	} else if e.prev != nil {
		n += len(e.prev.Raw)
	}
	return n
}

type cacheState int

const (
	idle cacheState = iota
	loading
	ready
)

// cache holds one resource's objects, the recent events and the watchers.
//
//	idle --first read--> loading --list done--> ready
//	ready, loading --store lost events--> idle
type cache struct {
	s    *Store
	feed *Feed

	received atomic.Uint64

	mu    sync.Mutex
	state cacheState
	// loaded is closed when a load ends, well or not.
	loaded  chan struct{}
	loadErr error
	pending []*kine.Event

	items *tree
	// snap is a copy-on-write copy of items, nil after a change.
	snap *tree
	// last is the revision of the last change or of the load.
	last int64

	window []*event
	bytes  int
	// oldest: every event with a greater revision is in window.
	oldest int64

	// unread: some items could not be read; tried is when that was last seen.
	unread bool
	tried  time.Time

	watchers watcherIndex
	pages    []pageView
	// closed: the store is of no use any more; loading again would take the
	// feed away from the store that replaced it.
	closed bool
}

// pageView is a state kept for the following pages of a list.
type pageView struct {
	rev  int64
	tree *tree
	at   time.Time
}

func newCache(s *Store, feed *Feed) *cache { return &cache{s: s, feed: feed} }

// ensure loads the cache on first use. Whoever comes first loads for all.
func (c *cache) ensure(ctx context.Context) error {
	for {
		c.mu.Lock()
		if c.closed {
			c.mu.Unlock()
			return kine.ErrStopped
		}
		switch c.state {
		case ready:
			again := c.unread && time.Since(c.tried) > unreadRetry
			c.mu.Unlock()
			if again {
				c.readAgain(ctx)
			}
			return nil
		case loading:
			wait := c.loaded
			c.mu.Unlock()
			select {
			case <-wait:
			case <-ctx.Done():
				return ctx.Err()
			}
			c.mu.Lock()
			err := c.loadErr
			c.mu.Unlock()
			if err != nil {
				return err
			}
		case idle:
			done := make(chan struct{})
			c.state, c.loaded, c.loadErr, c.pending = loading, done, nil, nil
			c.mu.Unlock()
			if err := c.load(ctx, done); err != nil {
				return err
			}
		}
	}
}

// load reads everything; done is closed when it ends.
func (c *cache) load(ctx context.Context, done chan struct{}) error {
	select {
	case <-c.feed.started:
	case <-ctx.Done():
		return c.finishLoad(done, nil, 0, false, ctx.Err())
	}
	c.feed.add(c)
	// The others that wait do not end with this request.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), loadTimeout)
	defer cancel()
	res, err := c.s.kine.List(ctx, kine.PrefixRange(c.s.prefix), kine.ReadOptions{})
	if err != nil {
		return c.finishLoad(done, nil, 0, false, fmt.Errorf("loading %s: %w", c.s.res.GroupResource(), err))
	}
	items, unread := newTree(), false
	for _, kv := range res.KVs {
		it := c.item(ctx, &kv)
		items.ReplaceOrInsert(it)
		unread = unread || it.unread != nil
	}
	return c.finishLoad(done, items, res.Revision, unread, nil)
}

func (c *cache) finishLoad(done chan struct{}, items *tree, rev int64, unread bool, err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer close(done)
	if c.state != loading || c.loaded != done {
		// It was invalidated meanwhile: whoever waits looks again, and perhaps
		// another load runs.
		if err == nil {
			err = errNotReady
		}
		return err
	}
	c.loadErr = err
	if err != nil {
		c.state, c.pending = idle, nil
		return err
	}
	c.items, c.snap, c.last, c.oldest = items, nil, rev, rev
	c.window, c.bytes = nil, 0
	c.state, c.unread, c.tried = ready, unread, time.Now()
	pending := c.pending
	c.pending = nil
	c.applyLocked(pending, time.Now())
	return nil
}

// close ends the cache for good.
func (c *cache) close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.feed.remove(c)
	c.invalidate(kine.ErrStopped)
}

// invalidate drops everything; watchers end with err and the next read loads again.
func (c *cache) invalidate(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state, c.pending = idle, nil
	c.items, c.snap, c.window, c.pages, c.bytes = nil, nil, nil, nil, 0
	for w := range c.watchers.all() {
		w.leave(c.s, err)
	}
	c.watchers = watcherIndex{}
}

func (c *cache) apply(events []*kine.Event, now time.Time) {
	c.received.Add(uint64(len(events)))
	c.mu.Lock()
	defer c.mu.Unlock()
	switch c.state {
	case loading:
		c.pending = append(c.pending, events...)
	case ready:
		c.applyLocked(events, now)
	case idle:
	}
}

// applyLocked: caller holds mu.
func (c *cache) applyLocked(events []*kine.Event, now time.Time) {
	for _, ke := range events {
		rev := ke.KV.ModRevision
		if rev <= c.last && !c.sameRevision(rev) {
			continue
		}
		e := &event{rev: rev, at: now}
		if ke.Type == kine.Delete {
			prev, ok := c.items.Delete(&Item{Key: ke.KV.Key})
			if !ok {
				c.last = rev
				continue
			}
			e.prev = prev
		} else {
			e.cur = c.item(context.Background(), &ke.KV)
			c.unread = c.unread || e.cur.unread != nil
			if prev, ok := c.items.ReplaceOrInsert(e.cur); ok {
				e.prev = prev
			}
		}
		c.snap = nil
		c.last = rev
		c.window = append(c.window, e)
		c.bytes += e.size()
		c.watchers.deliver(c.s, e)
	}
	c.trim(now)
}

// sameRevision: one transaction can change several objects of the resource.
func (c *cache) sameRevision(rev int64) bool {
	return rev == c.last && len(c.window) > 0 && c.window[len(c.window)-1].rev == rev
}

func (c *cache) sweep(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.trim(now)
	keep := c.pages[:0]
	for _, p := range c.pages {
		if now.Sub(p.at) < pageViewAge {
			keep = append(keep, p)
		}
	}
	clear(c.pages[len(keep):])
	c.pages = keep
}

func (c *cache) trim(now time.Time) {
	limit := windowEvents
	if c.s.res.NoWindow {
		limit = smallWindowEvents
	}
	n := 0
	for n < len(c.window) {
		e := c.window[n]
		if len(c.window)-n <= limit && c.bytes <= windowBytes && now.Sub(e.at) < windowAge {
			break
		}
		c.bytes -= e.size()
		c.oldest = e.rev
		n++
	}
	// Never begin the window inside a transaction.
	for n > 0 && n < len(c.window) && c.window[n].rev == c.oldest {
		c.bytes -= c.window[n].size()
		n++
	}
	if n == 0 {
		return
	}
	clear(c.window[:n])
	c.window = c.window[n:]
	if len(c.window) == 0 {
		c.window = nil
	}
}

// view is the state now, safe to read without lock, and its revision.
// Caller holds mu; state is ready.
func (c *cache) viewLocked() (*tree, int64) {
	if c.snap == nil {
		c.snap = c.items.Clone()
	}
	return c.snap, c.revisionLocked()
}

// revisionLocked is the newest revision that the state stands for.
func (c *cache) revisionLocked() int64 { return max(c.last, c.feed.rev.Load()) }

var errNotReady = errors.New("watch cache was reset")

func (c *cache) view() (*tree, int64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state != ready {
		return nil, 0, errNotReady
	}
	t, rev := c.viewLocked()
	return t, rev, nil
}

// get reads one object.
func (c *cache) get(key string) (*Item, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state != ready {
		return nil, errNotReady
	}
	it, _ := c.items.Get(&Item{Key: key})
	return it, nil
}

// viewAt is the state at exactly rev, when memory still has it.
func (c *cache) viewAt(rev int64) *tree {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state != ready {
		return nil
	}
	if rev >= c.last && rev <= c.revisionLocked() {
		t, _ := c.viewLocked()
		return t
	}
	for _, p := range c.pages {
		if p.rev == rev {
			return p.tree
		}
	}
	return nil
}

// keepPage remembers a state for the next pages of a list.
func (c *cache) keepPage(rev int64, t *tree) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	for i := range c.pages {
		if c.pages[i].rev == rev {
			c.pages[i].at = now
			return
		}
	}
	if len(c.pages) >= maxPageViews {
		copy(c.pages, c.pages[1:])
		c.pages = c.pages[:len(c.pages)-1]
	}
	c.pages = append(c.pages, pageView{rev: rev, tree: t, at: now})
}

// count is the number of objects, or -1 when not loaded.
func (c *cache) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state != ready {
		return -1
	}
	return c.items.Len()
}
