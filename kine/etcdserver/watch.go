package etcdserver

import (
	"context"
	"errors"
	"io"
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"

	"skiff/kine"
	"skiff/kine/etcdwire"
)

type watchServer struct {
	pb.UnimplementedWatchServer
	*Server
}

type watchStream struct {
	*watchServer
	grpc grpc.BidiStreamingServer[pb.WatchRequest, pb.WatchResponse]
	ctx  context.Context

	// sending keeps the messages of several watches apart, and the parts of one
	// together.
	sending sync.Mutex

	mu      sync.Mutex
	watches map[int64]*openWatch
	lastID  int64
	// closed tells that no watch is opened any more.
	closed bool
	wg     sync.WaitGroup
}

// openWatch is one watch of a stream.
type openWatch struct {
	id     int64
	cancel context.CancelFunc
	keys   kine.Range
	opts   kine.WatchOptions
	// notify tells that the client asked for progress notifications of its own.
	notify, fragment bool
	// start is the revision that the client asked for.
	start   int64
	watcher kine.Watcher
	// asked is the revision that the client wants to be told of once the watch has
	// delivered everything before it; 0 for none. Of the stream's mu.
	asked int64
}

// Watch serves one client's watches until it or the server ends.
func (s *watchServer) Watch(g grpc.BidiStreamingServer[pb.WatchRequest, pb.WatchResponse]) error {
	ctx, cancel := context.WithCancel(g.Context())
	st := &watchStream{watchServer: s, grpc: g, ctx: ctx, watches: map[int64]*openWatch{}}
	defer func() {
		cancel()
		st.mu.Lock()
		st.closed = true
		st.mu.Unlock()
		st.wg.Wait()
	}()
	received := make(chan error, 1)
	go func() { received <- st.receive() }() // ends with the stream
	select {
	case err := <-received:
		if errors.Is(err, io.EOF) {
			return nil
		}
		return err
	case <-s.stopping:
		return etcdwire.Error(kine.ErrStopped)
	}
}

func (st *watchStream) receive() error {
	for {
		r, err := st.grpc.Recv()
		if err != nil {
			return err
		}
		switch q := r.RequestUnion.(type) {
		case *pb.WatchRequest_CreateRequest:
			err = st.create(q.CreateRequest)
		case *pb.WatchRequest_CancelRequest:
			err = st.cancel(q.CancelRequest.WatchId)
		case *pb.WatchRequest_ProgressRequest:
			err = st.requestProgress()
		}
		if err != nil {
			return err
		}
	}
}

func (st *watchStream) send(r *pb.WatchResponse) error {
	st.sending.Lock()
	defer st.sending.Unlock()
	return st.grpc.Send(r)
}

