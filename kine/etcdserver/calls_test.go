package etcdserver_test

import (
	"context"
	"fmt"
	"math/rand/v2"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

// call asks a server for something.
type call func(context.Context, *wire) (proto.Message, error)

// calls makes up what a client asks. It knows the newest revision, as a client does,
// and otherwise guesses: what is refused must be refused alike.
type calls struct {
	rnd            *rand.Rand
	now, compacted int64
	// known are revisions of keys that were seen.
	known map[string]int64
	n     int
}

func (g *calls) learn(m proto.Message) {
	if g.known == nil {
		g.known = map[string]int64{}
	}
	switch m := m.(type) {
	case *pb.RangeResponse:
		for _, kv := range m.Kvs {
			g.known[string(kv.Key)] = kv.ModRevision
		}
	case *pb.CompactionResponse:
		g.now = max(g.now, m.Header.Revision)
	}
	if h, ok := m.(interface{ GetHeader() *pb.ResponseHeader }); ok {
		g.now = max(g.now, h.GetHeader().GetRevision())
	}
}

// of picks one of several.
func of[T any](g *calls, all ...T) T { return all[g.rnd.IntN(len(all))] }

func (g *calls) chance(of int) bool { return g.rnd.IntN(of) == 0 }

func (g *calls) key() []byte {
	if g.chance(60) {
		return nil
	}
	return fmt.Appendf(nil, "/registry/%s/%s", of(g, "pods", "leases", "events"), of(g, "a", "b", "c", "d", "e"))
}

func (g *calls) value() []byte {
	g.n++
	if g.chance(20) {
		return nil
	}
	return fmt.Appendf(nil, "k8s\x00%d", g.n)
}

// span is a key and the end of its range.
func (g *calls) span() (key, end []byte) {
	switch g.rnd.IntN(7) {
	case 0:
		return []byte("/registry/pods/"), []byte("/registry/pods0")
	case 1:
		return []byte{0}, []byte{0}
	case 2:
		return []byte("/registry/"), []byte("/registry0")
	case 3:
		return []byte("/registry/pods/b"), []byte("/registry/events/")
	case 4:
		return []byte("/registry/leases/c"), []byte{0}
	}
	return g.key(), nil
}

// revision is mostly one that can be read.
func (g *calls) revision() int64 {
	switch g.rnd.IntN(8) {
	case 0:
		return max(g.compacted-g.rnd.Int64N(3), 0)
	case 1:
		return g.now + g.rnd.Int64N(3)
	case 2, 3:
		return max(g.compacted, 1) + g.rnd.Int64N(max(g.now-g.compacted, 1))
	}
	return 0
}

func (g *calls) rangeRequest() *pb.RangeRequest {
	r := &pb.RangeRequest{Revision: g.revision(), Limit: of[int64](g, 0, 0, 0, 1, 2, 5, 100), KeysOnly: g.chance(6), CountOnly: g.chance(8), Serializable: g.chance(4)}
	r.Key, r.RangeEnd = g.span()
	if g.chance(4) {
		r.SortOrder = of(g, pb.RangeRequest_NONE, pb.RangeRequest_ASCEND, pb.RangeRequest_DESCEND)
		r.SortTarget = of(g, pb.RangeRequest_KEY, pb.RangeRequest_VERSION, pb.RangeRequest_CREATE, pb.RangeRequest_MOD, pb.RangeRequest_VALUE)
		if r.SortTarget != pb.RangeRequest_KEY {
			r.Limit = 0 // which of equal ones come first is not said
		}
	}
	if g.chance(6) {
		*of(g, &r.MinModRevision, &r.MaxModRevision, &r.MinCreateRevision, &r.MaxCreateRevision) = 1 + g.rnd.Int64N(g.now)
	}
	return r
}

func (g *calls) leaseID() int64 { return of[int64](g, 11, 12, 13, 14) }

func (g *calls) put() *pb.PutRequest {
	r := &pb.PutRequest{Key: g.key(), Value: g.value(), PrevKv: g.chance(3)}
	if g.chance(5) {
		r.Lease = g.leaseID()
	}
	if g.chance(10) {
		r.IgnoreValue = true
		if g.chance(2) {
			r.Value = nil
		}
	}
	r.IgnoreLease = g.chance(12)
	return r
}

func (g *calls) deleteRange() *pb.DeleteRangeRequest {
	r := &pb.DeleteRangeRequest{PrevKv: g.chance(2)}
	if r.Key = g.key(); g.chance(8) {
		r.Key, r.RangeEnd = g.span()
	}
	if string(r.RangeEnd) == "\x00" {
		// etcd overlooks that such a delete and a put of one transaction have keys in
		// common; the face does not.
		r.RangeEnd = nil
	}
	return r
}

func (g *calls) compare() *pb.Compare {
	c := &pb.Compare{Key: g.key(), Result: of(g, pb.Compare_EQUAL, pb.Compare_EQUAL, pb.Compare_NOT_EQUAL, pb.Compare_GREATER, pb.Compare_LESS)}
	if g.chance(8) {
		c.Key, c.RangeEnd = g.span()
	}
	mod := g.known[string(c.Key)]
	switch g.rnd.IntN(6) {
	case 0:
		c.Target, c.TargetUnion = pb.Compare_VERSION, &pb.Compare_Version{Version: g.rnd.Int64N(4)}
	case 1:
		c.Target, c.TargetUnion = pb.Compare_CREATE, &pb.Compare_CreateRevision{CreateRevision: of(g, 0, mod)}
	case 2:
		c.Target, c.TargetUnion = pb.Compare_VALUE, &pb.Compare_Value{Value: g.value()}
	case 3:
		c.Target, c.TargetUnion = pb.Compare_LEASE, &pb.Compare_Lease{Lease: of(g, 0, g.leaseID())}
	default:
		c.Target, c.TargetUnion = pb.Compare_MOD, &pb.Compare_ModRevision{ModRevision: of(g, 0, mod, mod)}
	}
	return c
}

func (g *calls) ops(depth int) (out []*pb.RequestOp) {
	nested := false // etcd overlooks keys that two nested transactions have in common
	for range g.rnd.IntN(4) {
		op := &pb.RequestOp{}
		switch n := g.rnd.IntN(8); {
		case n < 3:
			op.Request = &pb.RequestOp_RequestRange{RequestRange: g.rangeRequest()}
		case n < 5:
			op.Request = &pb.RequestOp_RequestPut{RequestPut: g.put()}
		case n < 7 || depth > 1 || nested:
			op.Request = &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: g.deleteRange()}
		default:
			nested = true
			op.Request = &pb.RequestOp_RequestTxn{RequestTxn: g.txn(depth + 1)}
		}
		out = append(out, op)
	}
	return out
}

