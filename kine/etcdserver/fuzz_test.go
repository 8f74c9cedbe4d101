package etcdserver_test

import (
	"bytes"
	"context"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"
)

// FuzzTxn: a transaction of whatever form is answered or refused as a whole, and the
// server goes on answering; its revision never goes back.
func FuzzTxn(f *testing.F) {
	put := func(key string) *pb.RequestOp {
		return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte(key), Value: []byte("v")}}}
	}
	for _, r := range []*pb.TxnRequest{
		{Success: []*pb.RequestOp{put("a")}},
		{Compare: []*pb.Compare{{Key: []byte("a"), Target: pb.Compare_MOD, TargetUnion: &pb.Compare_ModRevision{ModRevision: 1}}}, Success: []*pb.RequestOp{put("a")}, Failure: []*pb.RequestOp{
			{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: []byte("a"), RangeEnd: []byte{0}}}}}},
		{Success: []*pb.RequestOp{put("a"), put("a")}},
		{Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestTxn{RequestTxn: &pb.TxnRequest{Success: []*pb.RequestOp{put("b")}}}},
			{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{Key: []byte{0}, RangeEnd: []byte{0}}}}}},
		{Compare: []*pb.Compare{{}}, Success: []*pb.RequestOp{{}}},
	} {
		b, err := proto.Marshal(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	url := serve(f)
	conn, err := grpc.NewClient("passthrough:///"+url[len("http://"):], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { conn.Close() })
	kv := pb.NewKVClient(conn)
	var last int64
	f.Fuzz(func(t *testing.T, b []byte) {
		r := &pb.TxnRequest{}
		if proto.Unmarshal(b, r) != nil {
			return
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		resp, err := kv.Txn(ctx, r)
		if ctx.Err() != nil {
			t.Fatalf("no answer: %v", err)
		}
		if err == nil && (resp.Header == nil || resp.Header.Revision < last) {
			t.Errorf("after %d the header is %v", last, resp.Header)
		}
		key := []byte("probe")
		if _, err := kv.Put(ctx, &pb.PutRequest{Key: key, Value: b}); err != nil {
			t.Fatalf("the server does not go on: %v", err)
		}
		got, err := kv.Range(ctx, &pb.RangeRequest{Key: key})
		if err != nil || len(got.Kvs) != 1 || !bytes.Equal(got.Kvs[0].Value, b) {
			t.Fatalf("the server has %v, %v", got, err)
		}
		last = got.Header.Revision
	})
}
