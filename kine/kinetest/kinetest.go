// Package kinetest is the contract suite of kine.Store: every backend, and every
// fake, runs it.
package kinetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"skiff/kine"
)

// limit ends a test that waits for something that never comes.
const limit = 20 * time.Second

// Start runs a Runner for a test and waits until it is ready. stop ends it and
// waits; it is called at the test's end too.
func Start(t testing.TB, r kine.Runner) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	select {
	case <-r.Ready():
	case err := <-done:
		cancel()
		t.Fatalf("the store ended before it was ready: %v", err)
	case <-time.After(limit):
		cancel()
		t.Fatal("the store did not become ready")
	}
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("the store ended with: %v", err)
			}
		})
	}
	t.Cleanup(stop)
	return stop
}

// Except are tests of the suite that a store cannot pass, with the reason.
type Except map[string]string

// Run runs the suite. open makes an empty store that ends with the test.
func Run(t *testing.T, open func(t *testing.T) kine.Store, except ...Except) {
	for _, c := range []struct {
		name string
		test func(*testing.T, kine.Store)
	}{
		{"create", testCreate}, {"update", testUpdate}, {"delete", testDelete},
		{"list", testList}, {"past revisions", testPast}, {"compaction", testCompact},
		{"transactions", testTxn}, {"limits", testLimits},
		{"watch", testWatch}, {"watch from the past", testWatchPast}, {"watch of a compacted past", testWatchCompacted},
		{"watch filters", testWatchFilters}, {"watch progress", testWatchProgress}, {"watch keeps a transaction together", testWatchAtomic},
		{"leases", testLeases}, {"concurrent writers", testConcurrent}, {"history is linearizable", testLinearizable},
		{"large values", testLarge}, {"transaction shapes", testTxnShapes}, {"watch from the compact revision", testWatchAtCompact},
		{"watch of many keys at once", testWatchMany}, {"past range", testPastRange}, {"lease of a key changes", testLeaseMoves},
		{"what is refused takes no revision", testRefusedTakeNothing}, {"compacted revision in a transaction", testCompactedInTxn},
		{"key of many versions", testBusyKey}, {"watch from before the compact revision", testWatchBeforeCompact},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, e := range except {
				if reason, ok := e[c.name]; ok {
					t.Skip(reason)
				}
			}
			c.test(t, open(t))
		})
	}
}

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	t.Cleanup(cancel)
	return ctx
}

func must[T any](t *testing.T) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func wantError(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got error %v, want %v", err, want)
	}
}

func wantEqual(t *testing.T, what string, got, want any) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Fatalf("%s (-want +got):\n%s", what, d)
	}
}

func testCreate(t *testing.T, s kine.Store) {
	ctx := testContext(t)
	before := must[int64](t)(s.Revision(ctx))
	rev := must[int64](t)(s.Create(ctx, "/a/1", []byte("one"), 0))
	if rev != before+1 {
		t.Fatalf("revision %d after %d: want the next one", rev, before)
	}
	_, err := s.Create(ctx, "/a/1", []byte("two"), 0)
	wantError(t, err, kine.ErrKeyExists)
	got := must[kine.ReadResult](t)(s.Get(ctx, "/a/1", kine.ReadOptions{}))
	wantEqual(t, "key", got, kine.ReadResult{Revision: rev, Count: 1, KVs: []kine.KeyValue{
		{Key: "/a/1", Value: []byte("one"), CreateRevision: rev, ModRevision: rev, Version: 1}}})
	_, err = s.Create(ctx, "", []byte("x"), 0)
	wantError(t, err, kine.ErrInvalid)
	_, err = s.Create(ctx, "/a/2", nil, 77)
	wantError(t, err, kine.ErrLeaseNotFound)
}

