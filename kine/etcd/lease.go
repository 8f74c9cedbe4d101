package etcd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"skiff/kine"
	"skiff/kine/etcdwire"
	"skiff/kine/mvcc"
)

// Grant implements kine.Store. etcd may raise a very short ttl.
func (s *Store) Grant(ctx context.Context, id, ttl int64) (kine.Lease, error) {
	if ttl < 1 {
		return kine.Lease{}, fmt.Errorf("lease of %d seconds: want 1 or more: %w", ttl, kine.ErrInvalid)
	}
	ctx, cancel, err := s.request(ctx)
	if err != nil {
		return kine.Lease{}, err
	}
	defer cancel()
	resp, err := clientv3.RetryLeaseClient(s.client).LeaseGrant(ctx, &pb.LeaseGrantRequest{ID: id, TTL: ttl})
	if err != nil {
		return kine.Lease{}, etcdwire.FromError(ctx, err, true)
	}
	return kine.Lease{ID: resp.ID, TTL: resp.TTL, Remaining: resp.TTL}, nil
}

// Revoke implements kine.Store.
func (s *Store) Revoke(ctx context.Context, id int64) error {
	ctx, cancel, err := s.request(ctx)
	if err != nil {
		return err
	}
	defer cancel()
	_, err = s.client.Revoke(ctx, clientv3.LeaseID(id))
	return etcdwire.FromError(ctx, err, true)
}

// KeepAlive implements kine.Store.
func (s *Store) KeepAlive(ctx context.Context, id int64) (kine.Lease, error) {
	ctx, cancel, err := s.request(ctx)
	if err != nil {
		return kine.Lease{}, err
	}
	defer cancel()
	resp, err := s.client.KeepAliveOnce(ctx, clientv3.LeaseID(id))
	if err != nil {
		return kine.Lease{}, etcdwire.FromError(ctx, err, false)
	}
	return kine.Lease{ID: id, TTL: resp.TTL, Remaining: resp.TTL}, nil
}

// TimeToLive implements kine.Store.
func (s *Store) TimeToLive(ctx context.Context, id int64, keys bool) (kine.Lease, error) {
	ctx, cancel, err := s.request(ctx)
	if err != nil {
		return kine.Lease{}, err
	}
	defer cancel()
	var opts []clientv3.LeaseOption
	if keys {
		opts = append(opts, clientv3.WithAttachedKeys())
	}
	resp, err := s.client.TimeToLive(ctx, clientv3.LeaseID(id), opts...)
	if err != nil {
		return kine.Lease{}, etcdwire.FromError(ctx, err, false)
	}
	if resp.TTL < 0 {
		return kine.Lease{}, kine.ErrLeaseNotFound
	}
	l := kine.Lease{ID: id, TTL: resp.GrantedTTL, Remaining: resp.TTL}
	for _, key := range resp.Keys {
		l.Keys = append(l.Keys, string(key))
	}
	slices.Sort(l.Keys)
	return l, nil
}

// Leases implements kine.Store.
func (s *Store) Leases(ctx context.Context) ([]int64, error) {
	ctx, cancel, err := s.request(ctx)
	if err != nil {
		return nil, err
	}
	defer cancel()
	resp, err := s.client.Leases(ctx)
	if err != nil {
		return nil, etcdwire.FromError(ctx, err, false)
	}
	ids := make([]int64, len(resp.Leases))
	for i, l := range resp.Leases {
		ids[i] = int64(l.ID)
	}
	slices.Sort(ids)
	return ids, nil
}

// moveWindow compacts what is older than the window. Servers may do it together.
func (s *Store) moveWindow(ctx context.Context) {
	tick := time.NewTicker(s.cfg.CompactInterval)
	defer tick.Stop()
	window := mvcc.Window{Span: s.cfg.HistoryWindow}
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			revision, err := s.readRevision(ctx)
			if err != nil {
				continue // the next turn goes further
			}
			target := window.Move(now, revision)
			if target == 0 {
				continue
			}
			if err := s.Compact(ctx, target); err != nil && !errors.Is(err, kine.ErrCompacted) && ctx.Err() == nil {
				s.cfg.Log.Warn("compaction failed; the next one goes further", "revision", target, "err", err)
			}
		}
	}
}
