package postgres

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lib/pq"

	"skiff/kine"
	"skiff/kine/group"
	"skiff/kine/watchhub"
)

// Store is a kine.Runner on a PostgreSQL database.
type Store struct {
	*group.Queue
	cfg Config
	// name tells this process's notifications from others'.
	name string

	// Set by connect, before Start.
	writer, readers *sql.DB
	hub             *watchhub.Hub
	feed            *feed
	// notifies tells that the database has NOTIFY, and function that it has the one that
	// stores a group.
	notifies, function bool
	// compact is the compact revision as far as this process knows.
	compact atomic.Int64
	// highest is the highest revision that this process has seen. What the
	// database says is never lower, unless it lost writes.
	highest atomic.Int64
	// size is that of the tables, and free how much of it removed rows left.
	size, free atomic.Int64
	// leaseChange wakes the one who ends leases.
	leaseChange chan struct{}
	// dirty wakes the one who cleans.
	dirty chan struct{}
	now   group.Shared[struct{}, int64]
	// gets are the reads of single keys as they are now.
	gets group.Shared[string, moment]
	// These are the writer's own: what it remembers, and its doubts about groups that
	// are planned over that, or over a look at the keys.
	memory           memory
	guesses, glances group.Doubt
}

// New checks the configuration. Nothing is opened before Run.
func New(cfg Config) (*Store, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, err
	}
	s := &Store{cfg: cfg, name: rand.Text(), leaseChange: make(chan struct{}, 1), dirty: make(chan struct{}, 1)}
	s.Queue = group.NewQueue(cfg.Limits, cfg.Log)
	s.now.Read = func(ctx context.Context, _ []struct{}) (int64, error) { return s.readRevision(ctx) }
	s.gets.Read, s.gets.Most, s.gets.Side = s.readKeys, maxKeys, 2
	return s, nil
}

// Run implements kine.Runner.
func (s *Store) Run(ctx context.Context) (err error) {
	defer s.Stop()
	if err := s.open(); err != nil {
		return err
	}
	defer func() {
		// What was acknowledged is in the database; a connection that cannot say
		// goodbye was lost before.
		if cerr := errors.Join(s.writer.Close(), s.readers.Close()); cerr != nil {
			s.cfg.Log.Debug("connections were lost at the end", "err", cerr)
		}
	}()
	revision, err := s.connect(ctx)
	if err != nil || ctx.Err() != nil {
		return err
	}
	s.hub = watchhub.New(watchhub.Config{Log: s, Revision: s.revisionForHub, Progress: s.cfg.Progress}, revision)
	s.feed = newFeed(s, revision)
	s.Start()

	hubCtx, stopHub := context.WithCancel(context.WithoutCancel(ctx))
	defer stopHub()
	var wg sync.WaitGroup
	wg.Go(func() { s.hub.Run(hubCtx) })
	wg.Go(func() { s.feed.run(ctx) })
	wg.Go(func() { s.feed.listen(ctx) })
	wg.Go(func() { s.expireLeases(ctx) })
	wg.Go(func() { s.moveWindow(ctx) })
	wg.Go(func() { s.clean(ctx) })
	s.write(ctx)
	stopHub()
	wg.Wait()
	return nil
}

func (s *Store) open() error {
	cfg, err := config(s.cfg.URL)
	if err != nil {
		return fmt.Errorf("postgres: URL: %w", err)
	}
	connector, err := pq.NewConnectorConfig(cfg)
	if err != nil {
		return fmt.Errorf("postgres: %w", err)
	}
	connector.Dialer(dialer{timeout: s.cfg.Timeout})
	s.writer, s.readers = sql.OpenDB(connector), sql.OpenDB(connector)
	s.writer.SetMaxOpenConns(1)
	s.readers.SetMaxOpenConns(s.cfg.Connections + 1)
	s.readers.SetMaxIdleConns(s.cfg.Connections/2 + 1)
	s.readers.SetConnMaxIdleTime(time.Minute)
	return nil
}