func testUpdate(t *testing.T, s kine.Store) {
	ctx := testContext(t)
	created := must[int64](t)(s.Create(ctx, "/a", []byte("1"), 0))
	updated := must[int64](t)(s.Update(ctx, "/a", []byte("2"), created, 0))
	_, err := s.Update(ctx, "/a", []byte("3"), created, 0)
	wantError(t, err, kine.ErrConflict)
	var conflict *kine.ConflictError
	if !errors.As(err, &conflict) {
		t.Fatalf("got %T, want a *ConflictError", err)
	}
	wantEqual(t, "current", conflict.Current, &kine.KeyValue{Key: "/a", Value: []byte("2"), CreateRevision: created, ModRevision: updated, Version: 2})
	_, err = s.Update(ctx, "/missing", []byte("x"), 5, 0)
	if !errors.As(err, &conflict) || conflict.Current != nil {
		t.Fatalf("update of a missing key: got %v, want a conflict without a current key", err)
	}
}

func testDelete(t *testing.T, s kine.Store) {
	ctx := testContext(t)
	_, _, err := s.Delete(ctx, "/a", 0)
	wantError(t, err, kine.ErrKeyNotFound)
	created := must[int64](t)(s.Create(ctx, "/a", []byte("1"), 0))
	_, _, err = s.Delete(ctx, "/a", created+100)
	wantError(t, err, kine.ErrConflict)
	prev, rev, err := s.Delete(ctx, "/a", created)
	if err != nil {
		t.Fatal(err)
	}
	wantEqual(t, "previous", prev, kine.KeyValue{Key: "/a", Value: []byte("1"), CreateRevision: created, ModRevision: created, Version: 1})
	got := must[kine.ReadResult](t)(s.Get(ctx, "/a", kine.ReadOptions{}))
	wantEqual(t, "after the delete", got, kine.ReadResult{Revision: rev, KVs: []kine.KeyValue{}})
	again := must[int64](t)(s.Create(ctx, "/a", []byte("2"), 0))
	got = must[kine.ReadResult](t)(s.Get(ctx, "/a", kine.ReadOptions{}))
	if kv := got.KVs[0]; kv.CreateRevision != again || kv.Version != 1 {
		t.Fatalf("a key made again has create revision %d and version %d, want %d and 1", kv.CreateRevision, kv.Version, again)
	}
}

func keys(kvs []kine.KeyValue) []string {
	out := make([]string, len(kvs))
	for i := range kvs {
		out[i] = kvs[i].Key
	}
	return out
}

func testList(t *testing.T, s kine.Store) {
	ctx := testContext(t)
	for _, k := range []string{"/p/c", "/p/a", "/p/b", "/q/a", "/p0"} {
		must[int64](t)(s.Create(ctx, k, []byte(k), 0))
	}
	got := must[kine.ReadResult](t)(s.List(ctx, kine.PrefixRange("/p/"), kine.ReadOptions{}))
	wantEqual(t, "keys", keys(got.KVs), []string{"/p/a", "/p/b", "/p/c"})
	for _, kv := range got.KVs {
		wantEqual(t, "value", string(kv.Value), kv.Key)
	}
	got = must[kine.ReadResult](t)(s.List(ctx, kine.PrefixRange("/p/"), kine.ReadOptions{Limit: 2}))
	wantEqual(t, "limited keys", keys(got.KVs), []string{"/p/a", "/p/b"})
	if !got.More || got.Count != 3 {
		t.Fatalf("limited: more %v, count %d; want true, 3", got.More, got.Count)
	}
	got = must[kine.ReadResult](t)(s.List(ctx, kine.Range{Start: "/p/b", End: kine.Unbounded}, kine.ReadOptions{KeysOnly: true}))
	wantEqual(t, "keys from /p/b", keys(got.KVs), []string{"/p/b", "/p/c", "/p0", "/q/a"})
	if got.KVs[0].Value != nil {
		t.Fatal("keys only: got a value")
	}
	count := must[kine.ReadResult](t)(s.Count(ctx, kine.PrefixRange("/p"), kine.ReadOptions{}))
	if count.Count != 4 || count.KVs != nil {
		t.Fatalf("count %d with %d keys, want 4 and none", count.Count, len(count.KVs))
	}
}

