package etcdserver_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"skiff/kine"
	"skiff/kine/etcd"
	"skiff/kine/etcdserver"
	"skiff/kine/kinetest"
	"skiff/kine/sqlite"
)

// serve runs the face over a new SQLite store and returns its URL.
func serve(t testing.TB) string {
	t.Helper()
	store, err := sqlite.New(sqlite.Config{Path: filepath.Join(t.TempDir(), "state.db"), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	kinetest.Start(t, store)
	return serveStore(t, store)
}

func serveStore(t testing.TB, store kine.Store) string {
	t.Helper()
	s, err := etcdserver.New(etcdserver.Config{Store: store, Listen: []string{"http://127.0.0.1:0"}})
	if err != nil {
		t.Fatal(err)
	}
	run(t, s)
	return "http://" + s.Addrs()[0].String()
}

func run(t testing.TB, s *etcdserver.Server) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	select {
	case <-s.Ready():
	case err := <-done:
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// fullDisk is a store that has no space for puts.
type fullDisk struct{ kine.Store }

func (fullDisk) Probe(context.Context) error {
	return fmt.Errorf("the disk is full: %w", kine.ErrNoSpace)
}

// Covers: store.disk-full
func TestAlarmOfAFullDisk(t *testing.T) {
	store, err := sqlite.New(sqlite.Config{Path: filepath.Join(t.TempDir(), "state.db"), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	kinetest.Start(t, store)
	url := serveStore(t, fullDisk{store})
	c := client(t, url)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	alarms, err := c.AlarmList(ctx)
	if err != nil || len(alarms.Alarms) != 1 || alarms.Alarms[0].Alarm != pb.AlarmType_NOSPACE {
		t.Errorf("alarms %v, %v; want NOSPACE", alarms, err)
	}
	st, err := c.Status(ctx, url)
	if err != nil || len(st.Errors) != 1 {
		t.Errorf("status %v, %v; want the alarm in it", st, err)
	}
}

// The whole contract, through both sides of the protocol.
//
// Covers: store.etcd-face
func TestContractThroughTheFace(t *testing.T) {
	kinetest.Run(t, func(t *testing.T) kine.Store {
		s, err := etcd.New(etcd.Config{Endpoints: []string{serve(t)}, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		kinetest.Start(t, s)
		return s
	})
}

func client(t *testing.T, url string) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{url}, Logger: zap.NewNop(), DialTimeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// Covers: store.etcd-face
func TestRangeShapes(t *testing.T) {
	c := client(t, serve(t))
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var revs []int64
	for _, k := range []string{"b", "a", "c"} {
		resp, err := c.Put(ctx, k, "v"+k)
		if err != nil {
			t.Fatal(err)
		}
		revs = append(revs, resp.Header.Revision)
	}
	for _, tc := range []struct {
		name string
		opts []clientv3.OpOption
		want string
		more bool
	}{
		{"all", nil, "a b c", false},
		{"descending", []clientv3.OpOption{clientv3.WithSort(clientv3.SortByKey, clientv3.SortDescend)}, "c b a", false},
		{"by revision", []clientv3.OpOption{clientv3.WithSort(clientv3.SortByModRevision, clientv3.SortAscend), clientv3.WithLimit(2)}, "b a", true},
		{"newer ones", []clientv3.OpOption{clientv3.WithMinModRev(revs[1])}, "a c", false},
		{"older ones", []clientv3.OpOption{clientv3.WithMaxCreateRev(revs[1])}, "a b", false},
		{"limited", []clientv3.OpOption{clientv3.WithLimit(1)}, "a", true},
		{"at a revision", []clientv3.OpOption{clientv3.WithRev(revs[0])}, "b", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			resp, err := c.Get(ctx, "\x00", append(tc.opts, clientv3.WithFromKey())...)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, kv := range resp.Kvs {
				got = append(got, string(kv.Key))
			}
			if strings.Join(got, " ") != tc.want || resp.More != tc.more {
				t.Errorf("got %v, more %v; want %s, %v", got, resp.More, tc.want, tc.more)
			}
		})
	}
}

// Several watches of one client are told of progress once all have everything.
func TestProgressOfManyWatches(t *testing.T) {
	c := client(t, serve(t))
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	quiet := c.Watch(ctx, "quiet/", clientv3.WithPrefix())
	busy := c.Watch(ctx, "busy/", clientv3.WithPrefix())
	var last int64
	for i := range 10 {
		resp, err := c.Put(ctx, fmt.Sprintf("busy/%d", i), "")
		if err != nil {
			t.Fatal(err)
		}
		last = resp.Header.Revision
	}
	if err := c.RequestProgress(ctx); err != nil {
		t.Fatal(err)
	}
	for n := 0; n < 10; {
		resp := <-busy
		if resp.IsProgressNotify() {
			t.Fatalf("progress at %d after %d of 10 events", resp.Header.Revision, n)
		}
		n += len(resp.Events)
	}
	for name, w := range map[string]clientv3.WatchChan{"busy": busy, "quiet": quiet} {
		if resp := <-w; !resp.IsProgressNotify() || resp.Header.Revision < last {
			t.Errorf("%s: got %+v, want progress at %d", name, resp, last)
		}
	}
}

// Covers: store.etcd-face
func TestMaintenance(t *testing.T) {
	url := serve(t)
	c := client(t, url)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for i := range 30 {
		if _, err := c.Put(ctx, fmt.Sprintf("k%d", i), strings.Repeat("x", 1000)); err != nil {
			t.Fatal(err)
		}
	}
	st, err := c.Status(ctx, url)
	if err != nil || st.Header.Revision != 31 || !strings.HasPrefix(st.Version, "3.") || st.DbSize == 0 {
		t.Errorf("status %+v, %v", st, err)
	}
	members, err := c.MemberList(ctx)
	if err != nil || len(members.Members) != 1 {
		t.Errorf("members %v, %v", members, err)
	}
	alarms, err := c.AlarmList(ctx)
	if err != nil || len(alarms.Alarms) != 0 {
		t.Errorf("alarms %v, %v", alarms, err)
	}
	if _, err := c.Defragment(ctx, url); err != nil {
		t.Error(err)
	}
	before, err := c.HashKV(ctx, url, st.Header.Revision)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Put(ctx, "k1", "changed"); err != nil {
		t.Fatal(err)
	}
	again, err := c.HashKV(ctx, url, st.Header.Revision)
	if err != nil || again.Hash != before.Hash {
		t.Errorf("the hash of a past revision changed: %v, %v", again, err)
	}
	now, err := c.HashKV(ctx, url, 0)
	if err != nil || now.Hash == before.Hash {
		t.Errorf("the hash did not change with the state: %v, %v", now, err)
	}
}

func TestBadConfig(t *testing.T) {
	for _, c := range []struct {
		name, listen, want string
		tls                *tls.Config
	}{
		{"no address", "", "Listen is empty", nil},
		{"unknown scheme", "ftp://host", "want unix://", nil},
		{"https without a certificate", "https://127.0.0.1:0", "needs a certificate", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := etcdserver.Config{TLS: c.tls}
			if c.listen != "" {
				cfg.Listen = []string{c.listen}
			}
			if _, err := etcdserver.New(cfg); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

// A watch that has not begun yet is told nothing: a client goes on from what it was
// told last when its connection breaks.
func TestNoProgressBeforeTheStart(t *testing.T) {
	c := client(t, serve(t))
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	first, err := c.Put(ctx, "k", "0")
	if err != nil {
		t.Fatal(err)
	}
	start := first.Header.Revision + 4
	later := c.Watch(ctx, "k", clientv3.WithRev(start))
	now := c.Watch(ctx, "k", clientv3.WithRev(first.Header.Revision+1))
	for i := range 4 {
		if err := c.RequestProgress(ctx); err != nil {
			t.Fatal(err)
		}
		if resp := <-now; !resp.IsProgressNotify() || resp.Header.Revision < first.Header.Revision+int64(i) {
			t.Fatalf("the other watch of the client got %+v, want progress", resp)
		}
		if _, err := c.Put(ctx, "k", fmt.Sprint(i+1)); err != nil {
			t.Fatal(err)
		}
		if resp := <-now; len(resp.Events) != 1 {
			t.Fatalf("the other watch of the client got %+v, want an event", resp)
		}
		if i >= 2 {
			continue // the next revision is its start: what is before has been
		}
		select {
		case resp := <-later:
			t.Fatalf("the watch from %d was told %+v at revision %d", start, resp, first.Header.Revision+int64(i)+1)
		default:
		}
	}
	for n := 0; n == 0; {
		resp := <-later
		if resp.Header.Revision+1 < start {
			t.Fatalf("the watch from %d was told of revision %d", start, resp.Header.Revision)
		}
		n += len(resp.Events)
	}
}
