package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"skiff/kine"
	"skiff/kine/history"
	"skiff/kine/kinetest"
)

func keeping(t *testing.T, path string, keep history.Retention) *Store {
	t.Helper()
	s, err := New(Config{Path: path, Keep: keep, CompactInterval: 10 * time.Millisecond, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Covers: store.history
func TestHistory(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	kinetest.History(t, func(t *testing.T, keep history.Retention) kine.Runner { return keeping(t, path, keep) })
}

// The history yields to its bound, and so to the quota: it never makes the store
// refuse writes.
func TestHistoryYieldsToItsBound(t *testing.T) {
	ctx := context.Background()
	s := keeping(t, filepath.Join(t.TempDir(), "state.db"), history.Retention{Window: time.Hour, Bytes: 4 << 20})
	kinetest.Start(t, s)
	var rev int64
	for i := range 400 {
		key := fmt.Sprintf("/k/%d", i%10)
		res, err := s.Txn(ctx, kine.Txn{Success: []kine.Op{{Type: kine.OpPut, Range: kine.Range{Start: key}, Value: make([]byte, 50_000)}}})
		if err != nil {
			t.Fatal(err)
		}
		rev = res.Revision
	}
	if err := s.Compact(ctx, rev); err != nil {
		t.Fatal(err)
	}
	kinetest.Eventually(t, "the store is within the bound of its history", func() bool {
		u := &s.usage
		return s.oldest.Load() > 0 && u.size.Load()-u.freePages.Load()*u.pageSize.Load() < 4<<20
	})
	if oldest := s.oldest.Load(); oldest == 0 || oldest > rev {
		t.Errorf("the history begins at %d of %d", oldest, rev)
	}
	if res, err := s.Count(ctx, kine.PrefixRange("/k/"), kine.ReadOptions{}); err != nil || res.Count != 10 {
		t.Errorf("%d keys, %v", res.Count, err)
	}
}

// A change is kept for the window; the times of revisions are noted.
func TestHistoryEndsWithItsWindow(t *testing.T) {
	ctx := context.Background()
	s, err := New(Config{
		Path: filepath.Join(t.TempDir(), "state.db"), Keep: history.Retention{Window: time.Second},
		HistoryWindow: time.Millisecond, CompactInterval: 10 * time.Millisecond, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	kinetest.Start(t, s)
	began := time.Now().Add(-time.Second)
	first := create(t, s, "/a", "1")
	if _, err := s.Update(ctx, "/a", []byte("2"), first, 0); err != nil {
		t.Fatal(err)
	}
	log, err := s.Past(ctx)
	if err != nil {
		t.Fatal(err)
	}
	kinetest.Eventually(t, "the change has a time", func() bool {
		changes, err := history.Changes(ctx, log, "/a")
		if err != nil {
			t.Fatal(err)
		}
		return len(changes) == 2 && changes[1].At.After(began) && changes[1].At.Before(time.Now().Add(time.Second))
	})
	kinetest.Eventually(t, "the old version is gone", func() bool {
		create(t, s, fmt.Sprintf("/n/%d", time.Now().UnixNano()), "") // time goes by revisions
		changes, err := history.Changes(ctx, log, "/a")
		if err != nil {
			t.Fatal(err)
		}
		return len(changes) == 1 && string(changes[0].KV.Value) == "2"
	})
}

// A file that the first version of the schema wrote is brought to this one.
func TestUpgradeOfTheSchema(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	s := newStore(t, path)
	stop := kinetest.Start(t, s)
	rev := create(t, s, "/a", "1")
	stop()
	db, err := sql.Open("sqlite", dsn(path, false))
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"DROP TABLE moment", "DELETE FROM meta WHERE name IN ('oldest', 'thinned')", "PRAGMA user_version=1"} {
		if _, err := db.Exec(text); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	s = keeping(t, path, history.Retention{Window: time.Hour})
	kinetest.Start(t, s)
	log, err := s.Past(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	changes, err := history.Changes(context.Background(), log, "/a")
	if err != nil || len(changes) != 1 || changes[0].Revision != rev {
		t.Errorf("after the upgrade: %+v, %v", changes, err)
	}
}

// A clock that jumps moves neither the protocol's window nor a revision. It can
// cost history, never more.
//
// Covers: store.clock
func TestHistoryAndAClockThatJumps(t *testing.T) {
	ctx := context.Background()
	s, err := New(Config{Path: filepath.Join(t.TempDir(), "state.db"), Keep: history.Retention{Window: time.Hour}, CompactInterval: time.Hour, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	kinetest.Start(t, s)
	first := create(t, s, "/a", "1")
	second, err := s.Update(ctx, "/a", []byte("2"), first, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, jump := range []time.Duration{0, -10 * 365 * 24 * time.Hour, 10 * 365 * 24 * time.Hour} {
		revision := create(t, s, "/at/"+jump.String(), "")
		if err := s.moveHistory(ctx, time.Now().Add(jump), revision, true); err != nil {
			t.Fatal(err)
		}
		if got, err := s.Get(ctx, "/a", kine.ReadOptions{Revision: second - 1}); err != nil || string(got.KVs[0].Value) != "1" {
			t.Fatalf("after a jump by %v the protocol reads %v, %v", jump, got.KVs, err)
		}
		if rev, err := s.Revision(ctx); err != nil || rev != revision {
			t.Fatalf("after a jump by %v the revision is %d, %v", jump, rev, err)
		}
	}
	if _, compact := s.index.Revisions(); s.oldest.Load() > compact {
		t.Errorf("the history begins at %d, above what the protocol reads", s.oldest.Load())
	}
}