func testPast(t *testing.T, s kine.Store) {
	ctx := testContext(t)
	r1 := must[int64](t)(s.Create(ctx, "/a", []byte("1"), 0))
	r2 := must[int64](t)(s.Update(ctx, "/a", []byte("2"), r1, 0))
	_, r3, err := s.Delete(ctx, "/a", r2)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		rev  int64
		want string
	}{{r1, "1"}, {r2, "2"}, {r3, ""}} {
		got := must[kine.ReadResult](t)(s.Get(ctx, "/a", kine.ReadOptions{Revision: c.rev}))
		value := ""
		if len(got.KVs) > 0 {
			value = string(got.KVs[0].Value)
		}
		wantEqual(t, fmt.Sprintf("value at %d", c.rev), value, c.want)
	}
	_, err = s.Get(ctx, "/a", kine.ReadOptions{Revision: r3 + 1})
	wantError(t, err, kine.ErrFutureRevision)
}

func testCompact(t *testing.T, s kine.Store) {
	ctx := testContext(t)
	r1 := must[int64](t)(s.Create(ctx, "/a", []byte("1"), 0))
	r2 := must[int64](t)(s.Update(ctx, "/a", []byte("2"), r1, 0))
	r3 := must[int64](t)(s.Update(ctx, "/a", []byte("3"), r2, 0))
	if err := s.Compact(ctx, r2); err != nil {
		t.Fatal(err)
	}
	_, err := s.Get(ctx, "/a", kine.ReadOptions{Revision: r1})
	wantError(t, err, kine.ErrCompacted)
	got := must[kine.ReadResult](t)(s.Get(ctx, "/a", kine.ReadOptions{Revision: r2}))
	wantEqual(t, "value at the compact revision", string(got.KVs[0].Value), "2")
	wantError(t, s.Compact(ctx, r2), kine.ErrCompacted)
	wantError(t, s.Compact(ctx, r3+100), kine.ErrFutureRevision)
	got = must[kine.ReadResult](t)(s.Get(ctx, "/a", kine.ReadOptions{}))
	wantEqual(t, "newest", string(got.KVs[0].Value), "3")
}

func testTxn(t *testing.T, s kine.Store) {
	ctx := testContext(t)
	put := func(key, value string) kine.Op {
		return kine.Op{Type: kine.OpPut, Range: kine.Range{Start: key}, Value: []byte(value)}
	}
	absent := kine.Compare{Key: "/a", Target: kine.TargetMod, Result: kine.Equal, Number: 0}
	res := must[kine.TxnResult](t)(s.Txn(ctx, kine.Txn{
		Compares: []kine.Compare{absent},
		Success:  []kine.Op{put("/a", "1"), put("/b", "2")},
		Failure:  []kine.Op{{Type: kine.OpRange, Range: kine.Range{Start: "/a"}}},
	}))
	if !res.Succeeded {
		t.Fatal("the first transaction failed")
	}
	a := must[kine.ReadResult](t)(s.Get(ctx, "/a", kine.ReadOptions{})).KVs[0]
	b := must[kine.ReadResult](t)(s.Get(ctx, "/b", kine.ReadOptions{})).KVs[0]
	if a.ModRevision != res.Revision || b.ModRevision != res.Revision {
		t.Fatalf("writes at %d and %d, want both at %d", a.ModRevision, b.ModRevision, res.Revision)
	}
	res = must[kine.TxnResult](t)(s.Txn(ctx, kine.Txn{
		Compares: []kine.Compare{absent},
		Success:  []kine.Op{put("/a", "x")},
		Failure:  []kine.Op{{Type: kine.OpRange, Range: kine.PrefixRange("/")}},
	}))
	if res.Succeeded || len(res.Results) != 1 || len(res.Results[0].Read.KVs) != 2 {
		t.Fatalf("the second transaction: %+v; want the failure branch with two keys", res)
	}
	value := kine.Compare{Key: "/b", Target: kine.TargetValue, Result: kine.Equal, Value: []byte("2")}
	res = must[kine.TxnResult](t)(s.Txn(ctx, kine.Txn{
		Compares: []kine.Compare{value},
		Success: []kine.Op{{Type: kine.OpTxn, Txn: &kine.Txn{
			Success: []kine.Op{{Type: kine.OpDelete, Range: kine.PrefixRange("/"), PrevKV: true}},
		}}},
	}))
	if got := res.Results[0].Txn.Results[0]; got.Deleted != 2 || len(got.PrevKVs) != 2 {
		t.Fatalf("nested delete of the range: %+v; want two keys", got)
	}
	_, err := s.Txn(ctx, kine.Txn{Success: []kine.Op{put("/c", "1"), put("/c", "2")}})
	wantError(t, err, kine.ErrInvalid)
}

