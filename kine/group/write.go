package group

import (
	"context"
	"fmt"

	"skiff/kine"
	"skiff/kine/mvcc"
)

// Create implements kine.Store.
func (q *Queue) Create(ctx context.Context, key string, value []byte, lease int64) (int64, error) {
	return q.put(ctx, key, value, func(b *mvcc.Batch) (int64, error) { return b.Create(key, value, lease) })
}

// Update implements kine.Store.
func (q *Queue) Update(ctx context.Context, key string, value []byte, expected, lease int64) (int64, error) {
	return q.put(ctx, key, value, func(b *mvcc.Batch) (int64, error) { return b.Update(key, value, expected, lease) })
}

func (q *Queue) put(ctx context.Context, key string, value []byte, plan func(*mvcc.Batch) (int64, error)) (int64, error) {
	if err := q.limits.CheckPut(key, value); err != nil {
		return 0, err
	}
	var revision int64
	err := q.Submit(ctx, &Op{Puts: true, Keys: []string{key}, Size: len(value), Plan: func(b *mvcc.Batch) (err error) {
		revision, err = plan(b)
		return err
	}})
	if err != nil {
		return 0, err
	}
	return revision, nil
}

// Delete implements kine.Store.
func (q *Queue) Delete(ctx context.Context, key string, expected int64) (kine.KeyValue, int64, error) {
	if key == "" {
		return kine.KeyValue{}, 0, fmt.Errorf("key is empty: %w", kine.ErrInvalid)
	}
	var prev kine.KeyValue
	var revision int64
	err := q.Submit(ctx, &Op{Keys: []string{key}, Values: true, Plan: func(b *mvcc.Batch) (err error) {
		prev, revision, err = b.Delete(key, expected)
		return err
	}})
	if err != nil {
		return kine.KeyValue{}, 0, err
	}
	return prev, revision, nil
}

// Txn implements kine.Store.
func (q *Queue) Txn(ctx context.Context, t kine.Txn) (kine.TxnResult, error) {
	if err := q.limits.CheckTxn(&t); err != nil {
		return kine.TxnResult{}, err
	}
	var result kine.TxnResult
	err := q.Submit(ctx, &Op{Puts: mvcc.Puts(&t), Keys: keys(&t, nil), Values: asksPrev(&t), Size: size(&t), Plan: func(b *mvcc.Batch) (err error) {
		result, err = b.Txn(&t)
		return err
	}})
	if err != nil {
		return kine.TxnResult{}, err
	}
	return result, nil
}

// keys adds the single keys that a transaction names.
func keys(t *kine.Txn, out []string) []string {
	for i := range t.Compares {
		if t.Compares[i].RangeEnd == "" {
			out = append(out, t.Compares[i].Key)
		}
	}
	for _, ops := range [][]kine.Op{t.Success, t.Failure} {
		for i := range ops {
			switch {
			case ops[i].Type == kine.OpTxn:
				out = keys(ops[i].Txn, out)
			case ops[i].Range.End == "":
				out = append(out, ops[i].Range.Start)
			}
		}
	}
	return out
}

// asksPrev tells whether a transaction may need the values of its keys.
func asksPrev(t *kine.Txn) bool {
	for _, ops := range [][]kine.Op{t.Success, t.Failure} {
		for i := range ops {
			if op := &ops[i]; op.PrevKV || op.IgnoreValue || op.Type == kine.OpTxn && asksPrev(op.Txn) {
				return true
			}
		}
	}
	return false
}

func size(t *kine.Txn) (n int) {
	for _, ops := range [][]kine.Op{t.Success, t.Failure} {
		for i := range ops {
			if ops[i].Type == kine.OpTxn {
				n += size(ops[i].Txn)
			}
			n += len(ops[i].Value)
		}
	}
	return n
}
