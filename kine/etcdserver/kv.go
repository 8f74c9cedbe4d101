package etcdserver

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"

	"skiff/kine"
	"skiff/kine/etcdwire"
)

type kvServer struct {
	pb.UnimplementedKVServer
	*Server
}

func (s *kvServer) Range(ctx context.Context, r *pb.RangeRequest) (*pb.RangeResponse, error) {
	res, err := s.read(ctx, r)
	if err != nil {
		return nil, etcdwire.Error(err)
	}
	out := etcdwire.RangeResponse(r, res)
	out.Header = header(res.Revision)
	return out, nil
}

func (s *kvServer) read(ctx context.Context, r *pb.RangeRequest) (kine.ReadResult, error) {
	if len(r.Key) == 0 {
		return kine.ReadResult{}, rpctypes.ErrGRPCEmptyKey
	}
	if r.Limit < 0 {
		r.Limit = 0
	}
	if pb.RangeRequest_SortOrder_name[int32(r.SortOrder)] == "" || pb.RangeRequest_SortTarget_name[int32(r.SortTarget)] == "" {
		return kine.ReadResult{}, rpctypes.ErrGRPCInvalidSortOption
	}
	keys := etcdwire.FromRange(r.Key, r.RangeEnd)
	if r.CountOnly {
		return s.cfg.Store.Count(ctx, keys, kine.ReadOptions{Revision: r.Revision})
	}
	return s.cfg.Store.List(ctx, keys, etcdwire.ReadOptions(r))
}

// RangeStream answers as Range does, in parts.
func (s *kvServer) RangeStream(r *pb.RangeRequest, stream grpc.ServerStreamingServer[pb.RangeStreamResponse]) error {
	whole, err := s.Range(stream.Context(), r)
	if err != nil {
		return err
	}
	kvs := whole.Kvs
	for size, n := 0, 0; n < len(kvs); n++ {
		size += len(kvs[n].Key) + len(kvs[n].Value)
		if size < sendChunk {
			continue
		}
		if err := stream.Send(&pb.RangeStreamResponse{RangeResponse: &pb.RangeResponse{Kvs: kvs[:n+1]}}); err != nil {
			return err
		}
		kvs, size, n = kvs[n+1:], 0, -1
	}
	whole.Kvs = kvs
	return stream.Send(&pb.RangeStreamResponse{RangeResponse: whole})
}

func (s *kvServer) Put(ctx context.Context, r *pb.PutRequest) (*pb.PutResponse, error) {
	switch {
	case len(r.Key) == 0:
		return nil, rpctypes.ErrGRPCEmptyKey
	case r.IgnoreValue && len(r.Value) > 0:
		return nil, rpctypes.ErrGRPCValueProvided
	case r.IgnoreLease && r.Lease != 0:
		return nil, rpctypes.ErrGRPCLeaseProvided
	}
	res, err := s.cfg.Store.Txn(ctx, kine.Txn{Success: []kine.Op{etcdwire.Put(r)}})
	if err != nil {
		return nil, etcdwire.Error(err)
	}
	out := etcdwire.PutResponse(&res.Results[0])
	out.Header = header(res.Revision)
	return out, nil
}

func (s *kvServer) DeleteRange(ctx context.Context, r *pb.DeleteRangeRequest) (*pb.DeleteRangeResponse, error) {
	if len(r.Key) == 0 {
		return nil, rpctypes.ErrGRPCEmptyKey
	}
	res, err := s.cfg.Store.Txn(ctx, kine.Txn{Success: []kine.Op{etcdwire.Delete(r)}})
	if err != nil {
		return nil, etcdwire.Error(err)
	}
	out := etcdwire.DeleteResponse(&res.Results[0])
	out.Header = header(res.Revision)
	return out, nil
}

func (s *kvServer) Txn(ctx context.Context, r *pb.TxnRequest) (*pb.TxnResponse, error) {
	if err := checkTxn(r); err != nil {
		return nil, err
	}
	t, err := etcdwire.FromTxn(r)
	if err != nil {
		return nil, etcdwire.Error(err)
	}
	res, err := s.cfg.Store.Txn(ctx, t)
	if err != nil {
		return nil, etcdwire.Error(err)
	}
	return etcdwire.TxnResponse(r, &res, header), nil
}

// checkTxn refuses what etcd has words of its own for.
func checkTxn(r *pb.TxnRequest) error {
	for _, c := range r.Compare {
		if len(c.Key) == 0 {
			return rpctypes.ErrGRPCEmptyKey
		}
	}
	for _, ops := range [][]*pb.RequestOp{r.Success, r.Failure} {
		for _, op := range ops {
			empty := false
			switch q := op.GetRequest().(type) {
			case *pb.RequestOp_RequestRange:
				empty = len(q.RequestRange.Key) == 0
			case *pb.RequestOp_RequestPut:
				empty = len(q.RequestPut.Key) == 0
			case *pb.RequestOp_RequestDeleteRange:
				empty = len(q.RequestDeleteRange.Key) == 0
			}
			if empty {
				return rpctypes.ErrGRPCEmptyKey
			}
		}
	}
	return nil
}

// Compact moves the protocol's horizon. The space is returned in the background
// also when the client asks to wait for it.
func (s *kvServer) Compact(ctx context.Context, r *pb.CompactionRequest) (*pb.CompactionResponse, error) {
	if err := s.cfg.Store.Compact(ctx, r.Revision); err != nil {
		return nil, etcdwire.Error(err)
	}
	h, err := s.now(ctx)
	if err != nil {
		return nil, etcdwire.Error(err)
	}
	return &pb.CompactionResponse{Header: h}, nil
}
