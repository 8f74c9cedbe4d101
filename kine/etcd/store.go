package etcd

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"skiff/kine"
	"skiff/kine/etcdwire"
	"skiff/kine/group"
)

// Store is a kine.Runner on an etcd cluster.
type Store struct {
	cfg     Config
	ready   chan struct{}
	stopped chan struct{}

	// Set by Run, before ready is closed.
	client *clientv3.Client
	kv     pb.KVClient
	// progress tells that the members' progress notifications can be trusted.
	progress bool
	now      group.Shared[struct{}, int64]

	mu sync.Mutex
	// unready is why the store does not serve yet.
	unready error
	// idle are the watchers that want to be told the revision now and then.
	idle map[*watcher]struct{}
	// compacted is the newest revision that this process saw compacted.
	compacted int64
}

// anySize lets answers be as large as they are.
var anySize = grpc.MaxCallRecvMsgSize(math.MaxInt32)

// New checks the configuration. Nothing is opened before Run.
func New(cfg Config) (*Store, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, err
	}
	s := &Store{cfg: cfg, ready: make(chan struct{}), stopped: make(chan struct{}), idle: map[*watcher]struct{}{}}
	s.now.Read = func(ctx context.Context, _ []struct{}) (int64, error) { return s.readRevision(ctx) }
	return s, nil
}

// Ready implements kine.Runner.
func (s *Store) Ready() <-chan struct{} { return s.ready }

// Run implements kine.Runner.
func (s *Store) Run(ctx context.Context) (err error) {
	s.client, err = clientv3.New(clientv3.Config{
		Endpoints: s.cfg.Endpoints, TLS: s.cfg.TLS, Username: s.cfg.Username, Password: s.cfg.Password,
		DialTimeout: s.cfg.Timeout, DialKeepAliveTime: 30 * time.Second, DialKeepAliveTimeout: 10 * time.Second,
		Logger: zap.NewNop(), Context: context.WithoutCancel(ctx),
	})
	if err != nil {
		close(s.stopped)
		return fmt.Errorf("etcd: %w", err)
	}
	defer func() {
		// First, so that watches know why their streams end.
		close(s.stopped)
		if cerr := s.client.Close(); cerr != nil && !errors.Is(cerr, context.Canceled) {
			err = errors.Join(err, fmt.Errorf("etcd: %w", cerr))
		}
	}()
	s.kv = clientv3.RetryKVClient(s.client)
	if !s.connect(ctx) {
		return nil
	}
	close(s.ready)
	var wg sync.WaitGroup
	wg.Go(func() { s.tellProgress(ctx) })
	if s.cfg.CompactInterval > 0 {
		wg.Go(func() { s.moveWindow(ctx) })
	}
	<-ctx.Done()
	wg.Wait()
	return nil
}

// connect waits until the cluster answers; false when ctx ended before.
func (s *Store) connect(ctx context.Context) bool {
	const maxWait = 5 * time.Second
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, maxWait) {
		err := s.prepare(ctx)
		if err == nil {
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		s.mu.Lock()
		s.unready = err
		s.mu.Unlock()
		s.cfg.Log.Error("etcd cannot be used; it is tried again", "endpoints", s.cfg.Endpoints, "err", err, "in", wait)
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return false
		case <-timer.C:
		}
	}
}

// prepare asks the cluster for its revision, and the members for their versions.
func (s *Store) prepare(ctx context.Context) error {
	if _, err := s.readRevision(ctx); err != nil {
		return err
	}
	s.progress = true
	for _, e := range s.cfg.Endpoints {
		short, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
		st, err := s.client.Status(short, e)
		cancel()
		if err != nil {
			s.cfg.Log.Warn("a member of etcd does not answer", "endpoint", e, "err", err)
			continue
		}
		if !trusted(st.Version) {
			s.progress = false
			s.cfg.Log.Warn("this version of etcd can promise progress too early; its notifications are not used: upgrade to 3.5.8 or newer", "endpoint", e, "version", st.Version)
		}
	}
	return nil
}

// trusted tells whether a version's progress notifications come after all events
// before them.
func trusted(version string) bool {
	var major, minor, patch int
	if _, err := fmt.Sscanf(version, "%d.%d.%d", &major, &minor, &patch); err != nil {
		return false
	}
	switch {
	case major != 3:
		return major > 3
	case minor == 4:
		return patch >= 25
	case minor == 5:
		return patch >= 8
	}
	return minor > 5
}

