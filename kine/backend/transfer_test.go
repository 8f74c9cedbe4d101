package backend

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"skiff/kine"
	"skiff/kine/etcd/etcdtest"
	"skiff/kine/kinetest"
	"skiff/kine/postgres/pgtest"
	"skiff/kine/transfer"
)

// open runs the store at an address.
func open(t *testing.T, address string) (kine.Store, func()) {
	t.Helper()
	s, err := New(address, Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return s, kinetest.Start(t, s)
}

// move is one transfer between addresses.
func move(t *testing.T, from, to string, gap int64, change func(transfer.Target) transfer.Target) (transfer.Report, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	o := Options{Log: slog.New(slog.DiscardHandler)}
	src, err := Source(ctx, from, o)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	dst, err := Target(to, o)
	if err != nil {
		t.Fatal(err)
	}
	defer dst.Close()
	if change != nil {
		dst = change(dst)
	}
	return transfer.Run(ctx, src, dst, transfer.Options{From: Redact(from), Gap: gap})
}

// fill makes keys with a past, a lease, an empty value, two keys of one revision,
// and one that is gone.
func fill(t *testing.T, s kine.Store) {
	t.Helper()
	ctx := context.Background()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err := s.Grant(ctx, 7777, 3600)
	check(err)
	for i := range 60 {
		lease := int64(0)
		if i%10 == 0 {
			lease = 7777
		}
		rev, err := s.Create(ctx, fmt.Sprintf("/registry/pods/%02d", i), []byte(strings.Repeat("v", i)), lease)
		check(err)
		if i%3 == 0 {
			_, err = s.Update(ctx, fmt.Sprintf("/registry/pods/%02d", i), fmt.Append(nil, "k8s\x00", i), rev, lease)
			check(err)
		}
	}
	_, err = s.Txn(ctx, kine.Txn{Success: []kine.Op{
		{Type: kine.OpPut, Range: kine.Range{Start: "/registry/a"}, Value: []byte("1")},
		{Type: kine.OpPut, Range: kine.Range{Start: "/registry/b"}, Value: []byte("2")},
	}})
	check(err)
	_, err = s.Txn(ctx, kine.Txn{Success: []kine.Op{{Type: kine.OpPut, Range: kine.Range{Start: "/registry/a"}, Value: []byte("3")}}})
	check(err)
	_, _, err = s.Delete(ctx, "/registry/pods/07", 0)
	check(err)
}

func state(t *testing.T, s kine.Store) map[string]kine.KeyValue {
	t.Helper()
	res, err := s.List(context.Background(), kine.PrefixRange("/registry/"), kine.ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]kine.KeyValue{}
	for _, kv := range res.KVs {
		out[kv.Key] = kv
	}
	return out
}

// Every store's state can be moved to every other one. The path of each case
// goes over several.
//
// Covers: store.migrate
func TestMoves(t *testing.T) {
	pg := pgtest.Start(t)
	file := func(scheme string) func(*testing.T) string {
		return func(t *testing.T) string { return scheme + "://" + filepath.Join(t.TempDir(), "state.db") }
	}
	sqlite, k3s, snapshot := file("sqlite"), file(kineScheme), file(snapshotScheme)
	postgres := func(t *testing.T) string { return pg.Database(t) }
	k3sPostgres := func(t *testing.T) string { return "kine-" + pg.Database(t) }
	etcd := func(t *testing.T) string { return etcdtest.Start(t) }
	for _, c := range []struct {
		name string
		path []func(*testing.T) string
		// kept tells that the keys' revisions survive the whole path.
		kept bool
	}{
		{"sqlite to postgres and back", []func(*testing.T) string{sqlite, postgres, sqlite}, true},
		{"sqlite to etcd and back", []func(*testing.T) string{sqlite, etcd, sqlite}, false},
		{"postgres to etcd and back", []func(*testing.T) string{postgres, etcd, postgres}, false},
		{"sqlite to k3s and back", []func(*testing.T) string{sqlite, k3s, sqlite}, false},
		{"postgres to k3s' postgres and back", []func(*testing.T) string{postgres, k3sPostgres, postgres}, false},
		{"sqlite to k3s' postgres to k3s' sqlite and back", []func(*testing.T) string{sqlite, k3sPostgres, k3s, sqlite}, false},
		{"etcd to k3s to postgres", []func(*testing.T) string{etcd, k3s, postgres}, false},
		{"sqlite to a snapshot and back", []func(*testing.T) string{sqlite, snapshot, sqlite}, true},
		{"postgres to a snapshot to etcd", []func(*testing.T) string{postgres, snapshot, etcd}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			at := c.path[0](t)
			s, stop := open(t, at)
			fill(t, s)
			want := state(t, s)
			seen, err := s.Revision(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			stop()
			for _, next := range c.path[1:] {
				to := next(t)
				report, err := move(t, at, to, 100, nil)
				if err != nil {
					t.Fatalf("%s to %s: %v", at, to, err)
				}
				if report.Keys != int64(len(want)) {
					t.Fatalf("%s to %s: %d keys, want %d", at, to, report.Keys, len(want))
				}
				if _, err := move(t, at, to, 100, nil); !errors.Is(err, transfer.ErrNotEmpty) {
					t.Errorf("a second move to %s: %v, want that it is not empty", to, err)
				}
				at = to
			}
			s, _ = open(t, at)
			got := state(t, s)
			if len(got) != len(want) {
				t.Fatalf("%d keys, want %d", len(got), len(want))
			}
			for key, w := range want {
				g := got[key]
				if string(g.Value) != string(w.Value) || (g.Lease != 0) != (w.Lease != 0) {
					t.Errorf("%s is %+v, was %+v", key, g, w)
				}
				if g.Value, w.Value = nil, nil; c.kept && (g.ModRevision != w.ModRevision || g.CreateRevision != w.CreateRevision || g.Version != w.Version) {
					t.Errorf("%s is %+v, was %+v", key, g, w)
				}
			}
			neverBack(t, s, seen)
		})
	}
}

// k3s' kine removes the row that a later one names as the one before it: no row of a move
// may name another key's, as one of two keys of a transaction does when it has changed.
func TestNoRowOfK3sNamesAnother(t *testing.T) {
	from := "sqlite://" + filepath.Join(t.TempDir(), "from.db")
	s, stop := open(t, from)
	fill(t, s)
	stop()
	file, database := filepath.Join(t.TempDir(), "state.db"), pgtest.Start(t).Database(t)
	for _, c := range []struct{ driver, name, address string }{
		{"sqlite", file, kineScheme + "://" + file},
		{"postgres", database, "kine-" + database},
	} {
		t.Run(c.driver, func(t *testing.T) {
			if _, err := move(t, from, c.address, 100, nil); err != nil {
				t.Fatal(err)
			}
			db, err := sql.Open(c.driver, c.name)
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			var rows, named int
			if err := db.QueryRow("SELECT (SELECT count(*) FROM kine), (SELECT count(*) FROM kine a JOIN kine b ON a.prev_revision = b.id)").Scan(&rows, &named); err != nil {
				t.Fatal(err)
			}
			if rows != 62 || named != 0 {
				t.Errorf("of %d rows %d name another; want 62 and none", rows, named)
			}
		})
	}
}

// neverBack checks that no client that has seen a revision sees one of before, and
// that one which goes on from there is told to list again.
func neverBack(t *testing.T, s kine.Store, seen int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	rev, err := s.Create(ctx, "/registry/after", nil, 0)
	if err != nil || rev <= seen {
		t.Errorf("the next write is at %d, %v; clients have seen %d", rev, err, seen)
	}
	w, err := s.Watch(ctx, kine.PrefixRange("/registry/"), kine.WatchOptions{Revision: seen})
	if err == nil {
		for range w.Responses() {
			t.Error("a watch from before the move got events")
		}
		err = w.Err()
	}
	if !errors.Is(err, kine.ErrCompacted) {
		t.Errorf("a watch from before the move: %v, want compacted", err)
	}
}

// interrupted fails after some writes, as a process that is killed does.
type interrupted struct {
	transfer.Target
	left int
}

func (i *interrupted) Apply(ctx context.Context, puts []kine.KeyValue, deletes []string) error {
	if i.left--; i.left < 0 {
		return errors.New("interrupted")
	}
	return i.Target.Apply(ctx, puts, deletes)
}

// A transfer that was interrupted goes on, also when the source has changed, and
// until its end the target is no store.
func TestMoveGoesOn(t *testing.T) {
	ctx := context.Background()
	pg := pgtest.Start(t)
	for _, c := range []struct{ name, to string }{
		{"to sqlite", "sqlite://" + filepath.Join(t.TempDir(), "state.db")},
		{"to postgres", pg.Database(t)},
		{"to etcd", etcdtest.Start(t)},
		{"to k3s", kineScheme + "://" + filepath.Join(t.TempDir(), "state.db")},
		{"to k3s' postgres", "kine-" + pg.Database(t)},
	} {
		t.Run(c.name, func(t *testing.T) {
			from := "sqlite://" + filepath.Join(t.TempDir(), "from.db")
			s, _ := open(t, from)
			for i := range 1500 {
				if _, err := s.Create(ctx, fmt.Sprintf("/registry/n/%04d", i), []byte("old"), 0); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := move(t, from, c.to, 1000, func(dst transfer.Target) transfer.Target { return &interrupted{dst, 2} }); err == nil {
				t.Fatal("the move was not interrupted")
			}
			if !strings.HasPrefix(c.to, "http") {
				if _, err := Source(ctx, c.to, Options{}); err == nil {
					t.Error("an unfinished target is taken for a store")
				}
			}
			// The source goes on: a key changes, one goes, one comes.
			kv := state(t, s)["/registry/n/0003"]
			if _, err := s.Update(ctx, kv.Key, []byte("new"), kv.ModRevision, 0); err != nil {
				t.Fatal(err)
			}
			if _, _, err := s.Delete(ctx, "/registry/n/0005", 0); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Create(ctx, "/registry/m", []byte("x"), 0); err != nil {
				t.Fatal(err)
			}
			other := "sqlite://" + filepath.Join(t.TempDir(), "other.db")
			open(t, other)
			if _, err := move(t, other, c.to, 0, nil); !errors.Is(err, transfer.ErrNotEmpty) {
				t.Errorf("a move from elsewhere: %v, want that the target is not empty", err)
			}
			report, err := move(t, from, c.to, 1000, nil)
			if err != nil {
				t.Fatal(err)
			}
			if report.Keys != 1500 || report.Written > 600 || report.Removed != 1 {
				t.Errorf("%+v; want 1500 keys, of which the last third and the changed ones are written, and one removed", report)
			}
		})
	}
}

// lossy loses a key, as a bug would.
type lossy struct{ transfer.Target }

func (l *lossy) Apply(ctx context.Context, puts []kine.KeyValue, deletes []string) error {
	return l.Target.Apply(ctx, puts[1:], deletes)
}

func (l *lossy) Keys(ctx context.Context) iter.Seq2[kine.KeyValue, error] { return l.Target.Keys(ctx) }

func TestMoveThatLosesIsNotFinished(t *testing.T) {
	from, to := "sqlite://"+filepath.Join(t.TempDir(), "from.db"), "sqlite://"+filepath.Join(t.TempDir(), "to.db")
	s, _ := open(t, from)
	fill(t, s)
	_, err := move(t, from, to, 0, func(dst transfer.Target) transfer.Target { return &lossy{dst} })
	if err == nil || !strings.Contains(err.Error(), "nothing was put in use") {
		t.Fatalf("got %v, want that the checksums differ", err)
	}
	if _, err := Source(context.Background(), to, Options{}); err == nil {
		t.Error("the target is a store")
	}
}

// A SQLite file that nobody else holds cannot change, so its revision need not
// move on by the gap.
func TestQuietSource(t *testing.T) {
	from, to := "sqlite://"+filepath.Join(t.TempDir(), "from.db"), "sqlite://"+filepath.Join(t.TempDir(), "to.db")
	s, stop := open(t, from)
	fill(t, s)
	seen, err := s.Revision(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	busy, err := move(t, from, "sqlite://"+filepath.Join(t.TempDir(), "busy.db"), -1, nil)
	if err != nil || busy.Revision != seen+transfer.Gap+1 {
		t.Errorf("from a store in use: %+v, %v", busy, err)
	}
	stop()
	quiet, err := move(t, from, to, -1, nil)
	if err != nil || quiet.Revision != seen+1 {
		t.Errorf("from a store that nobody uses: %+v, %v; it was at %d", quiet, err, seen)
	}
}
