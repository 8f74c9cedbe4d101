package watchhub

import (
	"context"
	"strings"
	"sync"

	"skiff/kine"
)

type watcher struct {
	hub  *Hub
	r    kine.Range
	opts kine.WatchOptions
	out  chan kine.WatchResponse
	// from is the first revision to deliver. Up to until the log has the events.
	from, until int64

	mu    sync.Mutex
	queue []kine.WatchResponse
	// events and bytes count what is queued; progress asks for a notification
	// at that revision.
	events, bytes int
	progressAt    int64
	err           error
	ended         bool
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
func (w *watcher) push(resp kine.WatchResponse) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended {
		return
	}
	for _, e := range resp.Events {
		w.bytes += len(e.KV.Key) + len(e.KV.Value)
	}
	w.events += len(resp.Events)
	w.queue = append(w.queue, resp)
	if w.events > queueEvents || w.bytes > queueBytes {
		w.endLocked(&kine.SlowWatcherError{ResumeRevision: w.queue[0].Events[0].KV.ModRevision})
		w.queue = nil
	}
	w.signal()
}

// notify asks for a progress notification; onlyIdle leaves out a watcher that
// has events waiting.
func (w *watcher) notify(revision int64, onlyIdle bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended || onlyIdle && len(w.queue) > 0 {
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
func (w *watcher) RequestProgress(context.Context) error {
	w.hub.mu.Lock()
	defer w.hub.mu.Unlock()
	w.notify(w.hub.revision, false)
	return nil
}

// pump delivers the past, then the queue, until the watch ends.
func (w *watcher) pump(ctx context.Context) {
	defer close(w.out)
	if err := w.catchUp(ctx); err != nil {
		w.end(err)
		return
	}
	for {
		w.mu.Lock()
		queue, progress, ended := w.queue, w.progressAt, w.ended
		w.queue, w.events, w.bytes, w.progressAt = nil, 0, 0, 0
		w.mu.Unlock()
		for _, resp := range queue {
			if !w.send(ctx, resp) {
				return
			}
		}
		if progress > 0 && !w.send(ctx, kine.WatchResponse{Revision: progress}) {
			return
		}
		if ended {
			return
		}
		if len(queue) > 0 {
			continue
		}
		select {
		case <-w.wake:
		case <-ctx.Done():
			w.end(ctx.Err())
			return
		}
	}
}

func (w *watcher) catchUp(ctx context.Context) error {
	for from := w.from; from <= w.until; from += catchUpRevisions {
		w.mu.Lock()
		ended := w.ended
		w.mu.Unlock()
		if ended {
			return nil
		}
		to := min(from+catchUpRevisions-1, w.until)
		events, err := w.hub.cfg.Log.Events(ctx, w.r, from, to, w.opts.PrevKV)
		if err != nil {
			return err
		}
		kept := events[:0]
		for _, e := range events {
			if w.wants(e) {
				kept = append(kept, e)
			}
		}
		if len(kept) > 0 && !w.send(ctx, kine.WatchResponse{Events: kept, Revision: to}) {
			return nil
		}
	}
	return nil
}

func (w *watcher) send(ctx context.Context, resp kine.WatchResponse) bool {
	for {
		select {
		case w.out <- resp:
			return true
		case <-ctx.Done():
			w.end(ctx.Err())
			return false
		case <-w.wake:
			// Only an end matters while a response waits to be taken.
			w.mu.Lock()
			ended := w.ended
			w.mu.Unlock()
			if ended {
				return false
			}
		}
	}
}
