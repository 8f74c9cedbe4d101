package etcdserver_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/testing/protocmp"

	"skiff/kine/etcd/etcdtest"
)

// The face and an etcd get the same calls, those of an API server and odder ones,
// and must give the same answers: states, revisions, errors to the letter, events.
// SKIFF_FACE_SEED says which calls; make fuzz takes others each time.
//
// Covers: store.etcd-face
func TestAnswersAsEtcd(t *testing.T) {
	seed := uint64(1)
	if text := os.Getenv("SKIFF_FACE_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("SKIFF_FACE_SEED=%d", seed)
	etcd, face := dialWire(t, etcdtest.Start(t)), dialWire(t, serve(t))
	etcd.original = true
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	g := &calls{rnd: rand.New(rand.NewPCG(seed, 1)), now: 1}
	for n := range 3000 {
		name, call := g.next()
		want, wantErr := call(ctx, etcd)
		got, gotErr := call(ctx, face)
		if (wantErr == nil) != (gotErr == nil) || describeError(wantErr) != describeError(gotErr) && !strings.HasPrefix(name, "txn") {
			// Of several reasons to refuse a transaction either may be named.
			t.Fatalf("call %d, %s\n etcd: %v\n face: %v", n, name, describeError(wantErr), describeError(gotErr))
		}
		if wantErr != nil {
			continue
		}
		normalise(want)
		normalise(got)
		if d := cmp.Diff(want, got, protocmp.Transform(), byKey); d != "" {
			t.Fatalf("call %d, %s (-etcd +face):\n%s", n, name, d)
		}
		g.learn(want)
	}
	if g.now < 500 || g.compacted == 0 {
		t.Errorf("%d revisions, compacted to %d: the calls do too little", g.now, g.compacted)
	}
	for _, w := range []*pb.WatchCreateRequest{
		{Key: []byte{0}, RangeEnd: []byte{0}, StartRevision: g.compacted},
		{Key: []byte{0}, RangeEnd: []byte{0}, StartRevision: g.compacted + 1, PrevKv: true},
		{Key: []byte("/registry/pods/"), RangeEnd: []byte("/registry/pods0"), StartRevision: g.compacted + 1, Fragment: true},
		{Key: []byte("/registry/"), RangeEnd: []byte("/registry0"), StartRevision: g.compacted + 5, Filters: []pb.WatchCreateRequest_FilterType{pb.WatchCreateRequest_NOPUT}},
		{Key: []byte("/registry/"), RangeEnd: []byte("/registry0"), StartRevision: g.now - 20, Filters: []pb.WatchCreateRequest_FilterType{pb.WatchCreateRequest_NODELETE}, PrevKv: true},
		{Key: []byte("/registry/pods/a"), StartRevision: g.compacted},
		{Key: []byte{0}, RangeEnd: []byte{0}, StartRevision: g.compacted - 1},
	} {
		want, got := etcd.events(ctx, t, w), face.events(ctx, t, w)
		if d := cmp.Diff(want, got, protocmp.Transform()); d != "" {
			t.Errorf("watch %v (-etcd +face):\n%s", w, d)
		}
	}
}

// byKey compares keys in their own order: that of equal ones is not said when they
// are asked for in another one, which TestRangeShapes looks at.
var byKey = protocmp.SortRepeated(func(a, b *mvccpb.KeyValue) bool { return bytes.Compare(a.Key, b.Key) < 0 })

// wire are the raw clients of a server.
type wire struct {
	pb.KVClient
	lease pb.LeaseClient
	watch pb.WatchClient
	// original tells that it is the etcd.
	original bool
}

func dialWire(t *testing.T, url string) *wire {
	t.Helper()
	c, err := grpc.NewClient(strings.TrimPrefix(url, "http://"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &wire{KVClient: pb.NewKVClient(c), lease: pb.NewLeaseClient(c), watch: pb.NewWatchClient(c)}
}

func describeError(err error) string {
	if err == nil {
		return ""
	}
	s, _ := status.FromError(err)
	return fmt.Sprintf("%v: %s", s.Code(), s.Message())
}

// normalise removes what differs from server to server: who answers, what is left of
// a lease's time, the lease of a key without its value (which etcd knows no longer
// since 3.7), and the revisions inside a transaction's answer, of which etcd shows
// how far it was by then.
func normalise(m proto.Message) {
	if l, ok := m.(*pb.LeaseTimeToLiveResponse); ok {
		slices.SortFunc(l.Keys, bytes.Compare)
		if l.TTL > 0 {
			l.TTL = l.GrantedTTL
		}
	}
	var visit func(m protoreflect.Message, inside bool)
	visit = func(m protoreflect.Message, inside bool) {
		switch m := m.Interface().(type) {
		case *pb.ResponseHeader:
			m.ClusterId, m.MemberId, m.RaftTerm = 0, 0, 0
			if inside {
				m.Revision = 0
			}
			return
		case *mvccpb.KeyValue:
			if len(m.Value) == 0 {
				m.Lease = 0
			}
		case *pb.ResponseOp:
			inside = true
		}
		m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
			switch {
			case f.IsList() && f.Message() != nil:
				for i := range v.List().Len() {
					visit(v.List().Get(i).Message(), inside)
				}
			case f.Message() != nil && !f.IsMap():
				visit(v.Message(), inside)
			}
			return true
		})
	}
	visit(m.ProtoReflect(), false)
}

// events are what a watch tells up to the progress that is asked for, joined.
func (w *wire) events(ctx context.Context, t *testing.T, r *pb.WatchCreateRequest) *pb.WatchResponse {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	stream, err := w.watch.Watch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: r}}); err != nil {
		t.Fatal(err)
	}
	out := &pb.WatchResponse{}
	var asking sync.WaitGroup
	defer asking.Wait()
	defer cancel()
	for {
		resp, err := stream.Recv()
		if err != nil {
			t.Fatalf("watch %v: no progress after %d events: %v", r, len(out.Events), err)
		}
		out.Events = append(out.Events, resp.Events...)
		out.CompactRevision = max(out.CompactRevision, resp.CompactRevision)
		out.CancelReason += resp.CancelReason
		switch {
		case resp.Canceled:
			out.Canceled = true
			return out
		case resp.Created:
			asking.Go(func() { askProgress(ctx, stream) })
		case len(resp.Events) == 0:
			return out
		}
	}
}

// askProgress asks until ctx ends: etcd answers only once all watches of the stream
// have caught up, and drops what is asked before.
func askProgress(ctx context.Context, stream pb.Watch_WatchClient) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}})
		if err != nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// rangeStream joins the parts of a streamed range. Of the etcd only what it refuses
// counts: 3.7.3 streams keys twice, or not, that were written a moment ago. What it
// must be is what Range says.
func (w *wire) rangeStream(ctx context.Context, r *pb.RangeRequest) (proto.Message, error) {
	stream, err := w.RangeStream(ctx, r)
	if err != nil {
		return nil, err
	}
	out := &pb.RangeResponse{}
	for {
		part, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			if w.original {
				return w.Range(ctx, r)
			}
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		proto.Merge(out, part.RangeResponse)
	}
}