func (g *calls) txn(depth int) *pb.TxnRequest {
	t := &pb.TxnRequest{Success: g.ops(depth), Failure: g.ops(depth)}
	for range g.rnd.IntN(3) {
		t.Compare = append(t.Compare, g.compare())
	}
	return t
}

// kubernetes is a conditional write as an API server makes it.
func (g *calls) kubernetes() *pb.TxnRequest {
	key := g.key()
	t := &pb.TxnRequest{
		Compare: []*pb.Compare{{Key: key, Target: pb.Compare_MOD, TargetUnion: &pb.Compare_ModRevision{ModRevision: of(g, 0, g.known[string(key)], g.known[string(key)])}}},
		Failure: []*pb.RequestOp{{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: key}}}},
	}
	write := &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: key, Value: g.value(), Lease: of(g, 0, 0, 0, g.leaseID())}}}
	if g.chance(4) {
		write.Request = &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{Key: key}}
	}
	t.Success = []*pb.RequestOp{write}
	return t
}

// next is the next call, with what it says.
func (g *calls) next() (string, call) {
	named := func(name string, m proto.Message, c call) (string, call) { return fmt.Sprintf("%s %v", name, m), c }
	switch n := g.rnd.IntN(100); {
	case n < 35:
		r := g.kubernetes()
		return named("txn", r, func(ctx context.Context, w *wire) (proto.Message, error) { return w.Txn(ctx, r) })
	case n < 50:
		r := g.rangeRequest()
		return named("range", r, func(ctx context.Context, w *wire) (proto.Message, error) { return w.Range(ctx, r) })
	case n < 56:
		r := g.rangeRequest()
		return named("range stream", r, func(ctx context.Context, w *wire) (proto.Message, error) { return w.rangeStream(ctx, r) })
	case n < 66:
		r := g.put()
		return named("put", r, func(ctx context.Context, w *wire) (proto.Message, error) { return w.Put(ctx, r) })
	case n < 70:
		r := g.deleteRange()
		return named("delete", r, func(ctx context.Context, w *wire) (proto.Message, error) { return w.DeleteRange(ctx, r) })
	case n < 86:
		r := g.txn(0)
		return named("txn", r, func(ctx context.Context, w *wire) (proto.Message, error) { return w.Txn(ctx, r) })
	case n < 89:
		r := &pb.CompactionRequest{Revision: of(g, max(g.compacted, 1), g.now+1, max(g.compacted, g.now-30, 1), max(g.compacted, g.now-30, 1))}
		if r.Revision > g.compacted && r.Revision <= g.now {
			g.compacted = r.Revision
		}
		return named("compact", r, func(ctx context.Context, w *wire) (proto.Message, error) { return w.Compact(ctx, r) })
	case n < 93:
		r := &pb.LeaseGrantRequest{ID: g.leaseID(), TTL: of[int64](g, 500, 1000, 10_000_000_000)}
		return named("grant", r, func(ctx context.Context, w *wire) (proto.Message, error) { return w.lease.LeaseGrant(ctx, r) })
	case n < 95:
		r := &pb.LeaseRevokeRequest{ID: g.leaseID()}
		return named("revoke", r, func(ctx context.Context, w *wire) (proto.Message, error) { return w.lease.LeaseRevoke(ctx, r) })
	case n < 98:
		r := &pb.LeaseTimeToLiveRequest{ID: g.leaseID(), Keys: true}
		return named("time to live", r, func(ctx context.Context, w *wire) (proto.Message, error) { return w.lease.LeaseTimeToLive(ctx, r) })
	default:
		r := &pb.LeaseKeepAliveRequest{ID: g.leaseID()}
		return named("keep alive", r, func(ctx context.Context, w *wire) (proto.Message, error) {
			stream, err := w.lease.LeaseKeepAlive(ctx)
			if err != nil {
				return nil, err
			}
			if err := stream.Send(r); err != nil {
				return nil, err
			}
			resp, err := stream.Recv()
			if err != nil {
				return nil, err
			}
			return resp, stream.CloseSend()
		})
	}
}
