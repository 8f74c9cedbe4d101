package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"skiff/kine/group"
	"skiff/kine/mvcc"
	"skiff/kine/recent"
	"skiff/kine/watchhub"
)

// Store is a kine.Runner on a SQLite file.
type Store struct {
	*group.Queue
	cfg Config

	// Set by open, before Start.
	lock        *os.File
	db, readers *sql.DB
	// conn is the writer's own connection, which no reader can take.
	conn     *sql.Conn
	oneValue *sql.Stmt
	index    *mvcc.Index
	hub      *watchhub.Hub
	leases   *leases
	usage    usage
	files    files
	reserve  reserve
	recent   *recent.Values
	// oldest is the revision that the kept history begins at.
	oldest atomic.Int64
}

// New checks the configuration. Nothing is opened before Run.
func New(cfg Config) (*Store, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, err
	}
	s := &Store{cfg: cfg, leases: newLeases(), recent: recent.New(cfg.CacheBytes)}
	s.Queue = group.NewQueue(cfg.Limits, cfg.Log)
	return s, nil
}

// Run implements kine.Runner.
func (s *Store) Run(ctx context.Context) (err error) {
	defer func() {
		s.Stop()
		err = errors.Join(err, s.close())
	}()
	if err := s.openPatiently(ctx); err != nil || ctx.Err() != nil {
		return err
	}
	revision, _ := s.index.Revisions()
	s.hub = watchhub.New(watchhub.Config{Log: s, Revision: s.Revision, Progress: s.cfg.Progress}, revision)
	w, err := s.newWriter(ctx)
	if err != nil {
		return fmt.Errorf("sqlite: %w", explain(err))
	}
	defer func() { err = errors.Join(err, w.close()) }()
	s.Start()

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

// openPatiently opens the store. It waits for what can pass by itself, such as
// a full or read-only disk, and gives up on what needs a decision: a file in
// use, damaged, or not of this program.
func (s *Store) openPatiently(ctx context.Context) error {
	const maxWait = 5 * time.Second
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, maxWait) {
		err := s.open(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return nil
		}
		if !passes(err) {
			return err
		}
		if cerr := s.close(); cerr != nil {
			s.cfg.Log.Debug("close after a failed open", "err", cerr)
		}
		s.Unready(err)
		s.cfg.Log.Error("the store cannot be opened; it is tried again", "err", err, "in", wait)
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
	}
}

func (s *Store) close() error {
	var errs []error
	if s.oneValue != nil {
		errs = append(errs, s.oneValue.Close())
		s.oneValue = nil
	}
	if s.readers != nil {
		errs = append(errs, s.readers.Close())
		s.readers = nil
	}
	if s.conn != nil {
		errs = append(errs, s.conn.Close())
		s.conn = nil
	}
	if s.db != nil {
		errs = append(errs, s.db.Close())
		s.db = nil
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
		s.lock = nil
	}
	return errors.Join(errs...)
}
