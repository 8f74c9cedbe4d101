package postgres

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lib/pq"

	"skiff/kine"
	"skiff/kine/mvcc"
	"skiff/kine/recent"
	"skiff/kine/watchhub"
)

const (
	// pageRows is how much of the log the feed reads at once.
	pageRows = 1000
	// blindInterval is how often the log is looked at when nothing tells of
	// changes, and trustInterval when notifications are known to arrive.
	blindInterval = 100 * time.Millisecond
	trustInterval = 5 * time.Second
	// recentBytes bounds the values that are kept for watchers.
	recentBytes = 32 << 20
)

// feed brings the log to the hub, in order and without gaps.
type feed struct {
	s     *Store
	awake chan struct{}
	// heard tells that notifications arrive.
	heard atomic.Bool
	// recent are the values that this process wrote while watchers wanted them.
	recent *recent.Values

	mu sync.Mutex
	// at is the revision up to which the hub has everything.
	at int64
}

func newFeed(s *Store, at int64) *feed {
	return &feed{s: s, awake: make(chan struct{}, 1), at: at, recent: recent.New(recentBytes)}
}

// wake makes the feed look at the log.
func (f *feed) wake() {
	select {
	case f.awake <- struct{}{}:
	default:
	}
}

func (f *feed) position() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.at
}

// offer takes a group of this process without reading it again, if it is what
// comes next.
func (f *feed) offer(c committed) {
	f.mu.Lock()
	defer f.mu.Unlock()
	inOrder := f.at == c.base
	if !inOrder {
		// Others wrote, perhaps after the database lost what is remembered here.
		f.recent = recent.New(recentBytes)
	}
	if f.s.hub.WantsPrev() {
		for i := range c.writes {
			f.recall(&c.writes[i])
		}
	}
	if !inOrder {
		f.wake()
		return
	}
	events := make([]*kine.Event, len(c.writes))
	prev := true
	for i := range c.writes {
		w := &c.writes[i]
		prev = prev && (w.Prev == nil || w.PrevValue != nil)
		e := w.Event()
		events[i] = &e
	}
	f.s.hub.Publish(c.revision, events, prev)
	f.at = c.revision
}

// recall adds the value that a write replaced, if this process wrote it: watchers that
// want it would each read it from the database.
func (f *feed) recall(w *mvcc.Write) {
	if w.Prev != nil {
		if value, ok := f.recent.Get(w.Prev.Pos); ok && w.PrevValue == nil {
			w.PrevValue = value
		}
		f.recent.Drop(w.Prev.Pos)
	}
	if !w.Version.Deleted() {
		f.recent.Add(w.Version.Pos, w.Value)
	}
}

// run reads the log whenever it is woken, and from time to time.
func (f *feed) run(ctx context.Context) {
	failing := false
	for {
		more, err := f.read(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil && !failing:
			failing = true
			f.s.cfg.Log.Warn("the log cannot be read; watchers wait until it can", "err", explain(err))
		case err == nil && failing:
			failing = false
			f.s.cfg.Log.Info("the log can be read again")
		}
		if err == nil && more {
			continue
		}
		interval := blindInterval
		if f.heard.Load() {
			interval = trustInterval
		}
		timer := time.NewTimer(interval)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-f.awake:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// read brings one page to the hub; more tells that there is another.
func (f *feed) read(ctx context.Context) (more bool, err error) {
	at := f.position()
	prev := f.s.hub.WantsPrev()
	var events []*kine.Event
	var h head
	for limit := pageRows; ; limit *= 2 {
		q := watchhub.Query{From: at + 1, To: mvcc.MaxRevision - 1}
		page, now, err := f.s.events(ctx, q, "", fmt.Sprintf(" LIMIT %d", limit), []any{int64(mvcc.At(q.From, 0)), int64(mvcc.At(q.To, 0)), prev})
		if err != nil {
			return false, err
		}
		h, events = now, page.Page().Events
		if more = len(events) == limit; !more {
			break
		}
		// The last revision of a full page may go on beyond it.
		last := events[len(events)-1].KV.ModRevision
		n := len(events)
		for n > 0 && events[n-1].KV.ModRevision == last {
			n--
		}
		if events = events[:n]; n > 0 {
			break
		}
	}
	through := h.revision
	if more {
		through = events[len(events)-1].KV.ModRevision
	}
	raise(&f.s.compact, h.compact)
	if h.revision < at {
		return true, f.s.forward(ctx, h.revision, f.s.highest.Load())
	}
	raise(&f.s.highest, h.revision)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.at+1 < h.compact {
		// The feed was away for longer than the log is kept.
		f.at = h.revision
		f.s.hub.Reset(h.revision, &kine.CompactedError{Revision: at + 1, CompactRevision: h.compact})
		return false, nil
	}
	for len(events) > 0 && events[0].KV.ModRevision <= f.at {
		events = events[1:] // a group of this process was quicker
	}
	if through > f.at {
		f.s.hub.Publish(through, events, prev)
		f.at = through
	}
	return more, nil
}

// listen wakes the feed when another server wrote. It trusts notifications only
// after one on a channel of its own came back over the pool, and listens on the common
// channel only then: a pooler that gives connections out by the transaction passes none,
// and keeps what was listened on for as long as it keeps the connection, with a warning
// in its log for each notification.
func (f *feed) listen(ctx context.Context) {
	if !f.s.notifies {
		return
	}
	own := channel + "_" + strings.ToLower(f.s.name)
	l := pq.NewListener(f.s.cfg.ListenURL, 100*time.Millisecond, 5*time.Second, func(e pq.ListenerEventType, _ error) {
		if e == pq.ListenerEventDisconnected || e == pq.ListenerEventConnectionAttemptFailed {
			f.heard.Store(false)
		}
		f.wake()
	})
	defer l.Close()
	type listened struct {
		channel string
		err     error
	}
	results := make(chan listened, 2)
	start := func(name string) { go func() { results <- listened{name, l.Listen(name)} }() }
	start(own)
	test := time.NewTicker(30 * time.Second)
	defer test.Stop()
	shared := false // the common channel is listened on, or will be
	recent := false // a notification came since the last test
	probe := func() {
		if _, err := f.s.readers.ExecContext(ctx, `SELECT pg_notify($1, '')`, own); err != nil {
			f.heard.Store(false)
		}
	}
	for {
		select {
		case <-ctx.Done():
			return
		case r := <-results:
			switch {
			case r.err != nil:
				f.s.cfg.Log.Info("no notifications from the database; it is asked every 100 ms instead", "err", r.err)
			case r.channel == own:
				probe()
			default:
				f.heard.Store(true)
				f.wake() // for what was written before
			}
		case n := <-l.Notify:
			if n == nil { // connected again: some may be lost
				f.wake()
				probe()
				continue
			}
			recent = true
			if !shared {
				shared = true
				start(channel)
				continue
			}
			f.heard.Store(true)
			// What this process has written it brings itself.
			text, from, _ := strings.Cut(n.Extra, " ")
			if rev, err := strconv.ParseInt(text, 10, 64); err == nil && from != f.s.name && rev > f.position() {
				f.wake()
			}
		case <-test.C:
			if !recent {
				// The connection may be dead without a sign of it.
				f.heard.Store(false)
				f.wake()
				probe()
			}
			recent = false
		}
	}
}
