package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"sync"

	"skiff/kine"
	"skiff/kine/mvcc"
	"skiff/kine/watchhub"
)

// Store is a kine.Runner on a SQLite file.
type Store struct {
	cfg   Config
	ready chan struct{}
	// stopped is closed when Run ends; nothing is queued after.
	stopped chan struct{}
	queue   chan *op

	// Set by open, before ready is closed.
	lock        *os.File
	db, readers *sql.DB
	index       *mvcc.Index
	hub         *watchhub.Hub
	leases      *leases
	usage       usage
}

// New checks the configuration. Nothing is opened before Run.
func New(cfg Config) (*Store, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, err
	}
	return &Store{
		cfg: cfg, ready: make(chan struct{}), stopped: make(chan struct{}),
		queue: make(chan *op, 4096), leases: newLeases(),
	}, nil
}

// Ready implements kine.Runner.
func (s *Store) Ready() <-chan struct{} { return s.ready }

// Run implements kine.Runner.
func (s *Store) Run(ctx context.Context) (err error) {
	defer close(s.stopped)
	defer func() { err = errors.Join(err, s.close()) }()
	if err := s.open(ctx); err != nil {
		return err
	}
	revision, _ := s.index.Revisions()
	s.hub = watchhub.New(watchhub.Config{Log: s, Progress: s.cfg.Progress}, revision)
	w, err := s.newWriter(ctx)
	if err != nil {
		return fmt.Errorf("sqlite: %w", explain(err))
	}
	close(s.ready)

	hubCtx, stopHub := context.WithCancel(context.WithoutCancel(ctx))
	defer stopHub()
	var wg sync.WaitGroup
	wg.Go(func() { s.hub.Run(hubCtx) })
	wg.Go(func() { s.expireLeases(ctx) })
	wg.Go(func() { s.moveWindow(ctx) })
	w.run(ctx)
	stopHub()
	wg.Wait()
	return nil
}

func (s *Store) close() error {
	var errs []error
	if s.readers != nil {
		errs = append(errs, s.readers.Close())
	}
	if s.db != nil {
		errs = append(errs, s.db.Close())
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
	}
	return errors.Join(errs...)
}

// serving waits until the store is open.
func (s *Store) serving(ctx context.Context) error {
	select {
	case <-s.ready:
	default:
		select {
		case <-s.ready:
		case <-s.stopped:
			return kine.ErrStopped
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	select {
	case <-s.stopped:
		return kine.ErrStopped
	default:
		return nil
	}
}
