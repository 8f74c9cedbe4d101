package etcdserver_test

import (
	"context"
	"fmt"
	"math"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// A client that does not read its stream for a while gets all events of all its
// watches when it does, once and in order, however much was kept back. Others are not
// held up, and the stream answers to progress.
func TestStarvedStream(t *testing.T) {
	url := serve(t)
	c := client(t, url)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := grpc.NewClient(url[len("http://"):], grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(math.MaxInt32)))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	stream, err := pb.NewWatchClient(conn).Watch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	const watches, writes, size = 3, 60, 1 << 20 // for each watch more than the server keeps for one
	for id := range watches {
		err := stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{
			Key: []byte("/s/"), RangeEnd: []byte("/s0"), WatchId: int64(id + 1), Fragment: id == 1,
		}}})
		if err != nil {
			t.Fatal(err)
		}
		if resp, err := stream.Recv(); err != nil || !resp.Created {
			t.Fatal(resp, err)
		}
	}
	reading := c.Watch(ctx, "/s/", clientv3.WithPrefix())
	value := string(make([]byte, size))
	var revisions []int64
	for i := range writes + 20 {
		resp, err := c.Put(ctx, fmt.Sprintf("/s/%d", i%7), value)
		if err != nil {
			t.Fatal(err)
		}
		revisions = append(revisions, resp.Header.Revision)
		if got := <-reading; len(got.Events) != 1 || got.Events[0].Kv.ModRevision != resp.Header.Revision {
			t.Fatalf("the other client got %+v after the write at %d", got, resp.Header.Revision)
		}
	}
	if err := stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}}); err != nil {
		t.Fatal(err)
	}
	next := make([]int, watches)
	told := make([]int64, watches)
	for done := 0; done < watches; {
		resp, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if resp.Canceled {
			t.Fatalf("watch %d is cancelled: %s", resp.WatchId, resp.CancelReason)
		}
		i := resp.WatchId - 1
		if resp.Header.Revision < told[i] {
			t.Fatalf("watch %d is told of revision %d after %d", resp.WatchId, resp.Header.Revision, told[i])
		}
		told[i] = resp.Header.Revision
		for _, e := range resp.Events {
			if next[i] == len(revisions) || e.Kv.ModRevision != revisions[next[i]] {
				t.Fatalf("watch %d has event %d of revision %d, want those of %v", resp.WatchId, next[i], e.Kv.ModRevision, revisions)
			}
			next[i]++
		}
		if len(resp.Events) == 0 && !resp.Created { // progress
			if next[i] != len(revisions) {
				t.Fatalf("watch %d is told that it has all up to %d, after %d of %d events", resp.WatchId, resp.Header.Revision, next[i], len(revisions))
			}
			done++
		}
	}
}

// A streamed range comes in parts; the last one alone says what is true of all.
func TestRangeStreamComesInParts(t *testing.T) {
	w := dialWire(t, serve(t))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	const keys = 30
	var last int64
	for i := range keys {
		resp, err := w.Put(ctx, &pb.PutRequest{Key: fmt.Appendf(nil, "/r/%02d", i), Value: make([]byte, 200_000)})
		if err != nil {
			t.Fatal(err)
		}
		last = resp.Header.Revision
	}
	stream, err := w.RangeStream(ctx, &pb.RangeRequest{Key: []byte("/r/"), RangeEnd: []byte("/r0"), Limit: keys - 1})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	parts := 0
	for {
		resp, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		r := resp.RangeResponse
		parts++
		for _, kv := range r.Kvs {
			got = append(got, string(kv.Key))
		}
		if r.Header == nil {
			if r.Count != 0 || r.More || len(r.Kvs) == 0 {
				t.Errorf("part %d says count %d, more %v, and has %d keys", parts, r.Count, r.More, len(r.Kvs))
			}
			continue
		}
		if r.Header.Revision != last || r.Count != keys || !r.More {
			t.Errorf("the last part says revision %d, count %d, more %v", r.Header.Revision, r.Count, r.More)
		}
		break
	}
	if len(got) != keys-1 || got[0] != "/r/00" || got[keys-2] != "/r/28" || parts < 5 {
		t.Errorf("%d parts with %v", parts, got)
	}
}
