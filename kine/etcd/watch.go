package etcd

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"skiff/kine"
	"skiff/kine/etcdwire"
)

// watcher hands on what etcd sends. The client library opens a broken stream
// again where it was.
//
// Each has a stream of its own, since progress that is asked for is a whole
// stream's. A server makes it out when all watches there have caught up, and may
// send it after it has created another, whose first events are still to come: the
// client would tell that one too.
type watcher struct {
	s      *Store
	stream clientv3.Watcher
	in     clientv3.WatchChan
	ctx    context.Context
	cancel context.CancelFunc
	from   int64
	prev   bool
	// promised is the newest progress; the pump's own.
	promised int64
	out      chan kine.WatchResponse

	mu  sync.Mutex
	err error
}

// Watch implements kine.Store.
func (s *Store) Watch(ctx context.Context, r kine.Range, opts kine.WatchOptions) (kine.Watcher, error) {
	if r.Start == "" && r.End == "" {
		return nil, fmt.Errorf("watch of an empty key: %w", kine.ErrInvalid)
	}
	if opts.Revision == 0 {
		// Now is not what a member that lags behind takes for it.
		now, err := s.Revision(ctx)
		if err != nil {
			return nil, err
		}
		opts.Revision = now + 1
	}
	_, cancel, err := s.request(ctx)
	if err != nil {
		return nil, err
	}
	cancel()
	key, end := etcdwire.Range(r)
	o := []clientv3.OpOption{clientv3.WithFragment(), clientv3.WithProgressNotify(), clientv3.WithRev(opts.Revision)}
	if len(end) > 0 {
		o = append(o, clientv3.WithRange(string(end)))
	}
	if opts.PrevKV {
		o = append(o, clientv3.WithPrevKV())
	}
	if opts.NoPut {
		o = append(o, clientv3.WithFilterPut())
	}
	if opts.NoDelete {
		o = append(o, clientv3.WithFilterDelete())
	}
	w := &watcher{s: s, stream: clientv3.NewWatcher(s.client), from: opts.Revision, prev: opts.PrevKV, out: make(chan kine.WatchResponse)}
	w.ctx, w.cancel = context.WithCancel(clientv3.WithRequireLeader(ctx))
	w.in = w.stream.Watch(w.ctx, string(key), o...)
	if opts.ProgressNotify {
		s.mu.Lock()
		s.idle[w] = struct{}{}
		s.mu.Unlock()
	}
	go w.pump(ctx)
	return w, nil
}

// Responses implements kine.Watcher.
func (w *watcher) Responses() <-chan kine.WatchResponse { return w.out }

// Err implements kine.Watcher.
func (w *watcher) Err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// RequestProgress implements kine.Watcher. From members whose notifications
// cannot be trusted there is none.
func (w *watcher) RequestProgress(ctx context.Context) error {
	if !w.s.progress {
		return nil
	}
	// The stream is found by what the watch's own context has.
	asking, cancel := context.WithCancel(w.ctx)
	defer cancel()
	defer context.AfterFunc(ctx, cancel)()
	err := w.stream.RequestProgress(asking)
	if err != nil && w.ctx.Err() != nil {
		return ctx.Err() // the watch has ended, and Err says why
	}
	return etcdwire.FromError(ctx, err, false)
}

func (w *watcher) pump(ctx context.Context) {
	defer close(w.out)
	defer func() {
		w.cancel()
		_ = w.stream.Close() // it says how the stream ended, which is known
	}()
	defer func() {
		w.s.mu.Lock()
		delete(w.s.idle, w)
		w.s.mu.Unlock()
	}()
	err := w.forward(ctx)
	w.mu.Lock()
	w.err = err
	w.mu.Unlock()
}

func (w *watcher) forward(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-w.s.stopped:
			return kine.ErrStopped
		case resp, ok := <-w.in:
			if !ok {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				return kine.ErrStopped
			}
			out, err := w.response(ctx, &resp)
			if err != nil {
				return err
			}
			if out.Revision == 0 {
				continue
			}
			select {
			case w.out <- out:
			case <-ctx.Done():
				return ctx.Err()
			case <-w.s.stopped:
				return kine.ErrStopped
			}
		}
	}
}

// response is what a response of etcd's says: nothing when it has no revision.
func (w *watcher) response(ctx context.Context, resp *clientv3.WatchResponse) (out kine.WatchResponse, err error) {
	if err := w.problem(ctx, resp); err != nil {
		return out, err
	}
	n := len(resp.Events)
	if n == 0 {
		if resp.IsProgressNotify() && w.s.progress {
			out.Revision = resp.Header.GetRevision()
			w.promised = max(w.promised, out.Revision)
		}
		return out, nil
	}
	for _, e := range resp.Events {
		at := e.Kv.ModRevision
		switch {
		case w.prev && e.PrevKv == nil && !e.IsCreate():
			// A compaction overtook the member that reads it.
			return out, &kine.CompactedError{Revision: at, CompactRevision: at}
		case at < w.from:
			// A client that was told of progress before a watch's start goes on
			// from there when the connection breaks.
		case at <= w.promised:
			// Whoever was told that there is no such event must begin anew.
			w.s.cfg.Log.Error("etcd sent an event after it had said that all of its time were sent; the watch ends as if it were compacted",
				"key", string(e.Kv.Key), "revision", at, "promised", w.promised)
			return out, &kine.CompactedError{Revision: at, CompactRevision: w.promised}
		default:
			out.Events = append(out.Events, etcdwire.FromEvent(e))
		}
	}
	if len(out.Events) > 0 {
		// The header is ahead of what this response has.
		out.Revision = resp.Events[n-1].Kv.ModRevision
	}
	return out, nil
}

// problem is why a response ends the watch.
func (w *watcher) problem(ctx context.Context, resp *clientv3.WatchResponse) error {
	if resp.CompactRevision > 0 {
		w.s.mu.Lock()
		w.s.compacted = max(w.s.compacted, resp.CompactRevision)
		w.s.mu.Unlock()
		return &kine.CompactedError{Revision: w.from, CompactRevision: resp.CompactRevision}
	}
	if err := resp.Err(); err != nil {
		select {
		case <-w.s.stopped:
			return kine.ErrStopped
		default:
			return etcdwire.FromError(ctx, err, false)
		}
	}
	return nil
}

// tellProgress asks for progress notifications for the watchers that want them;
// etcd's own interval is ten minutes.
func (s *Store) tellProgress(ctx context.Context) {
	if !s.progress {
		return
	}
	tick := time.NewTicker(s.cfg.Progress)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		s.mu.Lock()
		var asking []*watcher
		for w := range s.idle {
			asking = append(asking, w)
		}
		s.mu.Unlock()
		s.ask(ctx, asking)
	}
}

// ask asks for progress on streams, for no longer than until it is asked for again:
// one that is being opened takes no request.
func (s *Store) ask(ctx context.Context, watchers []*watcher) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Progress)
	defer cancel()
	var wg sync.WaitGroup
	for _, w := range watchers {
		wg.Go(func() {
			if err := w.RequestProgress(ctx); err != nil && ctx.Err() == nil && !errors.Is(err, context.Canceled) {
				s.cfg.Log.Debug("progress could not be asked for", "err", err)
			}
		})
	}
	wg.Wait()
}