// request is the context of one request, once the store serves.
func (s *Store) request(ctx context.Context) (context.Context, context.CancelFunc, error) {
	select {
	case <-s.ready:
	default:
		select {
		case <-s.ready:
		case <-s.stopped:
			return nil, nil, kine.ErrStopped
		case <-ctx.Done():
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.unready != nil {
				return nil, nil, fmt.Errorf("%w: %w", kine.ErrUnavailable, s.unready)
			}
			return nil, nil, ctx.Err()
		}
	}
	select {
	case <-s.stopped:
		return nil, nil, kine.ErrStopped
	default:
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	return ctx, cancel, nil
}

// Revision implements kine.Store.
func (s *Store) Revision(ctx context.Context) (int64, error) {
	_, cancel, err := s.request(ctx)
	if err != nil {
		return 0, err
	}
	cancel()
	return s.now.Get(ctx, struct{}{})
}

// readRevision is a quorum read of nothing.
func (s *Store) readRevision(ctx context.Context) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	resp, err := s.kv.Range(ctx, &pb.RangeRequest{Key: []byte{0}, CountOnly: true}, anySize)
	if err != nil {
		return 0, etcdwire.FromError(ctx, err, false)
	}
	return resp.Header.Revision, nil
}

// Get implements kine.Store.
func (s *Store) Get(ctx context.Context, key string, opts kine.ReadOptions) (kine.ReadResult, error) {
	if key == "" {
		return kine.ReadResult{}, fmt.Errorf("key is empty: %w", kine.ErrInvalid)
	}
	return s.List(ctx, kine.Range{Start: key}, opts)
}

// List implements kine.Store.
func (s *Store) List(ctx context.Context, r kine.Range, opts kine.ReadOptions) (kine.ReadResult, error) {
	return s.read(ctx, r, opts, opts.Limit)
}

// Count implements kine.Store.
func (s *Store) Count(ctx context.Context, r kine.Range, opts kine.ReadOptions) (kine.ReadResult, error) {
	res, err := s.read(ctx, r, opts, -1)
	res.KVs = nil
	return res, err
}

func (s *Store) read(ctx context.Context, r kine.Range, opts kine.ReadOptions, limit int64) (kine.ReadResult, error) {
	if opts.Revision < 0 {
		return kine.ReadResult{}, fmt.Errorf("revision %d is negative: %w", opts.Revision, kine.ErrInvalid)
	}
	ctx, cancel, err := s.request(ctx)
	if err != nil {
		return kine.ReadResult{}, err
	}
	defer cancel()
	resp, err := s.kv.Range(ctx, etcdwire.RangeRequest(r, opts, limit), anySize)
	if err != nil {
		return kine.ReadResult{}, s.compactedAt(etcdwire.FromError(ctx, err, false), opts.Revision)
	}
	return etcdwire.FromRangeResponse(resp, opts.KeysOnly), nil
}

// compactedAt fills in what etcd does not say.
func (s *Store) compactedAt(err error, revision int64) error {
	var compacted *kine.CompactedError
	if errors.As(err, &compacted) {
		s.mu.Lock()
		defer s.mu.Unlock()
		return &kine.CompactedError{Revision: revision, CompactRevision: max(s.compacted, revision+1)}
	}
	return err
}

// Status implements kine.Store.
func (s *Store) Status(ctx context.Context) (kine.Status, error) {
	ctx, cancel, err := s.request(ctx)
	if err != nil {
		return kine.Status{}, err
	}
	defer cancel()
	all, err := s.kv.Range(ctx, &pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}, CountOnly: true}, anySize)
	if err != nil {
		return kine.Status{}, etcdwire.FromError(ctx, err, false)
	}
	s.mu.Lock()
	compacted := s.compacted
	s.mu.Unlock()
	out := kine.Status{Backend: "etcd", Revision: all.Header.Revision, Keys: all.Count, CompactRevision: compacted, OldestRevision: compacted}
	for _, e := range s.cfg.Endpoints {
		st, err := s.client.Status(ctx, e)
		if err != nil {
			continue // the next member may answer
		}
		out.SizeBytes, out.FreeBytes, out.QuotaBytes = st.DbSize, st.DbSize-st.DbSizeInUse, st.DbSizeQuota
		break
	}
	return out, nil
}
