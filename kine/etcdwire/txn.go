package etcdwire

import (
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"skiff/kine"
)

// Txn encodes a transaction.
func Txn(t *kine.Txn) *pb.TxnRequest {
	req := &pb.TxnRequest{Success: ops(t.Success), Failure: ops(t.Failure)}
	for i := range t.Compares {
		req.Compare = append(req.Compare, compare(&t.Compares[i]))
	}
	return req
}

func compare(c *kine.Compare) *pb.Compare {
	out := &pb.Compare{Key: []byte(c.Key), RangeEnd: []byte(c.RangeEnd)}
	switch c.Result {
	case kine.Equal:
		out.Result = pb.Compare_EQUAL
	case kine.NotEqual:
		out.Result = pb.Compare_NOT_EQUAL
	case kine.Greater:
		out.Result = pb.Compare_GREATER
	case kine.Less:
		out.Result = pb.Compare_LESS
	}
	switch c.Target {
	case kine.TargetMod:
		out.Target, out.TargetUnion = pb.Compare_MOD, &pb.Compare_ModRevision{ModRevision: c.Number}
	case kine.TargetCreate:
		out.Target, out.TargetUnion = pb.Compare_CREATE, &pb.Compare_CreateRevision{CreateRevision: c.Number}
	case kine.TargetVersion:
		out.Target, out.TargetUnion = pb.Compare_VERSION, &pb.Compare_Version{Version: c.Number}
	case kine.TargetLease:
		out.Target, out.TargetUnion = pb.Compare_LEASE, &pb.Compare_Lease{Lease: c.Number}
	case kine.TargetValue:
		out.Target, out.TargetUnion = pb.Compare_VALUE, &pb.Compare_Value{Value: c.Value}
	}
	return out
}

func ops(in []kine.Op) []*pb.RequestOp {
	var out []*pb.RequestOp
	for i := range in {
		op := &in[i]
		key, end := Range(op.Range)
		var req pb.RequestOp
		switch op.Type {
		case kine.OpRange:
			req.Request = &pb.RequestOp_RequestRange{RequestRange: RangeRequest(op.Range, op.Read, op.Read.Limit)}
		case kine.OpPut:
			req.Request = &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{
				Key: key, Value: op.Value, Lease: op.Lease, PrevKv: op.PrevKV, IgnoreValue: op.IgnoreValue, IgnoreLease: op.IgnoreLease,
			}}
		case kine.OpDelete:
			req.Request = &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{Key: key, RangeEnd: end, PrevKv: op.PrevKV}}
		case kine.OpTxn:
			req.Request = &pb.RequestOp_RequestTxn{RequestTxn: Txn(op.Txn)}
		}
		out = append(out, &req)
	}
	return out
}

// FromTxnResponse decodes the answer to t.
func FromTxnResponse(t *kine.Txn, resp *pb.TxnResponse) kine.TxnResult {
	return fromTxn(t, resp, resp.Header.GetRevision())
}

func fromTxn(t *kine.Txn, resp *pb.TxnResponse, revision int64) kine.TxnResult {
	out := kine.TxnResult{Revision: revision, Succeeded: resp.Succeeded, Results: make([]kine.OpResult, len(resp.Responses))}
	branch := t.Failure
	if resp.Succeeded {
		branch = t.Success
	}
	for i, r := range resp.Responses {
		res := &out.Results[i]
		switch r := r.Response.(type) {
		case *pb.ResponseOp_ResponseRange:
			res.Read = FromRangeResponse(r.ResponseRange, branch[i].Read.KeysOnly)
		case *pb.ResponseOp_ResponsePut:
			if r.ResponsePut.PrevKv != nil {
				res.PrevKVs = []kine.KeyValue{FromKeyValue(r.ResponsePut.PrevKv, false)}
			}
		case *pb.ResponseOp_ResponseDeleteRange:
			res.Deleted = r.ResponseDeleteRange.Deleted
			res.PrevKVs = FromKeyValues(r.ResponseDeleteRange.PrevKvs, false)
		case *pb.ResponseOp_ResponseTxn:
			n := fromTxn(branch[i].Txn, r.ResponseTxn, revision)
			res.Txn = &n
		}
		res.Read.Revision = revision
	}
	return out
}

