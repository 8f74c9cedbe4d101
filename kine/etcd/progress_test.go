package etcd_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc"

	"skiff/kine"
	"skiff/kine/etcd"
	"skiff/kine/kinetest"
)

// The fake's only event is at written, and its revision is newest.
const written, newest = 5, 10

// fake is an etcd that is as slow as one may be: progress that it has made out
// waits until the next watch on the stream is created, and that one's events wait
// for the progress to be sent. A real one chooses among them at random.
type fake struct {
	pb.UnimplementedKVServer
	pb.UnimplementedMaintenanceServer
	pb.UnimplementedWatchServer
	// asked has an element for each progress that was made out.
	asked chan struct{}
	// lie has progress sent at once to a watch whose events are still to come.
	lie bool
	// streams is how many are open.
	streams atomic.Int64
}

func header() *pb.ResponseHeader { return &pb.ResponseHeader{Revision: newest} }

func (f *fake) Range(context.Context, *pb.RangeRequest) (*pb.RangeResponse, error) {
	return &pb.RangeResponse{Header: header()}, nil
}

func (f *fake) Status(context.Context, *pb.StatusRequest) (*pb.StatusResponse, error) {
	return &pb.StatusResponse{Header: header(), Version: "3.7.3"}, nil
}

func (f *fake) Watch(stream pb.Watch_WatchServer) error {
	f.streams.Add(1)
	defer f.streams.Add(-1)
	var created, waiting int64
	progress := func() error { return stream.Send(&pb.WatchResponse{Header: header(), WatchId: -1}) }
	for {
		req, err := stream.Recv()
		if err != nil {
			return err
		}
		if req.GetProgressRequest() != nil && created > 0 {
			waiting++
			select {
			case f.asked <- struct{}{}:
			default: // nobody waits for so many
			}
		}
		create := req.GetCreateRequest()
		if create == nil {
			continue
		}
		if err := stream.Send(&pb.WatchResponse{Header: header(), WatchId: created, Created: true}); err != nil {
			return err
		}
		if f.lie {
			waiting++
		}
		for ; waiting > 0; waiting-- {
			if err := progress(); err != nil {
				return err
			}
		}
		if create.StartRevision <= written {
			kv := &mvccpb.KeyValue{Key: create.Key, CreateRevision: written, ModRevision: written, Version: 1}
			if err := stream.Send(&pb.WatchResponse{Header: header(), WatchId: created, Events: []*mvccpb.Event{{Kv: kv}}}); err != nil {
				return err
			}
		}
		created++
	}
}

// start serves, until the test's end or stop, a store on the fake.
func (f *fake) start(t *testing.T) (s *etcd.Store, stop func()) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	pb.RegisterKVServer(server, f)
	pb.RegisterMaintenanceServer(server, f)
	pb.RegisterWatchServer(server, f)
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	s, err = etcd.New(etcd.Config{Endpoints: []string{"unix://" + path}, CompactInterval: -1, Progress: time.Hour, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return s, kinetest.Start(t, s)
}

// Progress of one watch is not told to another that is being opened, whose events
// are still to come.
func TestProgressIsOfOneWatch(t *testing.T) {
	f := &fake{asked: make(chan struct{}, 10)}
	s, _ := f.start(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	caughtUp, err := s.Watch(ctx, kine.PrefixRange("/w/"), kine.WatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := caughtUp.RequestProgress(ctx); err != nil {
		t.Fatal(err)
	}
	select {
	case <-f.asked:
	case <-ctx.Done():
		t.Fatal("no progress was asked for")
	}
	behind, err := s.Watch(ctx, kine.PrefixRange("/w/"), kine.WatchOptions{Revision: 1})
	if err != nil {
		t.Fatal(err)
	}
	if resp := <-behind.Responses(); len(resp.Events) != 1 || resp.Revision != written {
		t.Errorf("a watch from 1 was first told %d events and all up to %d, want the event at %d", len(resp.Events), resp.Revision, written)
	}
}

// A server that breaks its word ends the watch, so that what its owner believed is
// read again.
func TestBrokenPromiseEndsTheWatch(t *testing.T) {
	s, _ := (&fake{lie: true}).start(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	w, err := s.Watch(ctx, kine.PrefixRange("/w/"), kine.WatchOptions{Revision: 1})
	if err != nil {
		t.Fatal(err)
	}
	for resp := range w.Responses() {
		if len(resp.Events) > 0 {
			t.Errorf("an event at %d was passed on after the promise", resp.Events[0].KV.ModRevision)
		}
	}
	var compacted *kine.CompactedError
	if !errors.As(w.Err(), &compacted) || compacted.CompactRevision != newest {
		t.Errorf("the watch ended with %v, want that all up to %d is compacted", w.Err(), newest)
	}
}

// A watch that ends takes its stream with it, also when somebody asks for progress
// at that moment; when the store ends it says so.
func TestEndedWatchLeavesNoStream(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(stopStore, stopWatches func())
		want error
	}{
		{"the watch is cancelled", func(_, stopWatches func()) { stopWatches() }, context.Canceled},
		{"the store stops", func(stopStore, _ func()) { stopStore() }, kine.ErrStopped},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := &fake{asked: make(chan struct{}, 1)}
			s, stop := f.start(t)
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			watching, stopWatches := context.WithCancel(ctx)
			defer stopWatches()
			var asking sync.WaitGroup
			var watchers []kine.Watcher
			for range 20 {
				w, err := s.Watch(watching, kine.PrefixRange("/w/"), kine.WatchOptions{})
				if err != nil {
					t.Fatal(err)
				}
				watchers = append(watchers, w)
			}
			for _, w := range watchers {
				asking.Go(func() {
					for range 50 {
						if w.RequestProgress(ctx) != nil {
							return // it has ended
						}
					}
				})
			}
			select {
			case <-f.asked:
			case <-ctx.Done():
				t.Fatal("no progress was asked for")
			}
			c.end(stop, stopWatches)
			for _, w := range watchers {
				for range w.Responses() {
				}
				if !errors.Is(w.Err(), c.want) {
					t.Errorf("a watch ended with %v, want %v", w.Err(), c.want)
				}
			}
			asking.Wait()
			kinetest.Eventually(t, "no stream is left", func() bool { return f.streams.Load() == 0 })
		})
	}
}
