package etcdserver_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// The parts of a large answer follow each other: a client drops what another watch
// of its stream is told between them.
func TestFragmentsAreNotInterleaved(t *testing.T) {
	const keys, watches = 6, 8
	w := dialWire(t, serve(t))
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	var first int64
	for i := range keys {
		resp, err := w.Put(ctx, &pb.PutRequest{Key: fmt.Appendf(nil, "k/%d", i), Value: make([]byte, 1<<20)})
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first = resp.Header.Revision
		}
	}
	stream, err := w.watch.Watch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for range watches {
		create := &pb.WatchCreateRequest{Key: []byte("k/"), RangeEnd: []byte("k0"), StartRevision: first, Fragment: true}
		if err := stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: create}}); err != nil {
			t.Fatal(err)
		}
	}
	var last *pb.WatchResponse
	parts := 0
	for events := 0; events < keys*watches; {
		resp, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if last.GetFragment() && (resp.WatchId != last.WatchId || resp.Created) {
			t.Fatalf("watch %d was told something (created %v) between the parts of what watch %d was told", resp.WatchId, resp.Created, last.WatchId)
		}
		if resp.Fragment {
			parts++
		}
		events += len(resp.Events)
		last = resp
	}
	if parts == 0 {
		t.Error("nothing was told in parts")
	}
}
