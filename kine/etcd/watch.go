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
type watcher struct {
	s      *Store
	in     clientv3.WatchChan
	ctx    context.Context
	cancel context.CancelFunc
	from   int64
	prev   bool
	out    chan kine.WatchResponse

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
	w := &watcher{s: s, from: opts.Revision, prev: opts.PrevKV, out: make(chan kine.WatchResponse)}
	w.ctx, w.cancel = context.WithCancel(clientv3.WithRequireLeader(ctx))
	w.in = s.client.Watch(w.ctx, string(key), o...)
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
func (w *watcher) RequestProgress(context.Context) error {
	if !w.s.progress {
		return nil
	}
	// The stream that answers is found by the watch's own context.
	if err := w.s.client.RequestProgress(w.ctx); err != nil {
		return etcdwire.FromError(w.ctx, err, false)
	}
	return nil
}

func (w *watcher) pump(ctx context.Context) {
	defer close(w.out)
	defer w.cancel()
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
			if err := w.problem(ctx, &resp); err != nil {
				return err
			}
			out := kine.WatchResponse{Revision: resp.Header.GetRevision()}
			if n := len(resp.Events); n > 0 {
				// The header is ahead of what this response has.
				out.Revision = resp.Events[n-1].Kv.ModRevision
				for _, e := range resp.Events {
					if w.prev && e.PrevKv == nil && !e.IsCreate() {
						// A compaction overtook the member that reads it.
						return &kine.CompactedError{Revision: e.Kv.ModRevision, CompactRevision: e.Kv.ModRevision}
					}
					// A client that was told of progress before a watch's start goes on
					// from there when the connection breaks.
					if e.Kv.ModRevision >= w.from {
						out.Events = append(out.Events, etcdwire.FromEvent(e))
					}
				}
				if len(out.Events) == 0 {
					continue
				}
			} else if !resp.IsProgressNotify() || !w.s.progress {
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

// problem is why a response ends the watch.
func (w *watcher) problem(ctx context.Context, resp *clientv3.WatchResponse) error {
	if resp.CompactRevision > 0 {
		w.s.mu.Lock()
		w.s.compacted = max(w.s.compacted, resp.CompactRevision)
		w.s.mu.Unlock()
		return &kine.CompactedError{Revision: w.from, CompactRevision: resp.CompactRevision}
	}
	if err := resp.Err(); err != nil {
		return etcdwire.FromError(ctx, err, false)
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
		for _, w := range asking {
			if err := w.RequestProgress(ctx); err != nil && ctx.Err() == nil && !errors.Is(err, context.Canceled) {
				s.cfg.Log.Debug("progress could not be asked for", "err", err)
			}
		}
	}
}
