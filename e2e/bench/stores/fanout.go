package stores

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// FanOut is a number of watchers, and events a second for them.
type FanOut struct {
	// Watchers share connections and streams as clients do: so many on each.
	Watchers, PerStream int
	// Rate is events a second, and Share what part of them, one in Share, each
	// watcher asks for.
	Rate, Share int
}

// FanOut measures how long after a put's begin the watchers have its event. All
// of them must get all that they ask for.
func (r *Run) FanOut(ctx context.Context, f FanOut) error {
	name := fmt.Sprintf("watch: %d events a second, 1 in %d to each", f.Rate, f.Share)
	return r.compare(ctx, name, f.Watchers, func(ctx context.Context, s *Server, l *Line) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		return r.fanOut(ctx, s, l, f)
	})
}

func (r *Run) fanOut(ctx context.Context, s *Server, l *Line, f FanOut) (err error) {
	total := int(r.Each.Seconds() * float64(f.Rate))
	total -= total % f.Share
	prefix := fmt.Sprintf("/registry/fan/%d/", time.Now().UnixNano())
	w := &watchers{want: total / f.Share, lags: make([][]time.Duration, f.Watchers)}
	for at := 0; at < f.Watchers; at += f.PerStream {
		c, err := connect(s.Address)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, c.Close()) }()
		var keys []string
		for i := at; i < min(at+f.PerStream, f.Watchers); i++ {
			keys = append(keys, fmt.Sprintf("%s%d/", prefix, i%f.Share))
		}
		if err := w.open(ctx, pb.NewWatchClient(c), at, keys); err != nil {
			return err
		}
	}
	conns, hangUp, err := dial(s.Address, 2*perConnection)
	if err != nil {
		return err
	}
	began := time.Now()
	var failed atomic.Pointer[error]
	var puts sync.WaitGroup
	for n := range total {
		// The moment at which the event should be, so that a server that holds up
		// the puts does not look fast.
		due := began.Add(time.Duration(n) * time.Second / time.Duration(f.Rate))
		if wait := time.Until(due); wait > 0 {
			select {
			case <-time.After(wait):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		puts.Go(func() {
			value := binary.BigEndian.AppendUint64(make([]byte, 0, r.ValueBytes), uint64(due.UnixNano()))
			key := fmt.Appendf(nil, "%s%d/%d", prefix, n%f.Share, n)
			if _, err := conns[n%len(conns)].Put(ctx, &pb.PutRequest{Key: key, Value: value[:r.ValueBytes]}); err != nil {
				failed.CompareAndSwap(nil, &err)
			}
		})
	}
	puts.Wait()
	if e := failed.Load(); e != nil {
		return *e
	}
	const patience = time.Minute
	select {
	case <-w.done():
	case <-time.After(patience):
		l.Errors, l.FirstError = int(int64(f.Watchers*w.want)-w.got.Load()), "not delivered a minute after the last put"
	}
	whole := time.Since(began)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil && l.Errors == 0 {
		return w.err
	}
	l.took(slices.Concat(w.lags...), whole)
	return hangUp()
}

// watchers are those of all streams.
type watchers struct {
	want int
	got  atomic.Int64
	ends sync.WaitGroup

	mu   sync.Mutex
	lags [][]time.Duration
	err  error
}

// open begins a stream with a watch for each of keys, and reads it.
func (w *watchers) open(ctx context.Context, c pb.WatchClient, first int, keys []string) error {
	stream, err := c.Watch(ctx)
	if err != nil {
		return err
	}
	for i, key := range keys {
		end := key[:len(key)-1] + "0" // after the slash
		err := stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{
			Key: []byte(key), RangeEnd: []byte(end), WatchId: int64(i + 1),
		}}})
		if err != nil {
			return err
		}
	}
	for range keys {
		resp, err := stream.Recv()
		if err != nil {
			return err
		}
		if !resp.Created || resp.Canceled {
			return fmt.Errorf("a watch was not made: %v", resp)
		}
	}
	w.ends.Go(func() {
		if err := w.read(stream, first, len(keys)); err != nil {
			w.mu.Lock()
			defer w.mu.Unlock()
			if w.err == nil {
				w.err = err
			}
		}
	})
	return nil
}

// read takes what n watches get until they have all.
func (w *watchers) read(stream pb.Watch_WatchClient, first, n int) error {
	lags := make([][]time.Duration, n)
	defer func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		copy(w.lags[first:], lags)
	}()
	for left := n * w.want; left > 0; {
		resp, err := stream.Recv()
		if err != nil {
			return err
		}
		if resp.Canceled {
			return fmt.Errorf("a watch was cancelled: %s", resp.CancelReason)
		}
		now := time.Now().UnixNano()
		mine := &lags[resp.WatchId-1]
		for _, e := range resp.Events {
			*mine = append(*mine, time.Duration(now-int64(binary.BigEndian.Uint64(e.Kv.Value))))
		}
		left -= len(resp.Events)
		w.got.Add(int64(len(resp.Events)))
	}
	return nil
}

// done is closed when all watchers have all.
func (w *watchers) done() <-chan struct{} {
	done := make(chan struct{})
	go func() {
		w.ends.Wait()
		close(done)
	}()
	return done
}
