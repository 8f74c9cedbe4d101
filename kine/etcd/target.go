package etcd

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"sync/atomic"

	"skiff/kine"
	"skiff/kine/transfer"
)

const (
	// marker is the key that says where an unfinished transfer comes from, and
	// padding the one whose writes move the revision on.
	marker  = "skiff-transfer/source"
	padding = "skiff-transfer/padding"
	// transferPrefix has both.
	transferPrefix = "skiff-transfer/"
	// maxPadding is how far the revision of a running cluster is moved on: etcd
	// counts a revision for each write.
	maxPadding = 20_000_000
	// padders write at once, and txnOps is what etcd takes in one transaction.
	padders = 128
	txnOps  = 100
)

// target is an etcd cluster that a transfer fills, through its own interface: so
// keys get revisions of their own, above those they had.
type target struct {
	s      *Store
	cancel context.CancelFunc
	done   chan error
}

// NewTarget is an empty etcd cluster as the target of a transfer.
func NewTarget(cfg Config) (transfer.Target, error) {
	cfg.CompactInterval = -1
	s, err := New(cfg)
	if err != nil {
		return nil, err
	}
	return &target{s: s}, nil
}

// OpenSource is a cluster's state at its newest revision.
func OpenSource(ctx context.Context, cfg Config) (transfer.Source, error) {
	cfg.CompactInterval = -1
	s, err := New(cfg)
	if err != nil {
		return nil, err
	}
	t := &target{s: s}
	if err := t.run(ctx); err != nil {
		return nil, err
	}
	return transfer.FromStore(ctx, s, t.Close)
}

// Inspect describes a cluster.
func Inspect(ctx context.Context, cfg Config) (st kine.Status, err error) {
	cfg.CompactInterval = -1
	s, err := New(cfg)
	if err != nil {
		return st, err
	}
	t := &target{s: s}
	if err := t.run(ctx); err != nil {
		return st, err
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	return s.Status(ctx)
}

func (t *target) run(ctx context.Context) error {
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	t.cancel, t.done = cancel, make(chan error, 1)
	go func() { t.done <- t.s.Run(run) }()
	// Whether the cluster answers is known within the time of a request.
	short, stop := context.WithTimeout(ctx, 2*t.s.cfg.Timeout)
	defer stop()
	if _, err := t.s.Revision(short); err != nil {
		return errors.Join(err, t.Close())
	}
	return nil
}

func (t *target) Begin(ctx context.Context, from string, revision int64) error {
	if err := t.run(ctx); err != nil {
		return err
	}
	if err := t.claim(ctx, from); err != nil {
		return fmt.Errorf("etcd: %w", err)
	}
	return t.pad(ctx, revision)
}

func (t *target) claim(ctx context.Context, from string) error {
	was, err := t.s.Get(ctx, marker, kine.ReadOptions{})
	if err != nil {
		return err
	}
	if len(was.KVs) > 0 {
		if string(was.KVs[0].Value) == from {
			return nil
		}
		return fmt.Errorf("%w: it holds an unfinished transfer from %s; finish that one, or delete all keys", transfer.ErrNotEmpty, was.KVs[0].Value)
	}
	all, err := t.s.Count(ctx, kine.Range{Start: "\x00", End: kine.Unbounded}, kine.ReadOptions{})
	if err != nil {
		return err
	}
	if all.Count > 0 {
		return fmt.Errorf("%w: the cluster has %d keys; name one without any", transfer.ErrNotEmpty, all.Count)
	}
	_, err = t.s.Create(ctx, marker, []byte(from), 0)
	return err
}

// pad writes until the cluster's revision is at least revision: what is written
// after that is newer than anything the source's clients have seen.
func (t *target) pad(ctx context.Context, revision int64) error {
	now, err := t.s.Revision(ctx)
	if err != nil {
		return err
	}
	if revision-now > maxPadding {
		return fmt.Errorf("etcd: the source is at revision %d and etcd counts one for each write: make a file for `etcdutl snapshot restore` instead, with --to etcd-snapshot:///PATH, which keeps the revisions", revision)
	}
	var left atomic.Int64
	left.Store(revision - now)
	var wg sync.WaitGroup
	var failed atomic.Pointer[error]
	for range min(padders, max(0, revision-now)) {
		wg.Go(func() {
			for failed.Load() == nil && left.Add(-1) >= 0 {
				if _, err := t.s.Txn(ctx, kine.Txn{Success: []kine.Op{{Type: kine.OpPut, Range: kine.Range{Start: padding}}}}); err != nil {
					failed.Store(&err)
				}
			}
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		return fmt.Errorf("etcd: move the revision on to %d: %w", revision, *err)
	}
	return nil
}

func (t *target) KeepsRevisions() bool { return false }

func (t *target) Keys(ctx context.Context) iter.Seq2[kine.KeyValue, error] {
	own := kine.PrefixRange(transferPrefix)
	return func(yield func(kine.KeyValue, error) bool) {
		for kv, err := range transfer.Keys(ctx, t.s, 0) {
			if err == nil && own.Contains(kv.Key) {
				continue
			}
			if !yield(kv, err) {
				return
			}
		}
	}
}

func (t *target) Grant(ctx context.Context, leases []kine.Lease) error {
	for _, l := range leases {
		if _, err := t.s.Grant(ctx, l.ID, l.TTL); err != nil && !errors.Is(err, kine.ErrLeaseExists) {
			return err
		}
	}
	return nil
}

func (t *target) Apply(ctx context.Context, puts []kine.KeyValue, deletes []string) error {
	var ops []kine.Op
	size := 0
	flush := func() error {
		if len(ops) == 0 {
			return nil
		}
		_, err := t.s.Txn(ctx, kine.Txn{Success: ops})
		ops, size = nil, 0
		return err
	}
	add := func(op kine.Op) error {
		n := len(op.Range.Start) + len(op.Value)
		if len(ops) == txnOps || size+n > t.s.cfg.Limits.RequestBytes {
			if err := flush(); err != nil {
				return err
			}
		}
		ops, size = append(ops, op), size+n
		return nil
	}
	for _, key := range deletes {
		if err := add(kine.Op{Type: kine.OpDelete, Range: kine.Range{Start: key}}); err != nil {
			return err
		}
	}
	for i := range puts {
		kv := &puts[i]
		if err := add(kine.Op{Type: kine.OpPut, Range: kine.Range{Start: kv.Key}, Value: kv.Value, Lease: kv.Lease}); err != nil {
			return err
		}
	}
	return flush()
}

// Finish removes what the transfer needed, and compacts all before it.
func (t *target) Finish(ctx context.Context, _ int64) error {
	res, err := t.s.Txn(ctx, kine.Txn{Success: []kine.Op{{Type: kine.OpDelete, Range: kine.PrefixRange(transferPrefix)}}})
	if err != nil {
		return err
	}
	return t.s.Compact(ctx, res.Revision)
}

func (t *target) Close() error {
	if t.cancel == nil {
		return nil
	}
	t.cancel()
	t.cancel = nil
	return <-t.done
}
