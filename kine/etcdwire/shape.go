package etcdwire

import (
	"bytes"
	"cmp"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"skiff/kine"
)

// Ordered tells whether a read asks for an order that is not the keys' own.
func Ordered(r *pb.RangeRequest) bool {
	return r.SortTarget != pb.RangeRequest_KEY || r.SortOrder == pb.RangeRequest_DESCEND
}

// Filtered tells whether a read leaves out keys by their revisions.
func Filtered(r *pb.RangeRequest) bool {
	return r.MinModRevision != 0 || r.MaxModRevision != 0 || r.MinCreateRevision != 0 || r.MaxCreateRevision != 0
}

// shaped tells whether a read asks for an order or a filter that the store does
// not know.
func shaped(r *pb.RangeRequest) bool { return Ordered(r) || Filtered(r) }

// RangeResponse encodes what a read saw, in the order and with the filters that
// the request asks for. The header is the caller's.
func RangeResponse(r *pb.RangeRequest, res kine.ReadResult) *pb.RangeResponse {
	out := &pb.RangeResponse{Count: res.Count, More: res.More}
	if r.CountOnly {
		out.More = false
		return out
	}
	kvs := res.KVs
	if shaped(r) {
		kvs = slices.DeleteFunc(slices.Clone(kvs), func(kv kine.KeyValue) bool { return filtered(r, &kv) })
		if order := compareBy(r.SortTarget); Ordered(r) {
			slices.SortStableFunc(kvs, func(a, b kine.KeyValue) int {
				if r.SortOrder == pb.RangeRequest_DESCEND {
					return order(&b, &a)
				}
				return order(&a, &b)
			})
		}
		if r.Limit > 0 && int64(len(kvs)) > r.Limit {
			kvs, out.More = kvs[:r.Limit], true
		}
	}
	out.Kvs = KeyValues(kvs)
	if r.KeysOnly {
		for _, kv := range out.Kvs {
			kv.Value = nil
		}
	}
	return out
}

func filtered(r *pb.RangeRequest, kv *kine.KeyValue) bool {
	return r.MinModRevision != 0 && kv.ModRevision < r.MinModRevision ||
		r.MaxModRevision != 0 && kv.ModRevision > r.MaxModRevision ||
		r.MinCreateRevision != 0 && kv.CreateRevision < r.MinCreateRevision ||
		r.MaxCreateRevision != 0 && kv.CreateRevision > r.MaxCreateRevision
}

func compareBy(target pb.RangeRequest_SortTarget) func(a, b *kine.KeyValue) int {
	switch target {
	case pb.RangeRequest_VERSION:
		return func(a, b *kine.KeyValue) int { return cmp.Compare(a.Version, b.Version) }
	case pb.RangeRequest_CREATE:
		return func(a, b *kine.KeyValue) int { return cmp.Compare(a.CreateRevision, b.CreateRevision) }
	case pb.RangeRequest_MOD:
		return func(a, b *kine.KeyValue) int { return cmp.Compare(a.ModRevision, b.ModRevision) }
	case pb.RangeRequest_VALUE:
		return func(a, b *kine.KeyValue) int { return bytes.Compare(a.Value, b.Value) }
	}
	return func(a, b *kine.KeyValue) int { return cmp.Compare(a.Key, b.Key) }
}

// TxnResponse encodes the answer to req. header makes the headers.
func TxnResponse(req *pb.TxnRequest, res *kine.TxnResult, header func(revision int64) *pb.ResponseHeader) *pb.TxnResponse {
	out := &pb.TxnResponse{Header: header(res.Revision), Succeeded: res.Succeeded}
	branch := req.Failure
	if res.Succeeded {
		branch = req.Success
	}
	for i := range res.Results {
		r := &res.Results[i]
		var op pb.ResponseOp
		switch q := branch[i].Request.(type) {
		case *pb.RequestOp_RequestRange:
			resp := RangeResponse(q.RequestRange, r.Read)
			resp.Header = header(res.Revision)
			op.Response = &pb.ResponseOp_ResponseRange{ResponseRange: resp}
		case *pb.RequestOp_RequestPut:
			resp := PutResponse(r)
			resp.Header = header(res.Revision)
			op.Response = &pb.ResponseOp_ResponsePut{ResponsePut: resp}
		case *pb.RequestOp_RequestDeleteRange:
			resp := DeleteResponse(r)
			resp.Header = header(res.Revision)
			op.Response = &pb.ResponseOp_ResponseDeleteRange{ResponseDeleteRange: resp}
		case *pb.RequestOp_RequestTxn:
			op.Response = &pb.ResponseOp_ResponseTxn{ResponseTxn: TxnResponse(q.RequestTxn, r.Txn, header)}
		}
		out.Responses = append(out.Responses, &op)
	}
	return out
}

// PutResponse encodes the answer to a put, without its header.
func PutResponse(r *kine.OpResult) *pb.PutResponse {
	out := &pb.PutResponse{}
	if len(r.PrevKVs) > 0 {
		out.PrevKv = KeyValue(&r.PrevKVs[0])
	}
	return out
}

// DeleteResponse encodes the answer to a delete, without its header.
func DeleteResponse(r *kine.OpResult) *pb.DeleteRangeResponse {
	return &pb.DeleteRangeResponse{Deleted: r.Deleted, PrevKvs: KeyValues(r.PrevKVs)}
}
