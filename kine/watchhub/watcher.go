package watchhub

import (
	"context"
	"strings"
	"sync"

	"skiff/kine"
)

// item waits for a watcher: a response, or the revisions from reread to Revision,
// which are to be read from the log.
type item struct {
	kine.WatchResponse
	reread int64
}

type watcher struct {
	hub  *Hub
	r    kine.Range
	opts kine.WatchOptions
	out  chan kine.WatchResponse
	// from is the first revision to deliver. Up to until the log has the events.
	from, until int64
	// next is the first revision that is not delivered yet; the pump's own.
	next int64

	mu    sync.Mutex
	queue []item
	// events and bytes count what is queued or about to be taken; progressAt
	// asks for a notification at that revision.
	events, bytes int
	progressAt    int64
	err           error
	ended, slow   bool
	wake          chan struct{}
}

// add puts the watcher into the hub's indexes, or takes it out. The caller
// holds the hub's mu.
func (w *watcher) add(sign int) {
	h := w.hub
	if w.opts.PrevKV {
		h.wantPrev += sign
	}
	index, key := h.keys, w.r.Start
	switch {
	case w.r.End == "":
	case w.r == kine.PrefixRange(w.r.Start) && (w.r.Start == "" || strings.HasSuffix(w.r.Start, "/")):
		index = h.prefixes
	default:
		if sign > 0 {
			h.ranges[w] = struct{}{}
		} else {
			delete(h.ranges, w)
		}
		return
	}
	if sign < 0 {
		delete(index[key], w)
		if len(index[key]) == 0 {
			delete(index, key)
		}
		return
	}
	if index[key] == nil {
		index[key] = map[*watcher]struct{}{}
	}
	index[key][w] = struct{}{}
}

func (w *watcher) wants(e *kine.Event) bool {
	if e.KV.ModRevision < w.from {
		return false
	}
	if e.Type == kine.Delete {
		return !w.opts.NoDelete
	}
	return !w.opts.NoPut
}

// view is e as this watcher sees it: a previous value that was known anyway is
// for those who asked for it.
func (w *watcher) view(e *kine.Event) *kine.Event {
	if w.opts.PrevKV || e.PrevKV == nil {
		return e
	}
	return &kine.Event{Type: e.Type, KV: e.KV}
}

// push queues a response. The caller holds the hub's mu.
func (w *watcher) push(resp item) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended {
		return
	}
	w.events += len(resp.Events)
	w.bytes += sizes(resp.Events)
	w.queue = append(w.queue, resp)
	// One response alone is never too much, however large its transaction is.
	if len(w.queue) > 1 && (w.events > queueEvents || w.bytes > queueBytes) {
		w.ended, w.slow, w.queue = true, true, nil
	}
	w.signal()
}

func sizes(events []*kine.Event) (n int) {
	for _, e := range events {
		n += size(e)
	}
	return n
}

// notify asks for a progress notification; onlyIdle leaves out a watcher that
// has events waiting. One that has not begun yet is told nothing: what it would
// be told is before its start.
func (w *watcher) notify(revision int64, onlyIdle bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended || revision+1 < w.from || onlyIdle && len(w.queue) > 0 {
		return
	}
	w.progressAt = max(w.progressAt, revision)
	w.signal()
}

func (w *watcher) end(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.endLocked(err)
	w.signal()
}

func (w *watcher) endLocked(err error) {
	if !w.ended {
		w.ended, w.err = true, err
	}
}

func (w *watcher) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// Responses implements kine.Watcher.
func (w *watcher) Responses() <-chan kine.WatchResponse { return w.out }

// Err implements kine.Watcher.
func (w *watcher) Err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// RequestProgress implements kine.Watcher.
func (w *watcher) RequestProgress(ctx context.Context) error {
	revision, err := w.hub.cfg.Revision(ctx)
	if err != nil {
		return err
	}
	revision = max(revision, w.from-1)
	h := w.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	w.mu.Lock()
	ended := w.ended
	w.mu.Unlock()
	switch {
	case ended:
	case h.revision >= revision:
		w.notify(h.revision, false)
	default:
		h.waiting[w] = revision
	}
	return nil
}

// pump delivers the past, then the queue, until the watch ends.
func (w *watcher) pump(ctx context.Context) {
	defer func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.slow {
			w.err = &kine.SlowWatcherError{ResumeRevision: w.next}
		}
	}()
	if err := w.past(ctx, w.from, w.until); err != nil {
		w.end(err)
		return
	}
	for {
		w.mu.Lock()
		queue, progress, ended := w.queue, w.progressAt, w.ended
		w.queue, w.progressAt = nil, 0
		w.mu.Unlock()
		if ended {
			return
		}
		for _, resp := range queue {
			if resp.reread > 0 {
				if err := w.past(ctx, resp.reread, resp.Revision); err != nil {
					w.end(err)
					return
				}
			} else if !w.send(ctx, resp.WatchResponse) {
				return
			}
			w.mu.Lock()
			w.events -= len(resp.Events)
			w.bytes -= sizes(resp.Events)
			w.mu.Unlock()
		}
		// What was queued after it was asked for may have gone further.
		if progress > 0 && !w.send(ctx, kine.WatchResponse{Revision: max(progress, w.next-1)}) {
			return
		}
		if len(queue) > 0 || progress > 0 {
			continue // a wake may have been taken while it was sent
		}
		select {
		case <-w.wake:
		case <-ctx.Done():
			w.end(ctx.Err())
			return
		}
	}
}

// past delivers revisions from the log.
func (w *watcher) past(ctx context.Context, from, until int64) error {
	for from <= until {
		w.mu.Lock()
		ended := w.ended
		w.mu.Unlock()
		if ended {
			return nil
		}
		page, err := w.hub.cfg.Log.Events(ctx, Query{
			Range: w.r, From: from, To: min(from+catchUpRevisions-1, until), PrevKV: w.opts.PrevKV, Bytes: catchUpBytes,
		})
		if err != nil {
			return err
		}
		kept := page.Events[:0]
		for _, e := range page.Events {
			if w.wants(e) {
				kept = append(kept, e)
			}
		}
		if len(kept) > 0 && !w.send(ctx, kine.WatchResponse{Events: kept, Revision: page.Through}) {
			return nil
		}
		from = page.Through + 1
	}
	return nil
}

// send waits until resp is taken; false when the watch ended before.
func (w *watcher) send(ctx context.Context, resp kine.WatchResponse) bool {
	for {
		select {
		case w.out <- resp:
			w.next = max(w.next, resp.Revision+1)
			return true
		case <-ctx.Done():
			w.end(ctx.Err())
			return false
		case <-w.wake:
			// Only an end matters while a response waits to be taken. A wake for
			// more is seen in the queue afterwards.
			w.mu.Lock()
			ended := w.ended
			w.mu.Unlock()
			if ended {
				return false
			}
		}
	}
}