// connect waits until the database answers and its tables are there.
func (s *Store) connect(ctx context.Context) (revision int64, err error) {
	const maxWait = 5 * time.Second
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, maxWait) {
		revision, err = s.prepare(ctx)
		if err == nil || ctx.Err() != nil {
			return revision, nil
		}
		var newer *schemaError
		if errors.As(err, &newer) {
			return 0, fmt.Errorf("postgres: %w", err)
		}
		err = explain(err)
		s.Unready(err)
		s.cfg.Log.Error("the database cannot be used; it is tried again", "err", err, "in", wait)
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return 0, nil
		case <-timer.C:
		}
	}
}

func (s *Store) prepare(ctx context.Context) (revision int64, err error) {
	if err := migrate(ctx, s.writer); err != nil {
		return 0, err
	}
	var compact int64
	var from string
	if err := s.readers.QueryRowContext(ctx, `SELECT revision, compact, source FROM skiff_meta WHERE id = 1`).Scan(&revision, &compact, &from); err != nil {
		return 0, err
	}
	if from != "" {
		return 0, &unfinishedError{from}
	}
	s.compact.Store(compact)
	var n int
	if err := s.readers.QueryRowContext(ctx, `SELECT count(*) FROM pg_catalog.pg_proc WHERE proname = 'pg_notify'`).Scan(&n); err != nil {
		return 0, err
	}
	s.notifies = n > 0
	s.function = s.storeFunction(ctx)
	// How long this server was away is not known to the holders of leases.
	if _, err := s.writer.ExecContext(ctx, `UPDATE skiff_lease SET expires = now() + ttl * interval '1 second' WHERE expires < now()`); err != nil {
		return 0, err
	}
	s.warn(ctx)
	return revision, nil
}

// warn says what the database's settings mean for acknowledged writes.
func (s *Store) warn(ctx context.Context) {
	for _, c := range []struct {
		setting, bad, meaning string
	}{
		{"fsync", "off", "acknowledged writes are lost when the database's machine fails: set fsync=on"},
		{"synchronous_commit", "off", "acknowledged writes are lost when the database fails: set synchronous_commit=on for this role"},
		{"synchronous_standby_names", "", "acknowledged writes survive a failover only with synchronous standbys: set synchronous_standby_names if this database has standbys"},
	} {
		var value string
		if err := s.readers.QueryRowContext(ctx, "SELECT current_setting($1, true)", c.setting).Scan(&value); err != nil {
			continue // another database, which has no such setting
		}
		if value == c.bad {
			s.cfg.Log.Info("database setting", c.setting, value, "meaning", c.meaning)
		}
	}
}

// explain adds the remedy to what the database says.
func explain(err error) error {
	if errors.Is(err, pq.ErrSSLNotSupported) {
		return fmt.Errorf("turn on the server's ssl, or add sslmode=disable to the store's URL where the network is trusted: %w", err)
	}
	var e *pq.Error
	if !errors.As(err, &e) {
		return err
	}
	remedy := ""
	switch code := string(e.Code); {
	case code == "53100":
		return fmt.Errorf("%w: the database's disk is full: free some space: %w", kine.ErrNoSpace, err)
	case code == "53300":
		remedy = "raise the server's max_connections or lower the connections of its clients"
	case strings.HasPrefix(code, "28"):
		remedy = "check user and password in the store's URL, and pg_hba.conf"
	case code == "3D000":
		remedy = "create the database of the store's URL"
	case code == "3F000":
		remedy = "create the schema of the URL's search_path, and give the role USAGE and CREATE on it"
	case code == "42P01":
		remedy = "the database has no tables of skiff: check the database and the search_path of the store's URL; a server makes them when it starts"
	case code == "42501":
		remedy = "give the role CREATE on the schema, or have its owner make the tables"
	case code == "25006":
		remedy = "the server is a standby: name the primary, or add target_session_attrs=read-write to the URL"
	default:
		return err
	}
	return fmt.Errorf("%s: %w", remedy, err)
}

func unavailable(err error) error {
	err = explain(err)
	if errors.Is(err, kine.ErrNoSpace) || errors.Is(err, kine.ErrUnavailable) {
		return err
	}
	return fmt.Errorf("%w: %w", kine.ErrUnavailable, err)
}

// readError is the error of a read: the caller's end, or the database's.
func readError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return unavailable(err)
}
