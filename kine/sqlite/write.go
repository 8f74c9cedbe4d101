package sqlite

import (
	"context"
	"fmt"

	"skiff/kine"
	"skiff/kine/mvcc"
)

// op is a queued write: plan it within a batch, then be told how it went.
type op struct {
	// plan runs in the writer; what it returns is the answer once the batch is
	// on disk. It sets the caller's results.
	plan func(b *mvcc.Batch) error
	// extra is SQL beyond the planned writes (leases), run in the same transaction.
	extra func(t *txn) error
	// after runs once the group is on disk.
	after func()
	// puts is refused when the quota is used up.
	puts bool
	done chan error
}

// submit queues an operation and waits for its end. Once it is queued it runs,
// also when ctx ends meanwhile.
func (s *Store) submit(ctx context.Context, o *op) error {
	if err := s.serving(ctx); err != nil {
		return err
	}
	o.done = make(chan error, 1)
	select {
	case s.queue <- o:
	case <-s.stopped:
		return kine.ErrStopped
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-o.done:
		return err
	case <-s.stopped:
		// The writer answers all that it took before it ends.
		select {
		case err := <-o.done:
			return err
		default:
			return kine.ErrStopped
		}
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", kine.ErrUnknownOutcome, ctx.Err())
	}
}

// Create implements kine.Store.
func (s *Store) Create(ctx context.Context, key string, value []byte, lease int64) (int64, error) {
	if err := s.cfg.Limits.CheckPut(key, value); err != nil {
		return 0, err
	}
	var revision int64
	err := s.submit(ctx, &op{puts: true, plan: func(b *mvcc.Batch) (err error) {
		revision, err = b.Create(key, value, lease)
		return err
	}})
	if err != nil {
		return 0, err
	}
	return revision, nil
}

// Update implements kine.Store.
func (s *Store) Update(ctx context.Context, key string, value []byte, expected, lease int64) (int64, error) {
	if err := s.cfg.Limits.CheckPut(key, value); err != nil {
		return 0, err
	}
	var revision int64
	err := s.submit(ctx, &op{puts: true, plan: func(b *mvcc.Batch) (err error) {
		revision, err = b.Update(key, value, expected, lease)
		return err
	}})
	if err != nil {
		return 0, err
	}
	return revision, nil
}

// Delete implements kine.Store.
func (s *Store) Delete(ctx context.Context, key string, expected int64) (kine.KeyValue, int64, error) {
	if key == "" {
		return kine.KeyValue{}, 0, fmt.Errorf("key is empty: %w", kine.ErrInvalid)
	}
	var prev kine.KeyValue
	var revision int64
	err := s.submit(ctx, &op{plan: func(b *mvcc.Batch) (err error) {
		prev, revision, err = b.Delete(key, expected)
		return err
	}})
	if err != nil {
		return kine.KeyValue{}, 0, err
	}
	return prev, revision, nil
}

// Txn implements kine.Store.
func (s *Store) Txn(ctx context.Context, t kine.Txn) (kine.TxnResult, error) {
	if err := s.cfg.Limits.CheckTxn(&t); err != nil {
		return kine.TxnResult{}, err
	}
	var result kine.TxnResult
	err := s.submit(ctx, &op{puts: mvcc.Puts(&t), plan: func(b *mvcc.Batch) (err error) {
		result, err = b.Txn(&t)
		return err
	}})
	if err != nil {
		return kine.TxnResult{}, err
	}
	return result, nil
}