func (st *watchStream) create(r *pb.WatchCreateRequest) error {
	key := r.Key
	if len(key) == 0 {
		key = []byte{0}
	}
	w := &openWatch{
		keys:   etcdwire.FromRange(key, r.RangeEnd),
		opts:   kine.WatchOptions{Revision: max(r.StartRevision, 0), PrevKV: r.PrevKv, ProgressNotify: r.ProgressNotify},
		notify: r.ProgressNotify, fragment: r.Fragment, start: max(r.StartRevision, 0),
	}
	for _, f := range r.Filters {
		switch f {
		case pb.WatchCreateRequest_NOPUT:
			w.opts.NoPut = true
		case pb.WatchCreateRequest_NODELETE:
			w.opts.NoDelete = true
		}
	}
	h, err := st.now(st.ctx)
	if err != nil {
		return etcdwire.Error(err)
	}
	st.mu.Lock()
	w.id = r.WatchId
	_, taken := st.watches[w.id]
	if r.WatchId == 0 {
		for taken = true; taken; _, taken = st.watches[w.id] {
			w.id = st.lastID
			st.lastID++
		}
	}
	st.mu.Unlock()
	if taken {
		return st.send(&pb.WatchResponse{Header: h, WatchId: -1, Created: true, Canceled: true, CancelReason: "mvcc: duplicate watch ID provided on the WatchStream"})
	}
	ctx, cancel := context.WithCancel(st.ctx)
	w.cancel = cancel
	if w.watcher, err = st.cfg.Store.Watch(ctx, w.keys, w.opts); err != nil {
		cancel()
		return st.send(&pb.WatchResponse{Header: h, WatchId: w.id, Created: true, Canceled: true, CancelReason: err.Error()})
	}
	// Created comes before the first event.
	if err := st.send(&pb.WatchResponse{Header: h, WatchId: w.id, Created: true}); err != nil {
		cancel()
		return err
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.closed {
		cancel()
		return nil
	}
	st.watches[w.id] = w
	st.wg.Go(func() {
		defer cancel()
		st.forward(ctx, w)
	})
	return nil
}

// cancel ends one watch; the client is told.
func (st *watchStream) cancel(id int64) error {
	w := st.remove(id)
	if w == nil {
		return nil
	}
	w.cancel()
	h, err := st.now(st.ctx)
	if err != nil {
		return etcdwire.Error(err)
	}
	return st.send(&pb.WatchResponse{Header: h, WatchId: id, Canceled: true})
}

func (st *watchStream) remove(id int64) *openWatch {
	st.mu.Lock()
	defer st.mu.Unlock()
	w := st.watches[id]
	delete(st.watches, id)
	return w
}

// forward sends a watch's events until it ends. A watch that fell behind goes on
// where it was: etcd's protocol has no word for it.
func (st *watchStream) forward(ctx context.Context, w *openWatch) {
	for {
		for resp := range w.watcher.Responses() {
			if err := st.deliver(w, resp); err != nil {
				return // the stream is broken; its end cancels the rest
			}
		}
		err := w.watcher.Err()
		var slow *kine.SlowWatcherError
		if !errors.As(err, &slow) {
			st.ended(ctx, w, err)
			return
		}
		w.opts.Revision = slow.ResumeRevision
		next, err := st.cfg.Store.Watch(ctx, w.keys, w.opts)
		if err != nil {
			st.ended(ctx, w, err)
			return
		}
		st.mu.Lock()
		w.watcher = next
		asked := w.asked
		st.mu.Unlock()
		if asked > 0 && next.RequestProgress(ctx) != nil {
			continue // it ends by itself
		}
	}
}

// ended tells the client that a watch is over, if it does not know.
func (st *watchStream) ended(ctx context.Context, w *openWatch, err error) {
	if ctx.Err() != nil || st.remove(w.id) == nil {
		return
	}
	resp := &pb.WatchResponse{Header: header(0), WatchId: w.id, Canceled: true}
	var compacted *kine.CompactedError
	if errors.As(err, &compacted) {
		resp.CompactRevision = max(compacted.CompactRevision, 1)
	} else if err != nil {
		resp.CancelReason = err.Error()
	}
	if h, err := st.now(st.ctx); err == nil {
		resp.Header = h
	}
	_ = st.send(resp) // a broken stream ends by itself
}

// deliver sends one response of a watch, and progress where it was asked for.
func (st *watchStream) deliver(w *openWatch, resp kine.WatchResponse) error {
	if len(resp.Events) > 0 {
		if err := st.sendEvents(w, resp); err != nil {
			return err
		}
	}
	// Progress before a watch's start would make clients go on from there.
	if resp.Revision+1 < w.start {
		return nil
	}
	st.mu.Lock()
	due := len(resp.Events) == 0 && w.notify
	if w.asked > 0 && w.asked <= resp.Revision {
		due, w.asked = true, 0
	}
	st.mu.Unlock()
	if !due {
		return nil
	}
	return st.send(&pb.WatchResponse{Header: header(resp.Revision), WatchId: w.id})
}

// sendEvents sends events, in parts when there are many. The parts follow each
// other: a client drops what it is told between them.
func (st *watchStream) sendEvents(w *openWatch, resp kine.WatchResponse) error {
	st.sending.Lock()
	defer st.sending.Unlock()
	out := &pb.WatchResponse{Header: header(resp.Revision), WatchId: w.id}
	size := 0
	for i, e := range resp.Events {
		size += len(e.KV.Key) + len(e.KV.Value)
		out.Events = append(out.Events, etcdwire.Event(e))
		if w.fragment && size >= sendChunk && i+1 < len(resp.Events) {
			out.Fragment = true
			if err := st.grpc.Send(out); err != nil {
				return err
			}
			out, size = &pb.WatchResponse{Header: header(resp.Revision), WatchId: w.id}, 0
		}
	}
	return st.grpc.Send(out)
}

// requestProgress makes each watch of the stream say, once it is true, that it has
// delivered everything up to now. One answer for all of them could be behind what
// some have sent already, and would take their clients back.
func (st *watchStream) requestProgress() error {
	revision, err := st.cfg.Store.Revision(st.ctx)
	if err != nil {
		return etcdwire.Error(err)
	}
	st.mu.Lock()
	var all []kine.Watcher
	for _, w := range st.watches {
		w.asked = max(w.asked, revision)
		all = append(all, w.watcher)
	}
	st.mu.Unlock()
	if len(all) == 0 {
		return st.send(&pb.WatchResponse{Header: header(revision), WatchId: -1})
	}
	for _, w := range all {
		if err := w.RequestProgress(st.ctx); err != nil {
			return etcdwire.Error(err)
		}
	}
	return nil
}
