package store

import (
	"context"
	"errors"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"skiff/kine"
)

var errSlow = errors.New("watch was too slow: its client should list and watch again")

// bookmarkPeriod is how often a watch that asks for bookmarks gets one.
const bookmarkPeriod = time.Minute

// WatchOptions are the parts of a watch request that the store answers.
type WatchOptions struct {
	Predicate
	ResourceVersion string
	Match           metav1.ResourceVersionMatch
	// SendInitial sends the state first, as upstream's sendInitialEvents.
	SendInitial *bool
	Bookmarks   bool
}

// Watch is an open watch: Next gives its changes.
type Watch struct {
	s *Store
	q *queue

	initial []*Item
	// initialRev is the revision of the initial state; its end is marked when
	// markInitial is set.
	initialRev  int64
	markInitial bool
	bookmarks   bool

	spare  []Change
	ticker *time.Ticker
	// last is due shortly before the watch's deadline, so that the client goes
	// on from where it was told everything.
	last *time.Timer
}

// lastBookmark is how long before its deadline a watch gets a bookmark.
const lastBookmark = 2 * time.Second

// Watch opens a watch. It holds resources until Close.
func (s *Store) Watch(ctx context.Context, o WatchOptions) (*Watch, error) {
	for try := 0; ; try++ {
		w, err := s.watch(ctx, o)
		if errors.Is(err, errNotReady) && try < readRetries {
			continue
		}
		if err != nil {
			return nil, statusOf(err, s.gr(), "watch", "")
		}
		if o.Slow != nil {
			w.initial = slices.DeleteFunc(w.initial, func(it *Item) bool { return !o.Slow(it) })
		}
		return w, nil
	}
}

func (s *Store) watch(ctx context.Context, o WatchOptions) (*Watch, error) {
	rev, err := parseRevision(o.ResourceVersion)
	if err != nil {
		return nil, err
	}
	if err := s.cache.ensure(ctx); err != nil {
		return nil, err
	}
	initial := rev == 0
	if o.SendInitial != nil {
		initial = *o.SendInitial
		if initial {
			if err := s.atLeast(ctx, o.ResourceVersion); err != nil {
				return nil, err
			}
		}
	}
	if o.ResourceVersion == "" && o.SendInitial == nil {
		if err := s.feed.waitFresh(ctx); err != nil {
			return nil, err
		}
	}
	// Events up to rev are not wanted, also when rev is yet to come.
	q := &queue{pred: o.Predicate, after: rev, wake: make(chan struct{}, 1)}
	q.scope.namespace = o.Namespace
	if name, ok := o.exactName(); ok {
		q.scope.name = name
	}
	w := &Watch{s: s, q: q, bookmarks: o.Bookmarks, markInitial: o.SendInitial != nil && *o.SendInitial && o.Bookmarks}
	c := s.cache
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state != ready {
		return nil, errNotReady
	}
	switch {
	case initial:
		t, at := c.viewLocked()
		fast := o.Predicate
		fast.Slow = nil // the lock is held
		l := s.page(t, at, "", &ListOptions{Predicate: fast})
		w.initial, w.initialRev = l.Items, at
	case rev == 0:
		// From now on.
	case rev < c.oldest:
		return nil, expiredWatch(rev, c.oldest)
	default:
		for _, e := range c.window {
			if e.rev > rev && q.concerns(s, e) {
				q.offer(s, e)
			}
		}
	}
	c.watchers.add(q)
	if o.Bookmarks {
		w.ticker = time.NewTicker(bookmarkPeriod)
		if end, ok := ctx.Deadline(); ok {
			w.last = time.NewTimer(max(time.Until(end)-lastBookmark, 0))
		}
	}
	return w, nil
}

// concerns tells whether an event is in the watch's namespace and of its name.
func (q *queue) concerns(s *Store, e *event) bool {
	it := e.cur
	if it == nil {
		it = e.prev
	}
	return q.inNamespace(s, it)
}

// Initial is the state that the watch begins with, sent as Added. mark tells
// that its end is to be marked with a bookmark at rev.
func (w *Watch) Initial() (items []*Item, rev int64, mark bool) {
	items = w.initial
	w.initial = nil
	return items, w.initialRev, w.markInitial
}

// Batch is what happened since the last one.
type Batch struct {
	// Changes are in order. They belong to the Watch until the next Next.
	Changes []Change
	// Bookmark, when not 0, is a revision up to which everything was delivered.
	Bookmark int64
}

// Next waits for changes, or a bookmark that is due. An error ends the watch: an
// API status tells the client what to do.
func (w *Watch) Next(ctx context.Context) (Batch, error) {
	var due, last <-chan time.Time
	if w.ticker != nil {
		due = w.ticker.C
	}
	if w.last != nil {
		last = w.last.C
	}
	// An idle watch holds no objects.
	clear(w.spare)
	for {
		changes, err := w.q.take(w.spare)
		if len(changes) > 0 {
			w.spare = changes
			if changes = w.q.decide(w.s, changes); len(changes) == 0 {
				continue
			}
			return Batch{Changes: changes}, nil
		}
		if err != nil {
			if errors.Is(err, errSlow) || errors.Is(err, kine.ErrCompacted) {
				return Batch{}, apierrors.NewResourceExpired(err.Error())
			}
			return Batch{}, statusOf(err, w.s.gr(), "watch", "")
		}
		select {
		case <-w.q.wake:
			continue
		case <-due:
		case <-last:
		case <-ctx.Done():
			return Batch{}, ctx.Err()
		}
		if rev, ok := w.quiet(); ok {
			return Batch{Bookmark: rev}, nil
		}
	}
}

// quiet is the revision up to which nothing more is queued. The cache's lock
// keeps events from being queued between the two looks.
func (w *Watch) quiet() (int64, bool) {
	c := w.s.cache
	c.mu.Lock()
	defer c.mu.Unlock()
	w.q.mu.Lock()
	defer w.q.mu.Unlock()
	if c.state != ready || len(w.q.changes) > 0 || w.q.err != nil {
		return 0, false
	}
	return c.revisionLocked(), true
}

// Close ends the watch.
func (w *Watch) Close() {
	if w.ticker != nil {
		w.ticker.Stop()
	}
	if w.last != nil {
		w.last.Stop()
	}
	c := w.s.cache
	c.mu.Lock()
	c.watchers.remove(w.q)
	c.mu.Unlock()
	w.q.end(errWatchClosed)
}

var errWatchClosed = errors.New("watch is closed")
