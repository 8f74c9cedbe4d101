package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"skiff/kine"
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

func TestRestartKeepsEverything(t *testing.T) {
	ctx := context.Background()
	path := filepath.Join(t.TempDir(), "state.db")
	s := newStore(t, path)
	stop := kinetest.Start(t, s)
	r1 := create(t, s, "/a", "1")
	r2, err := s.Update(ctx, "/a", []byte("2"), r1, 0)
	if err != nil {
		t.Fatal(err)
	}
	create(t, s, "/b", "1")
	if _, _, err := s.Delete(ctx, "/b", 0); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Grant(ctx, 7, 1000); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Create(ctx, "/leased", []byte("x"), 7); err != nil {
		t.Fatal(err)
	}
	if err := s.Compact(ctx, r2); err != nil {
		t.Fatal(err)
	}
	list := func(s *Store, rev int64) kine.ReadResult {
		res, err := s.List(ctx, kine.PrefixRange(""), kine.ReadOptions{Revision: rev})
		if err != nil {
			t.Fatal(err)
		}
		return res
	}
	newest, past := list(s, 0), list(s, r2)
	stop()

	s = newStore(t, path)
	kinetest.Start(t, s)
	if d := cmp.Diff(newest, list(s, 0)); d != "" {
		t.Errorf("newest state (-before +after):\n%s", d)
	}
	if d := cmp.Diff(past, list(s, r2)); d != "" {
		t.Errorf("state at the compact revision (-before +after):\n%s", d)
	}
	if _, err := s.Get(ctx, "/a", kine.ReadOptions{Revision: r1}); !errors.Is(err, kine.ErrCompacted) {
		t.Errorf("below the compact revision: got %v", err)
	}
	l, err := s.TimeToLive(ctx, 7, true)
	if err != nil || len(l.Keys) != 1 || l.Keys[0] != "/leased" {
		t.Errorf("lease after the restart: %+v, %v", l, err)
	}
	if rev := create(t, s, "/c", "1"); rev != newest.Revision+1 {
		t.Errorf("first write after the restart at %d, want %d", rev, newest.Revision+1)
	}
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
	_, rev, err := s.Delete(ctx, "/gone", 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Compact(ctx, rev); err != nil {
		t.Fatal(err)
	}
	// Cleaning is the writer's; its step can be run by an operation too.
	w := &writer{s: s}
	err = s.submit(ctx, &op{plan: nothing, after: func() {
		for more := true; more; {
			var err error
			if more, err = w.cleanStep(ctx); err != nil {
				t.Error(err)
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
	if n != 1 {
		t.Errorf("%d rows are left, want the newest of /a alone", n)
	}
	got, err := s.Get(ctx, "/a", kine.ReadOptions{})
	if err != nil || string(got.KVs[0].Value) != "49" {
		t.Errorf("/a is %v, %v", got.KVs, err)
	}
}

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

func BenchmarkPut(b *testing.B) {
	for _, clients := range []int{1, 16, 256} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			s := newStore(b, filepath.Join(b.TempDir(), "state.db"))
			kinetest.Start(b, s)
			value := make([]byte, 1024)
			b.SetParallelism(max(1, clients/2))
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				id := fmt.Sprintf("/bench/%p", pb)
				for i := 0; pb.Next(); i++ {
					if _, err := s.Create(context.Background(), fmt.Sprintf("%s/%d", id, i), value, 0); err != nil {
						b.Error(err)
						return
					}
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "puts/s")
		})
	}
}

func nothing(*mvcc.Batch) error { return nil }
