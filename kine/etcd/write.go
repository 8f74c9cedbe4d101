package etcd

import (
	"context"
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"skiff/kine"
	"skiff/kine/etcdwire"
	"skiff/kine/mvcc"
)

// Create implements kine.Store.
func (s *Store) Create(ctx context.Context, key string, value []byte, lease int64) (int64, error) {
	if err := s.cfg.Limits.CheckPut(key, value); err != nil {
		return 0, err
	}
	res, err := s.conditional(ctx, key, kine.Equal, 0, kine.Op{Type: kine.OpPut, Range: kine.Range{Start: key}, Value: value, Lease: lease})
	if err != nil {
		return 0, err
	}
	if !res.Succeeded {
		return 0, kine.ErrKeyExists
	}
	return res.Revision, nil
}

// Update implements kine.Store.
func (s *Store) Update(ctx context.Context, key string, value []byte, expected, lease int64) (int64, error) {
	if err := s.cfg.Limits.CheckPut(key, value); err != nil {
		return 0, err
	}
	res, err := s.conditional(ctx, key, kine.Equal, expected, kine.Op{Type: kine.OpPut, Range: kine.Range{Start: key}, Value: value, Lease: lease})
	if err != nil {
		return 0, err
	}
	if !res.Succeeded {
		return 0, conflict(res)
	}
	return res.Revision, nil
}

// Delete implements kine.Store.
func (s *Store) Delete(ctx context.Context, key string, expected int64) (kine.KeyValue, int64, error) {
	if key == "" {
		return kine.KeyValue{}, 0, fmt.Errorf("key is empty: %w", kine.ErrInvalid)
	}
	result := kine.Equal
	if expected == 0 {
		result = kine.NotEqual // whatever it is, if it is
	}
	res, err := s.conditional(ctx, key, result, expected, kine.Op{Type: kine.OpDelete, Range: kine.Range{Start: key}, PrevKV: true})
	if err != nil {
		return kine.KeyValue{}, 0, err
	}
	if !res.Succeeded {
		if len(res.Results[0].Read.KVs) == 0 {
			return kine.KeyValue{}, 0, kine.ErrKeyNotFound
		}
		return kine.KeyValue{}, 0, conflict(res)
	}
	prev := res.Results[0].PrevKVs
	if len(prev) != 1 {
		return kine.KeyValue{}, 0, fmt.Errorf("etcd deleted %q and returned %d previous keys: %w", key, len(prev), kine.ErrUnknownOutcome)
	}
	return prev[0], res.Revision, nil
}

// conditional runs op if the key's revision is as demanded, and reads the key
// if not.
func (s *Store) conditional(ctx context.Context, key string, result kine.CompareResult, revision int64, op kine.Op) (kine.TxnResult, error) {
	return s.txn(ctx, &kine.Txn{
		Compares: []kine.Compare{{Key: key, Target: kine.TargetMod, Result: result, Number: revision}},
		Success:  []kine.Op{op},
		Failure:  []kine.Op{{Type: kine.OpRange, Range: kine.Range{Start: key}}},
	}, true)
}

func conflict(res kine.TxnResult) error {
	e := &kine.ConflictError{Revision: res.Revision}
	if kvs := res.Results[0].Read.KVs; len(kvs) > 0 {
		e.Current = &kvs[0]
	}
	return e
}

// Txn implements kine.Store.
func (s *Store) Txn(ctx context.Context, t kine.Txn) (kine.TxnResult, error) {
	if err := s.cfg.Limits.CheckTxn(&t); err != nil {
		return kine.TxnResult{}, err
	}
	return s.txn(ctx, &t, mvcc.Writes(&t))
}

func (s *Store) txn(ctx context.Context, t *kine.Txn, write bool) (kine.TxnResult, error) {
	ctx, cancel, err := s.request(ctx)
	if err != nil {
		return kine.TxnResult{}, err
	}
	defer cancel()
	resp, err := s.kv.Txn(ctx, etcdwire.Txn(t), anySize)
	if err != nil {
		return kine.TxnResult{}, etcdwire.FromError(ctx, err, write)
	}
	return etcdwire.FromTxnResponse(t, resp), nil
}

// Compact implements kine.Store.
func (s *Store) Compact(ctx context.Context, rev int64) error {
	ctx, cancel, err := s.request(ctx)
	if err != nil {
		return err
	}
	defer cancel()
	if _, err := s.kv.Compact(ctx, &pb.CompactionRequest{Revision: rev}); err != nil {
		return s.compactedAt(etcdwire.FromError(ctx, err, true), rev)
	}
	s.mu.Lock()
	s.compacted = max(s.compacted, rev)
	s.mu.Unlock()
	return nil
}
