package store

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"skiff/kine"
)

const (
	// How long a read waits for the feed to reach the revision it must see.
	freshnessTimeout = 3 * time.Second
	// How long it waits before it asks the store for progress: events of the
	// revision are normally on their way already.
	progressDelay  = 3 * time.Millisecond
	progressPeriod = 100 * time.Millisecond
	sweepPeriod    = 30 * time.Second
	maxRetryDelay  = 5 * time.Second
)

// Feed is the one watch that keeps every cache of the server up to date. Its
// watermark says that all caches have seen everything up to a revision, so one
// cheap question to the store makes any read from memory consistent.
type Feed struct {
	kine kine.Store
	log  *slog.Logger

	// rev is the watermark: all events up to it are in the caches and in the
	// watchers' queues.
	rev     atomic.Int64
	started chan struct{}

	mu      sync.Mutex
	caches  map[string]*cache
	watcher kine.Watcher
	// advanced is closed and replaced when rev moves while somebody waits.
	advanced chan struct{}
	waiting  int
}

// NewFeed is a feed over a store. It does nothing before Run.
func NewFeed(k kine.Store, log *slog.Logger) *Feed {
	if log == nil {
		log = slog.Default()
	}
	return &Feed{kine: k, log: log, started: make(chan struct{}), caches: map[string]*cache{}, advanced: make(chan struct{})}
}

// Started is closed once the watch is open: reads wait for it.
func (f *Feed) Started() <-chan struct{} { return f.started }

// Revision is the watermark.
func (f *Feed) Revision() int64 { return f.rev.Load() }

// Run keeps the watch open until ctx ends.
func (f *Feed) Run(ctx context.Context) error {
	defer f.stop()
	delay := time.Duration(0)
	for first := true; ; {
		err := f.follow(ctx, &first, &delay)
		if ctx.Err() != nil {
			return nil
		}
		f.log.Warn("store watch ended; opening it again", "err", err, "revision", f.rev.Load(), "in", delay)
		if errors.Is(err, kine.ErrCompacted) {
			f.reset()
			first = true
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(delay):
		}
		delay = min(max(2*delay, 50*time.Millisecond), maxRetryDelay)
	}
}

// follow opens the watch where the last one ended and applies what it says.
func (f *Feed) follow(ctx context.Context, first *bool, delay *time.Duration) error {
	from := f.rev.Load()
	if *first {
		rev, err := f.kine.Revision(ctx)
		if err != nil {
			return err
		}
		from = rev
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w, err := f.kine.Watch(ctx, kine.PrefixRange(Root), kine.WatchOptions{Revision: from + 1, ProgressNotify: true})
	if err != nil {
		return err
	}
	f.mu.Lock()
	f.watcher = w
	f.mu.Unlock()
	if *first {
		*first = false
		// What was loaded before this watch began may miss changes.
		f.reset()
		f.advance(from)
		select {
		case <-f.started:
		default:
			close(f.started)
		}
	}
	*delay = 0
	sweep := time.NewTicker(sweepPeriod)
	defer sweep.Stop()
	for {
		select {
		case resp, ok := <-w.Responses():
			if !ok {
				if err := w.Err(); err != nil {
					return err
				}
				return kine.ErrStopped
			}
			f.apply(resp)
		case now := <-sweep.C:
			for _, c := range f.all() {
				c.sweep(now)
			}
		}
	}
}

func (f *Feed) apply(resp kine.WatchResponse) {
	events := resp.Events
	now := time.Now()
	for len(events) > 0 {
		// Events of one cache go in together, so that none of its readers sees
		// half of a transaction. Most responses are of one or few resources.
		c := f.cacheOf(events[0].KV.Key)
		rest := events[:0:0]
		mine := events[:0:0]
		for i, e := range events {
			if f.cacheOf(e.KV.Key) == c {
				if len(rest) == 0 {
					mine = events[:i+1]
				} else {
					mine = append(mine[:len(mine):len(mine)], e)
				}
			} else {
				rest = append(rest, e)
			}
		}
		if c != nil {
			c.apply(mine, now)
		}
		events = rest
	}
	f.advance(resp.Revision)
}

func (f *Feed) advance(rev int64) {
	if rev <= f.rev.Load() {
		return
	}
	f.rev.Store(rev)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.waiting > 0 {
		close(f.advanced)
		f.advanced = make(chan struct{})
	}
}

// reset makes every cache load again after the store dropped what we missed.
func (f *Feed) reset() {
	for _, c := range f.all() {
		c.invalidate(kine.ErrCompacted)
	}
}

func (f *Feed) stop() {
	for _, c := range f.all() {
		c.invalidate(kine.ErrStopped)
	}
}

func (f *Feed) all() []*cache {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make([]*cache, 0, len(f.caches))
	for _, c := range f.caches {
		out = append(out, c)
	}
	return out
}

// cacheOf finds the cache that a key belongs to by the prefixes of the key.
func (f *Feed) cacheOf(key string) *cache {
	if len(key) <= len(Root) {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for at := len(Root); ; {
		i := strings.IndexByte(key[at:], '/')
		if i < 0 {
			return nil
		}
		at += i + 1
		if c := f.caches[key[:at]]; c != nil {
			return c
		}
	}
}

func (f *Feed) add(c *cache) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		f.caches[c.s.prefix] = c
	}
}

func (f *Feed) remove(c *cache) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.caches[c.s.prefix] == c {
		delete(f.caches, c.s.prefix)
	}
}

// errNotFresh: the caches did not reach a revision in time.
var errNotFresh = errors.New("watch cache did not catch up in time")

// waitFresh waits until reads from memory see every write acknowledged before.
func (f *Feed) waitFresh(ctx context.Context) error {
	rev, err := f.kine.Revision(ctx)
	if err != nil {
		return err
	}
	return f.wait(ctx, rev)
}

// wait until the watermark is at least rev.
func (f *Feed) wait(ctx context.Context, rev int64) error {
	if f.rev.Load() >= rev {
		return nil
	}
	f.mu.Lock()
	f.waiting++
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		f.waiting--
		f.mu.Unlock()
	}()
	deadline := time.Now().Add(freshnessTimeout)
	timer := time.NewTimer(progressDelay)
	defer timer.Stop()
	for {
		f.mu.Lock()
		advanced, w := f.advanced, f.watcher
		f.mu.Unlock()
		if f.rev.Load() >= rev {
			return nil
		}
		select {
		case <-advanced:
		case <-ctx.Done():
			return ctx.Err()
		case now := <-timer.C:
			if now.After(deadline) {
				return errNotFresh
			}
			if w != nil {
				if err := w.RequestProgress(ctx); err != nil && ctx.Err() != nil {
					return ctx.Err()
				}
			}
			timer.Reset(progressPeriod)
		}
	}
}
