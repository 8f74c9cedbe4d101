package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/lib/pq"

	"skiff/kine"
	"skiff/kine/kinetest"
	"skiff/kine/postgres/pgtest"
)

// What is missing is told with its remedy.
func TestWhatIsMissing(t *testing.T) {
	t.Parallel()
	_, noTables := Inspect(context.Background(), pgtest.Start(t).Database(t), slog.New(slog.DiscardHandler))
	for _, c := range []struct {
		name, want string
		err        error
	}{
		{"tables", "check the database and the search_path", noTables},
		{"TLS", "add sslmode=disable", explain(fmt.Errorf("connect: %w", pq.ErrSSLNotSupported))},
	} {
		if c.err == nil || !strings.Contains(c.err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, c.err, c.want)
		}
	}
}

// What the database refuses is told with its remedy and without the password, and
// tried again: when the cause goes the store serves by itself.
//
// Covers: store.credentials
func TestRefused(t *testing.T) {
	t.Parallel()
	db := pgtest.Start(t)
	db.Exec(t, "CREATE SCHEMA plain", "CREATE SCHEMA newer", "CREATE ROLE reader LOGIN", "CREATE SCHEMA unfinished")
	for _, c := range []struct {
		name, url, want string
		// repair makes it right; empty where only a restart does.
		repair []string
	}{
		{"unknown role", db.As("ghost", "postgres", "plain"), "check user and password in the store's URL", []string{"CREATE ROLE ghost LOGIN", "GRANT ALL ON SCHEMA plain TO ghost"}},
		{"unknown database", db.As("postgres", "ghosts", "public"), "create the database of the store's URL", []string{"CREATE DATABASE ghosts"}},
		{"role without rights", db.As("reader", "postgres", "plain"), "give the role USAGE and CREATE on it", []string{"GRANT ALL ON SCHEMA plain TO reader", "DROP TABLE IF EXISTS plain.skiff_schema, plain.skiff_meta, plain.skiff_cleaner, plain.skiff_log, plain.skiff_current, plain.skiff_lease, plain.skiff_moment"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStore(t, c.url)
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan error, 1)
			go func() { done <- s.Run(ctx) }()
			defer func() {
				cancel()
				if err := <-done; err != nil {
					t.Error(err)
				}
			}()
			var err error
			kinetest.Eventually(t, "the store says why it does not serve", func() bool {
				short, stop := context.WithTimeout(ctx, 20*time.Millisecond)
				defer stop()
				_, err = s.Revision(short)
				return errors.Is(err, kine.ErrUnavailable)
			})
			if !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "secret") {
				t.Errorf("got %v, want %q and no password", err, c.want)
			}
			db.Exec(t, c.repair...)
			kinetest.Eventually(t, "the store serves once it can", func() bool {
				short, stop := context.WithTimeout(ctx, 100*time.Millisecond)
				defer stop()
				_, err := s.Create(short, "/a", nil, 0)
				return err == nil || errors.Is(err, kine.ErrKeyExists)
			})
		})
	}
	t.Run("newer schema", func(t *testing.T) {
		url := db.As("postgres", "postgres", "newer")
		kinetest.Start(t, newStore(t, url))()
		db.Exec(t, fmt.Sprintf("UPDATE newer.skiff_schema SET version = %d", len(migrations)+1))
		err := newStore(t, url).Run(context.Background())
		if err == nil || !strings.Contains(err.Error(), "written by a newer skiff") {
			t.Errorf("got %v, want that it is refused", err)
		}
	})
	t.Run("unfinished transfer", func(t *testing.T) {
		url := db.As("postgres", "postgres", "unfinished")
		kinetest.Start(t, newStore(t, url))()
		db.Exec(t, "UPDATE unfinished.skiff_meta SET source = 'sqlite:///old.db'")
		s := newStore(t, url)
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		defer func() { cancel(); <-done }()
		kinetest.Eventually(t, "the store says that a transfer is not finished", func() bool {
			short, stop := context.WithTimeout(ctx, 20*time.Millisecond)
			defer stop()
			_, err := s.Revision(short)
			return err != nil && strings.Contains(err.Error(), "unfinished transfer from sqlite:///old.db")
		})
	})
}

// The role needs a schema that it may create tables in, and nothing else.
func TestLeastPrivilege(t *testing.T) {
	t.Parallel()
	db := pgtest.Start(t)
	db.Exec(t, "CREATE ROLE skiff LOGIN", "CREATE SCHEMA own AUTHORIZATION skiff", "REVOKE ALL ON SCHEMA public FROM PUBLIC", "REVOKE TEMPORARY ON DATABASE postgres FROM PUBLIC")
	url := db.As("skiff", "postgres", "own")
	kinetest.Restart(t, func(t *testing.T) kine.Runner { return newStore(t, url) })
}

// A database that answers and takes no writes, as one whose disk is full: the store says
// why, and that it is over though nobody writes.
//
// Covers: store.disk-fails
func TestDatabaseThatOnlyReads(t *testing.T) {
	t.Parallel()
	db := pgtest.Start(t)
	db.Exec(t, "CREATE ROLE skiff LOGIN", "CREATE SCHEMA own AUTHORIZATION skiff")
	s := newStore(t, db.As("skiff", "postgres", "own"))
	kinetest.Start(t, s)
	ctx := t.Context()
	if _, err := s.Create(ctx, "/a", nil, 0); err != nil {
		t.Fatal(err)
	}
	db.Exec(t, "REVOKE UPDATE ON own.skiff_meta FROM skiff")
	if _, err := s.Create(ctx, "/b", nil, 0); err == nil {
		t.Fatal("a write that the database refuses is acknowledged")
	}
	if err := s.Probe(ctx); !errors.Is(err, kine.ErrUnavailable) || !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("the store says %v of itself, want the database's reason", err)
	}
	if res, err := s.Get(ctx, "/a", kine.ReadOptions{}); err != nil || len(res.KVs) != 1 {
		t.Errorf("a read: %v, %v", res.KVs, err)
	}
	db.Exec(t, "GRANT UPDATE ON own.skiff_meta TO skiff")
	kinetest.Eventually(t, "the store is well again, though nobody writes", func() bool { return s.Probe(ctx) == nil })
	if _, err := s.Create(ctx, "/b", nil, 0); err != nil {
		t.Error(err)
	}
}
