package etcdserver

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

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
	if err := checkRange(r); err != nil {
		return kine.ReadResult{}, err
	}
	if r.Limit < 0 {
		r.Limit = 0
	}
	keys := etcdwire.FromRange(r.Key, r.RangeEnd)
	if r.CountOnly {
		return s.cfg.Store.Count(ctx, keys, kine.ReadOptions{Revision: max(r.Revision, 0)})
	}
	return s.cfg.Store.List(ctx, keys, etcdwire.ReadOptions(r))
}

func checkRange(r *pb.RangeRequest) error {
	switch {
	case len(r.GetKey()) == 0:
		return rpctypes.ErrGRPCEmptyKey
	case pb.RangeRequest_SortOrder_name[int32(r.SortOrder)] == "" || pb.RangeRequest_SortTarget_name[int32(r.SortTarget)] == "":
		return rpctypes.ErrGRPCInvalidSortOption
	}
	return nil
}

// RangeStream answers as Range does, in parts, and refuses what etcd refuses here.
func (s *kvServer) RangeStream(r *pb.RangeRequest, stream grpc.ServerStreamingServer[pb.RangeStreamResponse]) error {
	if err := checkRange(r); err != nil {
		return err
	}
	if r.SortOrder == pb.RangeRequest_NONE {
		r.SortTarget = pb.RangeRequest_KEY // without an order there is nothing to refuse
	}
	switch {
	case etcdwire.Ordered(r):
		return status.Error(codes.Unimplemented, "RangeStream does not support custom sort orders")
	case etcdwire.Filtered(r):
		return status.Error(codes.Unimplemented, "RangeStream does not support revision filters")
	}
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
	if err := checkPut(r); err != nil {
		return nil, err
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
	if err := checkTxn(r, 0); err != nil {
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

// checkPut refuses what etcd has words of its own for.
func checkPut(r *pb.PutRequest) error {
	switch {
	case len(r.GetKey()) == 0:
		return rpctypes.ErrGRPCEmptyKey
	case r.IgnoreValue && len(r.Value) > 0:
		return rpctypes.ErrGRPCValueProvided
	case r.IgnoreLease && r.Lease != 0:
		return rpctypes.ErrGRPCLeaseProvided
	}
	return nil
}

// checkTxn refuses what etcd has words of its own for. What is nested deeper than
// maxDepth is refused by the store.
func checkTxn(r *pb.TxnRequest, depth int) error {
	const maxDepth = 32
	for _, c := range r.GetCompare() {
		if len(c.GetKey()) == 0 {
			return rpctypes.ErrGRPCEmptyKey
		}
	}
	for _, ops := range [][]*pb.RequestOp{r.GetSuccess(), r.GetFailure()} {
		for _, op := range ops {
			var err error
			switch q := op.GetRequest().(type) {
			case *pb.RequestOp_RequestRange:
				err = checkRange(q.RequestRange)
			case *pb.RequestOp_RequestPut:
				err = checkPut(q.RequestPut)
			case *pb.RequestOp_RequestDeleteRange:
				if len(q.RequestDeleteRange.GetKey()) == 0 {
					err = rpctypes.ErrGRPCEmptyKey
				}
			case *pb.RequestOp_RequestTxn:
				if depth < maxDepth {
					err = checkTxn(q.RequestTxn, depth+1)
				}
			}
			if err != nil {
				return err
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
