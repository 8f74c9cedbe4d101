package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"skiff/kine"
	"skiff/kine/group"
	"skiff/kine/kinetest"
	"skiff/kine/mvcc"
)

func newStore(t testing.TB, path string) *Store {
	t.Helper()
	s, err := New(Config{Path: path, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Covers: store.contract, store.linearizable
func TestContract(t *testing.T) {
	kinetest.Run(t, func(t *testing.T) kine.Store {
		s := newStore(t, filepath.Join(t.TempDir(), "state.db"))
		kinetest.Start(t, s)
		return s
	})
}

func create(t *testing.T, s kine.Store, key, value string) int64 {
	t.Helper()
	rev, err := s.Create(context.Background(), key, []byte(value), 0)
	if err != nil {
		t.Fatal(err)
	}
	return rev
}

func TestRestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	kinetest.Restart(t, func(t *testing.T) kine.Runner { return newStore(t, path) })
}

// Covers: store.kill
func TestKilledProcessLosesNothing(t *testing.T) {
	const env = "SKIFF_SQLITE_TEST_DIR"
	dir := os.Getenv(env)
	if dir == "" {
		dir = t.TempDir()
	}
	kinetest.Kill(t, []string{env + "=" + dir}, func(t *testing.T) kine.Runner {
		return newStore(t, filepath.Join(dir, "state.db"))
	})
}

func TestCleaningRemovesOldRows(t *testing.T) {
	ctx := context.Background()
	s := newStore(t, filepath.Join(t.TempDir(), "state.db"))
	kinetest.Start(t, s)
	rev := create(t, s, "/a", "0")
	for i := range 50 {
		var err error
		if rev, err = s.Update(ctx, "/a", fmt.Append(nil, i), rev, 0); err != nil {
			t.Fatal(err)
		}
	}
	create(t, s, "/gone", "x")
	_, _, err := s.Delete(ctx, "/gone", 0)
	if err != nil {
		t.Fatal(err)
	}
	rev = create(t, s, "/b", "x")
	if err := s.Compact(ctx, rev); err != nil {
		t.Fatal(err)
	}
	// Cleaning is the writer's; its step can be run by an operation too.
	w := &writer{s: s}
	err = s.Submit(ctx, &group.Op{Plan: nothing, After: func() {
		for {
			left, err := w.cleanStep(ctx)
			if err != nil {
				t.Error(err)
			}
			if err != nil || left == 0 {
				return
			}
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	var n int
	if err := s.readers.QueryRow("SELECT count(*) FROM log").Scan(&n); err != nil {
		t.Fatal(err)
	}
	if n != 2 {
		t.Errorf("%d rows are left, want the newest of /a and of /b alone", n)
	}
	got, err := s.Get(ctx, "/a", kine.ReadOptions{})
	if err != nil || string(got.KVs[0].Value) != "49" {
		t.Errorf("/a is %v, %v", got.KVs, err)
	}
}

// Covers: store.two-servers, store.corrupt
func TestOpenRefuses(t *testing.T) {
	for _, c := range []struct {
		name, want string
		prepare    func(t *testing.T, path string)
	}{
		{"a second process", "is in use by process", func(t *testing.T, path string) {
			kinetest.Start(t, newStore(t, path))
		}},
		{"a damaged file", "the database is damaged", func(t *testing.T, path string) {
			if err := os.WriteFile(path, []byte(strings.Repeat("not a database ", 1000)), 0o600); err != nil {
				t.Fatal(err)
			}
		}},
		{"a newer schema", "was written by a newer skiff", func(t *testing.T, path string) {
			execSQL(t, path, fmt.Sprintf("PRAGMA user_version=%d; PRAGMA application_id=%d", schemaVersion+1, applicationID))
		}},
		{"another program's database", "is a database of another program", func(t *testing.T, path string) {
			execSQL(t, path, "CREATE TABLE kine (id INTEGER)")
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "state.db")
			c.prepare(t, path)
			s := newStore(t, path)
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			err := s.Run(ctx)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			select {
			case <-s.Ready():
				t.Error("became ready")
			default:
			}
		})
	}
}

func execSQL(t *testing.T, path, text string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(text); err != nil {
		t.Fatal(err)
	}
}

func TestFilesArePrivate(t *testing.T) {
	dir := t.TempDir()
	s := newStore(t, filepath.Join(dir, "store", "state.db"))
	kinetest.Start(t, s)
	create(t, s, "/a", "secret")
	entries, err := os.ReadDir(filepath.Join(dir, "store"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", e.Name(), info.Mode())
		}
	}
}

func nothing(*mvcc.Batch) error { return nil }

// A store under churn stays near its live data: what is compacted is removed
// and the space goes back to the file system.
//
// Covers: store.compaction
func TestChurnStaysBounded(t *testing.T) {
	ctx := context.Background()
	path := filepath.Join(t.TempDir(), "state.db")
	s := newStore(t, path)
	kinetest.Start(t, s)
	const keys, rounds, size = 50, 60, 16 << 10
	for round := range rounds {
		var txn kine.Txn
		for i := range keys {
			txn.Success = append(txn.Success, kine.Op{Type: kine.OpPut, Range: kine.Range{Start: fmt.Sprintf("/churn/%d", i)}, Value: make([]byte, size)})
		}
		res, err := s.Txn(ctx, txn)
		if err != nil {
			t.Fatal(err)
		}
		if round > 0 && round%10 == 0 {
			if err := s.Compact(ctx, res.Revision-1); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := s.Compact(ctx, create(t, s, "/last", "x")); err != nil {
		t.Fatal(err)
	}
	err := s.Submit(ctx, &group.Op{Plan: nothing, After: func() {
		w := &writer{s: s}
		for range 1000 {
			if w.maintain(); w.settled && s.usage.freePages.Load() <= keepFreePages {
				return
			}
		}
		t.Error("the maintenance does not come to an end")
	}})
	if err != nil {
		t.Fatal(err)
	}
	var rows int
	if err := s.readers.QueryRow("SELECT count(*) FROM log").Scan(&rows); err != nil || rows != keys+1 {
		t.Errorf("%d rows, %v; want %d", rows, err, keys+1)
	}
	live := int64(keys * size)
	if got, bound := s.usage.size.Load(), 2*live+(keepFreePages+100)*4096; got > bound {
		t.Errorf("%d bytes on disk for %d live ones after %d were written; want at most %d", got, live, rounds*live, bound)
	}
}

// Covers: store.quota
func TestQuota(t *testing.T) {
	kinetest.Quota(t, func(t *testing.T) (kine.Store, func()) {
		s, err := New(Config{Path: filepath.Join(t.TempDir(), "state.db"), QuotaBytes: 2 << 20, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		kinetest.Start(t, s)
		return s, func() {
			err := s.Submit(context.Background(), &group.Op{Plan: nothing, After: func() {
				w := &writer{s: s}
				for w.maintain(); !w.settled; {
					w.maintain()
				}
			}})
			if err != nil {
				t.Fatal(err)
			}
		}
	})
}