func testLimits(t *testing.T, s kine.Store) {
	ctx := testContext(t)
	_, err := s.Create(ctx, "/big", make([]byte, 16<<20), 0)
	wantError(t, err, kine.ErrTooLarge)
	must[int64](t)(s.Create(ctx, "/empty", nil, 0))
	got := must[kine.ReadResult](t)(s.Get(ctx, "/empty", kine.ReadOptions{}))
	if len(got.KVs) != 1 || len(got.KVs[0].Value) != 0 {
		t.Fatalf("an empty value came back as %v", got.KVs)
	}
}

func testLeases(t *testing.T, s kine.Store) {
	ctx := testContext(t)
	_, err := s.KeepAlive(ctx, 12)
	wantError(t, err, kine.ErrLeaseNotFound)
	l := must[kine.Lease](t)(s.Grant(ctx, 12, 100))
	_, err = s.Grant(ctx, 12, 100)
	wantError(t, err, kine.ErrLeaseExists)
	must[int64](t)(s.Create(ctx, "/l/1", []byte("1"), l.ID))
	must[int64](t)(s.Create(ctx, "/l/2", []byte("2"), l.ID))
	got := must[kine.Lease](t)(s.TimeToLive(ctx, l.ID, true))
	wantEqual(t, "keys of the lease", got.Keys, []string{"/l/1", "/l/2"})
	before := must[int64](t)(s.Revision(ctx))
	if err := s.Revoke(ctx, l.ID); err != nil {
		t.Fatal(err)
	}
	count := must[kine.ReadResult](t)(s.Count(ctx, kine.PrefixRange("/l/"), kine.ReadOptions{}))
	if count.Count != 0 || count.Revision != before+1 {
		t.Fatalf("after the revoke: %d keys at revision %d, want none at %d", count.Count, count.Revision, before+1)
	}
	// A lease that ends by itself takes its keys along.
	w := must[kine.Watcher](t)(s.Watch(ctx, kine.PrefixRange("/short"), kine.WatchOptions{}))
	short := must[kine.Lease](t)(s.Grant(ctx, 0, 1))
	must[int64](t)(s.Create(ctx, "/short", []byte("x"), short.ID))
	if events := take(t, w, 2); events[1].Type != kine.Delete {
		t.Fatalf("got %v, want a delete", events[1].Type)
	}
}

func testConcurrent(t *testing.T, s kine.Store) {
	ctx := testContext(t)
	const writers, each = 16, 20
	w := must[kine.Watcher](t)(s.Watch(ctx, kine.PrefixRange("/n/"), kine.WatchOptions{}))
	rev := must[int64](t)(s.Create(ctx, "/n/counter", []byte{0}, 0))
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for range each {
				for expected, value := rev, byte(0); ; {
					_, err := s.Update(ctx, "/n/counter", []byte{value + 1}, expected, 0)
					if err == nil {
						break
					}
					var conflict *kine.ConflictError
					if !errors.As(err, &conflict) {
						t.Errorf("update: %v", err)
						return
					}
					expected, value = conflict.Current.ModRevision, conflict.Current.Value[0]
				}
			}
		})
	}
	wg.Wait()
	got := must[kine.ReadResult](t)(s.Get(ctx, "/n/counter", kine.ReadOptions{}))
	total := writers * each
	if n := got.KVs[0].Value[0]; n != byte(total%256) {
		t.Fatalf("the counter is at %d, want %d", n, byte(total%256))
	}
	last := int64(0)
	for i, e := range take(t, w, total+1) {
		if e.KV.ModRevision <= last || e.KV.Value[0] != byte(i) {
			t.Fatalf("event %d: revision %d after %d, value %d", i, e.KV.ModRevision, last, e.KV.Value[0])
		}
		last = e.KV.ModRevision
	}
}
