package postgres

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"skiff/kine"
	"skiff/kine/history"
	"skiff/kine/kinetest"
	"skiff/kine/postgres/pgtest"
)

func newStore(t testing.TB, url string) *Store {
	t.Helper()
	s, err := New(Config{URL: url, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Covers: store.contract, store.linearizable
func TestPostgres(t *testing.T) {
	server := pgtest.Start(t)
	t.Run("contract", func(t *testing.T) {
		kinetest.Run(t, func(t *testing.T) kine.Store {
			s := newStore(t, server.Database(t))
			kinetest.Start(t, s)
			return s
		})
	})
	t.Run("restart", func(t *testing.T) {
		url := server.Database(t)
		kinetest.Restart(t, func(t *testing.T) kine.Runner { return newStore(t, url) })
	})
	t.Run("history", func(t *testing.T) {
		url := server.Database(t)
		kinetest.History(t, func(t *testing.T, keep history.Retention) kine.Runner {
			s, err := New(Config{URL: url, Keep: keep, CompactInterval: 20 * time.Millisecond, Log: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			return s
		})
	})
	t.Run("history yields to its bound", func(t *testing.T) { bounded(t, server.Database(t)) })
	t.Run("quota", func(t *testing.T) {
		kinetest.Quota(t, func(t *testing.T) (kine.Store, func()) {
			s, err := New(Config{URL: server.Database(t), QuotaBytes: 2 << 20, Log: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			kinetest.Start(t, s)
			return s, func() {
				s.measure(t.Context())
				for left := int64(1); left > 0; {
					if left, err = s.cleanStep(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				s.measureUsed(t.Context())
			}
		})
	})
	t.Run("two servers", func(t *testing.T) { twoServers(t, server.Database(t)) })
	t.Run("cleaning", func(t *testing.T) { cleaning(t, server.Database(t)) })
	t.Run("database that lost writes", func(t *testing.T) { wentBack(t, server.Database(t)) })
	t.Run("linearizable with lost connections", func(t *testing.T) {
		s := newStore(t, server.Database(t))
		kinetest.Start(t, s)
		kinetest.Faults(t, s, func() { server.CutConnections(t) })
	})
	t.Run("killed process", func(t *testing.T) { killed(t, server) })
	t.Run("lost connections", func(t *testing.T) { lostConnections(t, server) })
}

// twoServers share a database: both see every write once and in order.
func twoServers(t *testing.T, url string) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var stores [2]*Store
	for i := range stores {
		stores[i] = newStore(t, url)
		kinetest.Start(t, stores[i])
	}
	var watchers [2]kine.Watcher
	for i, s := range stores {
		w, err := s.Watch(ctx, kine.PrefixRange("/n/"), kine.WatchOptions{PrevKV: i == 1})
		if err != nil {
			t.Fatal(err)
		}
		watchers[i] = w
	}
	const each = 40
	if _, err := stores[0].Create(ctx, "/n/counter", []byte("0"), 0); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() { count(t, ctx, stores[i%2], each) })
	}
	wg.Wait()
	for i, s := range stores {
		res, err := s.Get(ctx, "/n/counter", kine.ReadOptions{})
		if err != nil || string(res.KVs[0].Value) != fmt.Sprint(8*each) {
			t.Fatalf("store %d: the counter is %v, %v; want %d", i, res.KVs, err, 8*each)
		}
		last, n := int64(0), 0
		for n <= 8*each {
			resp, ok := <-watchers[i].Responses()
			if !ok {
				t.Fatalf("watcher %d ended after %d events: %v", i, n, watchers[i].Err())
			}
			for _, e := range resp.Events {
				if string(e.KV.Value) != fmt.Sprint(n) || e.KV.ModRevision <= last {
					t.Fatalf("watcher %d: event %d is %s at %d after %d", i, n, e.KV.Value, e.KV.ModRevision, last)
				}
				if i == 1 && n > 0 && (e.PrevKV == nil || string(e.PrevKV.Value) != fmt.Sprint(n-1)) {
					t.Fatalf("watcher %d: event %d has the previous key %+v", i, n, e.PrevKV)
				}
				last = e.KV.ModRevision
				n++
			}
		}
	}
	// What one server acknowledged the other one reads, and a watch from now on
	// does not repeat it.
	for i := range 20 {
		key := fmt.Sprintf("/m/%d", i)
		rev, err := stores[i%2].Create(ctx, key, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		other := stores[(i+1)%2]
		res, err := other.Get(ctx, key, kine.ReadOptions{})
		if err != nil || len(res.KVs) != 1 || res.Revision < rev {
			t.Fatalf("the other server reads %+v, %v after a write at %d", res, err, rev)
		}
	}
}

func count(t *testing.T, ctx context.Context, s kine.Store, n int) {
	for range n {
		for {
			res, err := s.Get(ctx, "/n/counter", kine.ReadOptions{})
			if err != nil {
				t.Error(err)
				return
			}
			var v int
			if _, err := fmt.Sscan(string(res.KVs[0].Value), &v); err != nil {
				t.Error(err)
				return
			}
			_, err = s.Update(ctx, "/n/counter", fmt.Append(nil, v+1), res.KVs[0].ModRevision, 0)
			if err == nil {
				break
			}
			if !errors.Is(err, kine.ErrConflict) {
				t.Error(err)
				return
			}
		}
	}
}

func cleaning(t *testing.T, url string) {
	ctx := context.Background()
	s := newStore(t, url)
	kinetest.Start(t, s)
	rev, err := s.Create(ctx, "/a", nil, 0)
	for range 20 {
		if err == nil {
			rev, err = s.Update(ctx, "/a", nil, rev, 0)
		}
	}
	if err == nil {
		_, err = s.Create(ctx, "/gone", nil, 0)
	}
	if err == nil {
		_, _, err = s.Delete(ctx, "/gone", 0)
	}
	if err == nil {
		rev, err = s.Create(ctx, "/b", nil, 0)
	}
	if err == nil {
		err = s.Compact(ctx, rev)
	}
	if err != nil {
		t.Fatal(err)
	}
	kinetest.Eventually(t, "the newest rows of /a and /b alone are left", func() bool {
		var n int
		if err := s.readers.QueryRow(`SELECT count(*) FROM skiff_log`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n == 2
	})
}

// bounded is a store whose history must make room.
func bounded(t *testing.T, url string) {
	ctx := context.Background()
	s, err := New(Config{URL: url, Keep: history.Retention{Window: time.Hour, Bytes: 2 << 20}, CompactInterval: 20 * time.Millisecond, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	kinetest.Start(t, s)
	var rev int64
	value := make([]byte, 50_000)
	for i := range 200 {
		rand.Read(value) // it does not compress
		res, err := s.Txn(ctx, kine.Txn{Success: []kine.Op{{Type: kine.OpPut, Range: kine.Range{Start: fmt.Sprintf("/k/%d", i%10)}, Value: value}}})
		if err != nil {
			t.Fatal(err)
		}
		rev = res.Revision
	}
	if err := s.Compact(ctx, rev); err != nil {
		t.Fatal(err)
	}
	kinetest.Eventually(t, "the rows are within the bound of the history", func() bool {
		var bytes int64
		if err := s.readers.QueryRow(`SELECT sum(` + rowBytes + `)::bigint FROM skiff_log`).Scan(&bytes); err != nil {
			t.Fatal(err)
		}
		return bytes < 2<<20
	})
	if res, err := s.Count(ctx, kine.PrefixRange("/k/"), kine.ReadOptions{}); err != nil || res.Count != 10 {
		t.Errorf("%d keys, %v", res.Count, err)
	}
}

// wentBack is a failover to a standby that lagged.
func wentBack(t *testing.T, url string) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	s := newStore(t, url)
	kinetest.Start(t, s)
	var rev int64
	for i := range 5 {
		var err error
		if rev, err = s.Create(ctx, fmt.Sprintf("/k/%d", i), nil, 0); err != nil {
			t.Fatal(err)
		}
	}
	w, err := s.Watch(ctx, kine.PrefixRange("/k/"), kine.WatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		`DELETE FROM skiff_current WHERE key = '/k/4'`,
		fmt.Sprintf(`DELETE FROM skiff_log WHERE pos >= %d`, rev<<20),
		`UPDATE skiff_meta SET revision = revision - 1`,
	} {
		if _, err := s.readers.Exec(text); err != nil {
			t.Fatal(err)
		}
	}
	// Neither a read nor a write shows the lower revision.
	if got, err := s.Revision(ctx); err != nil || got <= rev {
		t.Errorf("revision %d, %v after the failover; want one above %d", got, err, rev)
	}
	for range w.Responses() {
	}
	if !errors.Is(w.Err(), kine.ErrCompacted) {
		t.Errorf("the watch ended with %v, want compacted", w.Err())
	}
	res, err := s.List(ctx, kine.PrefixRange("/k/"), kine.ReadOptions{})
	if err != nil || len(res.KVs) != 4 || res.Revision <= rev {
		t.Errorf("after the failover: %d keys at %d, %v; want 4 above %d", len(res.KVs), res.Revision, err, rev)
	}
}

const killURL = "SKIFF_POSTGRES_TEST_URL"

// TestKilledWriter is the child of the test of a killed process.
//
// Covers: store.kill
func TestKilledWriter(t *testing.T) {
	url := os.Getenv(killURL)
	if url == "" {
		t.Skip("runs as a child of TestPostgres")
	}
	kinetest.Kill(t, nil, func(t *testing.T) kine.Runner { return newStore(t, url) })
}

func killed(t *testing.T, server *pgtest.Server) {
	url := server.Database(t)
	kinetest.KillChild(t, "TestKilledWriter", []string{killURL + "=" + url}, func(t *testing.T) kine.Runner { return newStore(t, url) })
}

// lostConnections ends connections and the whole server under load: no
// acknowledged write is lost, no event is missed, and all goes on by itself.
func lostConnections(t *testing.T, server *pgtest.Server) {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	s := newStore(t, server.Database(t))
	kinetest.Start(t, s)
	w, err := s.Watch(ctx, kine.PrefixRange("/k/"), kine.WatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	write, stopWriting := context.WithCancel(ctx)
	var mu sync.Mutex
	acked := map[string]int64{}
	progress := make(chan struct{}, 1)
	var wg sync.WaitGroup
	for client := range 8 {
		wg.Go(func() {
			for i := 0; write.Err() == nil; i++ {
				key := fmt.Sprintf("/k/%d/%d", client, i)
				rev, err := s.Create(ctx, key, nil, 0)
				switch {
				case err == nil:
					mu.Lock()
					acked[key] = rev
					mu.Unlock()
					select {
					case progress <- struct{}{}:
					default:
					}
				case errors.Is(err, kine.ErrUnavailable), errors.Is(err, kine.ErrUnknownOutcome):
				default:
					t.Errorf("write of %s: %v", key, err)
					return
				}
			}
		})
	}
	some := func() {
		for range 20 {
			select {
			case <-progress:
			case <-ctx.Done():
				t.Error("writes do not go on")
				return
			}
		}
	}
	some()
	server.CutConnections(t)
	some()
	server.Down(t, "immediate")
	server.Up(t)
	some()
	stopWriting()
	wg.Wait()
	res, err := s.List(ctx, kine.PrefixRange("/k/"), kine.ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]int64{}
	for _, kv := range res.KVs {
		have[kv.Key] = kv.ModRevision
	}
	for key, rev := range acked {
		if have[key] != rev {
			t.Errorf("%s was acknowledged at %d; the store has it at %d", key, rev, have[key])
		}
	}
	last := int64(0)
	for n := 0; n < len(have); {
		select {
		case resp, ok := <-w.Responses():
			if !ok {
				t.Fatalf("the watch ended: %v", w.Err())
			}
			for _, e := range resp.Events {
				if e.KV.ModRevision <= last || have[e.KV.Key] != e.KV.ModRevision {
					t.Fatalf("event of %s at %d after %d", e.KV.Key, e.KV.ModRevision, last)
				}
				last = e.KV.ModRevision
				n++
			}
		case <-ctx.Done():
			t.Fatalf("%d of %d events", n, len(have))
		}
	}
}

// Covers: store.credentials
func TestBadURLs(t *testing.T) {
	for _, c := range []struct{ name, url, want string }{
		{"no scheme", "host/db", "want postgres://"},
		{"unreadable", "postgres://u:se%cret@host/db", "it cannot be parsed"},
		{"unknown mode", "postgres://u:secret@host/db?sslmode=often", "sslmode"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := New(Config{URL: c.url})
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "secret") {
				t.Errorf("got %v, want %q and no password", err, c.want)
			}
		})
	}
}