// maxDepth bounds how deep a transaction's messages nest.
const maxDepth = 64

// FromTxn decodes a transaction.
func FromTxn(req *pb.TxnRequest) (kine.Txn, error) { return fromTxnRequest(req, 0) }

func fromTxnRequest(req *pb.TxnRequest, depth int) (t kine.Txn, err error) {
	if depth > maxDepth {
		return t, fmt.Errorf("transaction nests deeper than %d: %w", maxDepth, kine.ErrInvalid)
	}
	for _, c := range req.Compare {
		t.Compares = append(t.Compares, fromCompare(c))
	}
	if t.Success, err = fromOps(req.Success, depth); err != nil {
		return t, err
	}
	t.Failure, err = fromOps(req.Failure, depth)
	return t, err
}

func fromCompare(c *pb.Compare) kine.Compare {
	out := kine.Compare{Key: string(c.Key), RangeEnd: string(c.RangeEnd)}
	switch c.Result {
	case pb.Compare_EQUAL:
		out.Result = kine.Equal
	case pb.Compare_NOT_EQUAL:
		out.Result = kine.NotEqual
	case pb.Compare_GREATER:
		out.Result = kine.Greater
	case pb.Compare_LESS:
		out.Result = kine.Less
	default:
		out.Result = -1 // refused by the store
	}
	switch c.Target {
	case pb.Compare_MOD:
		out.Target, out.Number = kine.TargetMod, c.GetModRevision()
	case pb.Compare_CREATE:
		out.Target, out.Number = kine.TargetCreate, c.GetCreateRevision()
	case pb.Compare_VERSION:
		out.Target, out.Number = kine.TargetVersion, c.GetVersion()
	case pb.Compare_LEASE:
		out.Target, out.Number = kine.TargetLease, c.GetLease()
	case pb.Compare_VALUE:
		out.Target, out.Value = kine.TargetValue, c.GetValue()
	default:
		out.Target = -1
	}
	return out
}

func fromOps(in []*pb.RequestOp, depth int) ([]kine.Op, error) {
	var out []kine.Op
	for i, op := range in {
		var o kine.Op
		switch r := op.GetRequest().(type) {
		case *pb.RequestOp_RequestRange:
			o = kine.Op{Type: kine.OpRange, Range: FromRange(r.RequestRange.Key, r.RequestRange.RangeEnd), Read: ReadOptions(r.RequestRange)}
		case *pb.RequestOp_RequestPut:
			o = Put(r.RequestPut)
		case *pb.RequestOp_RequestDeleteRange:
			o = Delete(r.RequestDeleteRange)
		case *pb.RequestOp_RequestTxn:
			nested, err := fromTxnRequest(r.RequestTxn, depth+1)
			if err != nil {
				return nil, err
			}
			o = kine.Op{Type: kine.OpTxn, Txn: &nested}
		default:
			return nil, fmt.Errorf("operation %d of the transaction is empty: %w", i, kine.ErrInvalid)
		}
		out = append(out, o)
	}
	return out, nil
}

// Put decodes a put.
func Put(r *pb.PutRequest) kine.Op {
	return kine.Op{
		Type: kine.OpPut, Range: kine.Range{Start: string(r.Key)}, Value: r.Value, Lease: r.Lease,
		PrevKV: r.PrevKv, IgnoreValue: r.IgnoreValue, IgnoreLease: r.IgnoreLease,
	}
}

// Delete decodes a delete.
func Delete(r *pb.DeleteRangeRequest) kine.Op {
	return kine.Op{Type: kine.OpDelete, Range: FromRange(r.Key, r.RangeEnd), PrevKV: r.PrevKv}
}

// ReadOptions decodes how to read. What Shape does afterwards needs all keys.
func ReadOptions(r *pb.RangeRequest) kine.ReadOptions {
	// etcd takes a negative revision for the newest one.
	o := kine.ReadOptions{Revision: max(r.Revision, 0), Limit: r.Limit, KeysOnly: r.KeysOnly && r.SortTarget != pb.RangeRequest_VALUE}
	if shaped(r) {
		o.Limit = 0
	}
	if r.CountOnly {
		o.KeysOnly = true
	}
	return o
}
