package kinetest

import (
	"context"
	"sync/atomic"

	"skiff/kine"
)

// Either is several servers of one database as one store: each request goes to the
// next one.
type Either struct {
	Stores []kine.Store
	next   atomic.Int64
}

func (e *Either) pick() kine.Store { return e.Stores[int(e.next.Add(1))%len(e.Stores)] }

// Get implements kine.Store.
func (e *Either) Get(ctx context.Context, key string, opts kine.ReadOptions) (kine.ReadResult, error) {
	return e.pick().Get(ctx, key, opts)
}

// List implements kine.Store.
func (e *Either) List(ctx context.Context, r kine.Range, opts kine.ReadOptions) (kine.ReadResult, error) {
	return e.pick().List(ctx, r, opts)
}

// Count implements kine.Store.
func (e *Either) Count(ctx context.Context, r kine.Range, opts kine.ReadOptions) (kine.ReadResult, error) {
	return e.pick().Count(ctx, r, opts)
}

// Create implements kine.Store.
func (e *Either) Create(ctx context.Context, key string, value []byte, lease int64) (int64, error) {
	return e.pick().Create(ctx, key, value, lease)
}

// Update implements kine.Store.
func (e *Either) Update(ctx context.Context, key string, value []byte, expected, lease int64) (int64, error) {
	return e.pick().Update(ctx, key, value, expected, lease)
}

// Delete implements kine.Store.
func (e *Either) Delete(ctx context.Context, key string, expected int64) (kine.KeyValue, int64, error) {
	return e.pick().Delete(ctx, key, expected)
}

// Txn implements kine.Store.
func (e *Either) Txn(ctx context.Context, t kine.Txn) (kine.TxnResult, error) {
	return e.pick().Txn(ctx, t)
}

// Watch implements kine.Store.
func (e *Either) Watch(ctx context.Context, r kine.Range, opts kine.WatchOptions) (kine.Watcher, error) {
	return e.pick().Watch(ctx, r, opts)
}

// Revision implements kine.Store.
func (e *Either) Revision(ctx context.Context) (int64, error) { return e.pick().Revision(ctx) }

// Compact implements kine.Store.
func (e *Either) Compact(ctx context.Context, rev int64) error { return e.pick().Compact(ctx, rev) }

// Grant implements kine.Store.
func (e *Either) Grant(ctx context.Context, id, ttl int64) (kine.Lease, error) {
	return e.pick().Grant(ctx, id, ttl)
}

// Revoke implements kine.Store.
func (e *Either) Revoke(ctx context.Context, id int64) error { return e.pick().Revoke(ctx, id) }

// KeepAlive implements kine.Store.
func (e *Either) KeepAlive(ctx context.Context, id int64) (kine.Lease, error) {
	return e.pick().KeepAlive(ctx, id)
}

// TimeToLive implements kine.Store.
func (e *Either) TimeToLive(ctx context.Context, id int64, keys bool) (kine.Lease, error) {
	return e.pick().TimeToLive(ctx, id, keys)
}

// Leases implements kine.Store.
func (e *Either) Leases(ctx context.Context) ([]int64, error) { return e.pick().Leases(ctx) }

// Status implements kine.Store.
func (e *Either) Status(ctx context.Context) (kine.Status, error) { return e.pick().Status(ctx) }
