package stores

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// created numbers the keys of all rounds: each put makes a new one.
type created struct{ atomic.Int64 }

func (c *created) key() []byte {
	return fmt.Appendf(nil, "/registry/pods/default/pod-%08d", c.Add(1))
}

// Puts measures puts of new keys by so many clients.
func (r *Run) Puts(ctx context.Context, clients int) error {
	value := random(r.ValueBytes)
	keys := &created{}
	keys.Store(rand.Int64N(1000) * 100_000) // beside those of an earlier run
	return r.compare(ctx, "put", clients, func(ctx context.Context, s *Server, l *Line) error {
		return r.load(ctx, s, l, func(ctx context.Context, kv pb.KVClient) error {
			_, err := kv.Put(ctx, &pb.PutRequest{Key: keys.key(), Value: value})
			return err
		})
	})
}

// rangeKeys is how many keys a range of many reads.
const rangeKeys = 10_000

// Ranges measures reads of one key and of many.
func (r *Run) Ranges(ctx context.Context) error {
	for i := range r.Servers {
		if err := fill(ctx, &r.Servers[i], "/registry/range/", rangeKeys, r.ValueBytes); err != nil {
			return err
		}
	}
	one := func(ctx context.Context, kv pb.KVClient) error {
		resp, err := kv.Range(ctx, &pb.RangeRequest{Key: fmt.Appendf(nil, "/registry/range/%08d", rand.IntN(rangeKeys))})
		if err == nil && len(resp.Kvs) != 1 {
			err = fmt.Errorf("%d keys, want 1", len(resp.Kvs))
		}
		return err
	}
	all := func(ctx context.Context, kv pb.KVClient) error {
		resp, err := kv.Range(ctx, &pb.RangeRequest{Key: []byte("/registry/range/"), RangeEnd: []byte("/registry/range0")})
		if err == nil && len(resp.Kvs) != rangeKeys {
			err = fmt.Errorf("%d keys, want %d", len(resp.Kvs), rangeKeys)
		}
		return err
	}
	for _, m := range []struct {
		name    string
		clients int
		do      func(context.Context, pb.KVClient) error
	}{
		{"range of 1", 1, one}, {"range of 1", perConnection, one}, {"range of 10000", 1, all}, {"range of 10000", 4, all},
	} {
		err := r.compare(ctx, m.name, m.clients, func(ctx context.Context, s *Server, l *Line) error { return r.load(ctx, s, l, m.do) })
		if err != nil {
			return err
		}
	}
	return nil
}

// load lets the line's clients repeat an operation for a while.
func (r *Run) load(ctx context.Context, s *Server, l *Line, do func(context.Context, pb.KVClient) error) error {
	conns, hangUp, err := dial(s.Address, l.Clients)
	if err != nil {
		return err
	}
	for _, kv := range conns { // connect before the clock runs
		if err := do(ctx, kv); err != nil {
			return err
		}
	}
	took := make([][]time.Duration, l.Clients)
	var failed sync.Mutex
	var wg sync.WaitGroup
	began := time.Now()
	end := began.Add(r.Each)
	for i := range l.Clients {
		wg.Go(func() {
			kv := conns[i%len(conns)]
			for start := time.Now(); start.Before(end) && ctx.Err() == nil; {
				err := do(ctx, kv)
				now := time.Now()
				if err != nil {
					failed.Lock()
					if l.Errors++; l.Errors == 1 {
						l.FirstError = err.Error()
					}
					failed.Unlock()
				} else {
					took[i] = append(took[i], now.Sub(start))
				}
				start = now
			}
		})
	}
	wg.Wait()
	l.took(slices.Concat(took...), time.Since(began))
	if err := hangUp(); err != nil {
		return err
	}
	return ctx.Err()
}

// fill puts n keys below a prefix, as many at once as a transaction takes.
func fill(ctx context.Context, s *Server, prefix string, n, size int) error {
	const perTxn = 100
	conns, hangUp, err := dial(s.Address, 1)
	if err != nil {
		return err
	}
	var next atomic.Int64
	var first error
	var once sync.Once
	var wg sync.WaitGroup
	for range perConnection {
		wg.Go(func() {
			value := random(size)
			for {
				from := int(next.Add(perTxn)) - perTxn
				if from >= n {
					return
				}
				t := &pb.TxnRequest{}
				for i := from; i < min(from+perTxn, n); i++ {
					put := &pb.PutRequest{Key: fmt.Appendf(nil, "%s%08d", prefix, i), Value: value}
					t.Success = append(t.Success, &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: put}})
				}
				if _, err := conns[0].Txn(ctx, t); err != nil {
					once.Do(func() { first = fmt.Errorf("fill %s: %w", s.Name, err) })
					return
				}
			}
		})
	}
	wg.Wait()
	if err := hangUp(); err != nil {
		return err
	}
	return first
}

// random is a value that does not compress.
func random(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	return b
}
