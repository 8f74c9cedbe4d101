package kinetest

import (
	"bytes"
	"fmt"
	"testing"

	"skiff/kine"
)

func testTxnShapes(t *testing.T, s kine.Store) {
	ctx := testContext(t)
	lease := must[kine.Lease](t)(s.Grant(ctx, 0, 500))
	created := must[int64](t)(s.Create(ctx, "/t/a", []byte("1"), lease.ID))
	updated := must[int64](t)(s.Update(ctx, "/t/a", []byte("2"), created, lease.ID))
	must[int64](t)(s.Create(ctx, "/t/b", []byte("5"), 0))

	for _, c := range []struct {
		name    string
		compare kine.Compare
		want    bool
	}{
		{"mod equal", kine.Compare{Key: "/t/a", Target: kine.TargetMod, Number: updated}, true},
		{"mod not equal", kine.Compare{Key: "/t/a", Target: kine.TargetMod, Result: kine.NotEqual, Number: updated}, false},
		{"create equal", kine.Compare{Key: "/t/a", Target: kine.TargetCreate, Number: created}, true},
		{"create greater", kine.Compare{Key: "/t/a", Target: kine.TargetCreate, Result: kine.Greater, Number: created}, false},
		{"version", kine.Compare{Key: "/t/a", Target: kine.TargetVersion, Number: 2}, true},
		{"version less", kine.Compare{Key: "/t/a", Target: kine.TargetVersion, Result: kine.Less, Number: 3}, true},
		{"lease", kine.Compare{Key: "/t/a", Target: kine.TargetLease, Number: lease.ID}, true},
		{"value", kine.Compare{Key: "/t/a", Target: kine.TargetValue, Value: []byte("2")}, true},
		{"value greater", kine.Compare{Key: "/t/a", Target: kine.TargetValue, Result: kine.Greater, Value: []byte("10")}, true},
		{"absent key", kine.Compare{Key: "/t/none", Target: kine.TargetVersion}, true},
		{"value of an absent key", kine.Compare{Key: "/t/none", Target: kine.TargetValue, Result: kine.NotEqual, Value: []byte("x")}, false},
		{"range", kine.Compare{Key: "/t/", RangeEnd: "/t0", Target: kine.TargetCreate, Result: kine.Greater}, true},
		{"range with one that fails", kine.Compare{Key: "/t/", RangeEnd: "/t0", Target: kine.TargetVersion, Number: 2}, false},
	} {
		res := must[kine.TxnResult](t)(s.Txn(ctx, kine.Txn{Compares: []kine.Compare{c.compare}}))
		if res.Succeeded != c.want {
			t.Errorf("compare %q: %v, want %v", c.name, res.Succeeded, c.want)
		}
	}
	before := must[int64](t)(s.Revision(ctx))

	// What a transaction reads includes what it wrote before.
	res := must[kine.TxnResult](t)(s.Txn(ctx, kine.Txn{Success: []kine.Op{
		{Type: kine.OpPut, Range: kine.Range{Start: "/t/c"}, Value: []byte("new"), PrevKV: true},
		{Type: kine.OpPut, Range: kine.Range{Start: "/t/a"}, IgnoreLease: true, Value: []byte("3"), PrevKV: true},
		{Type: kine.OpPut, Range: kine.Range{Start: "/t/b"}, IgnoreValue: true, Lease: lease.ID},
		{Type: kine.OpRange, Range: kine.PrefixRange("/t/")},
		{Type: kine.OpDelete, Range: kine.Range{Start: "/none"}},
	}}))
	if res.Revision != before+1 {
		t.Errorf("revision %d, want %d", res.Revision, before+1)
	}
	if n := len(res.Results[0].PrevKVs); n != 0 {
		t.Errorf("a new key has %d previous ones", n)
	}
	if p := res.Results[1].PrevKVs; len(p) != 1 || string(p[0].Value) != "2" {
		t.Errorf("previous key: %+v", p)
	}
	rev := res.Revision
	wantEqual(t, "range in the transaction", res.Results[3].Read.KVs, []kine.KeyValue{
		{Key: "/t/a", Value: []byte("3"), CreateRevision: created, ModRevision: rev, Version: 3, Lease: lease.ID},
		{Key: "/t/b", Value: []byte("5"), CreateRevision: updated + 1, ModRevision: rev, Version: 2, Lease: lease.ID},
		{Key: "/t/c", Value: []byte("new"), CreateRevision: rev, ModRevision: rev, Version: 1},
	})

	// A failed operation takes the whole transaction back.
	_, err := s.Txn(ctx, kine.Txn{Success: []kine.Op{
		{Type: kine.OpPut, Range: kine.Range{Start: "/t/d"}, Value: []byte("x")},
		{Type: kine.OpPut, Range: kine.Range{Start: "/t/e"}, Lease: 4711},
	}})
	wantError(t, err, kine.ErrLeaseNotFound)
	count := must[kine.ReadResult](t)(s.Count(ctx, kine.PrefixRange("/t/"), kine.ReadOptions{}))
	if count.Count != 3 || count.Revision != rev {
		t.Errorf("after the failed transaction: %d keys at %d, want 3 at %d", count.Count, count.Revision, rev)
	}
	// One that writes nothing takes no revision.
	res = must[kine.TxnResult](t)(s.Txn(ctx, kine.Txn{Success: []kine.Op{{Type: kine.OpDelete, Range: kine.PrefixRange("/none")}}}))
	if res.Revision != rev {
		t.Errorf("a transaction without writes is at %d, want %d", res.Revision, rev)
	}
}

func testWatchAtCompact(t *testing.T, s kine.Store) {
	ctx := testContext(t)
	must[int64](t)(s.Create(ctx, "/w", []byte("1"), 0))
	_, deleted, err := s.Delete(ctx, "/w", 0)
	if err != nil {
		t.Fatal(err)
	}
	must[int64](t)(s.Create(ctx, "/w", []byte("2"), 0))
	if err := s.Compact(ctx, deleted); err != nil {
		t.Fatal(err)
	}
	w := must[kine.Watcher](t)(s.Watch(ctx, kine.PrefixRange("/w"), kine.WatchOptions{Revision: deleted}))
	wantEqual(t, "events", describe(take(t, w, 2)), []string{"delete /w ", "create /w 2"})
}

func testWatchMany(t *testing.T, s kine.Store) {
	ctx := testContext(t)
	const watchers, writes = 50, 40
	open := make([]kine.Watcher, watchers)
	for i := range open {
		open[i] = must[kine.Watcher](t)(s.Watch(ctx, kine.PrefixRange(fmt.Sprintf("/m/%d/", i%5)), kine.WatchOptions{}))
	}
	for i := range writes {
		must[int64](t)(s.Create(ctx, fmt.Sprintf("/m/%d/%d", i%5, i), nil, 0))
	}
	for i, w := range open {
		for n, e := range take(t, w, writes/5) {
			if want := fmt.Sprintf("/m/%d/%d", i%5, i%5+5*n); e.KV.Key != want {
				t.Fatalf("watcher %d: event %d is of %s, want %s", i, n, e.KV.Key, want)
			}
		}
	}
}

func testPastRange(t *testing.T, s kine.Store) {
	ctx := testContext(t)
	var at int64
	for i := range 6 {
		at = must[int64](t)(s.Create(ctx, fmt.Sprintf("/r/%d", i), []byte("old"), 0))
	}
	for i := range 3 {
		kv := must[kine.ReadResult](t)(s.Get(ctx, fmt.Sprintf("/r/%d", i), kine.ReadOptions{})).KVs[0]
		must[int64](t)(s.Update(ctx, kv.Key, []byte("new"), kv.ModRevision, 0))
	}
	for _, key := range []string{"/r/0", "/r/5"} {
		if _, _, err := s.Delete(ctx, key, 0); err != nil {
			t.Fatal(err)
		}
	}
	must[int64](t)(s.Create(ctx, "/r/0", []byte("again"), 0))
	must[int64](t)(s.Create(ctx, "/r/9", []byte("later"), 0))
	now := must[int64](t)(s.Revision(ctx))
	res := must[kine.ReadResult](t)(s.List(ctx, kine.PrefixRange("/r/"), kine.ReadOptions{Revision: at}))
	if res.Revision != now || res.Count != 6 || len(res.KVs) != 6 {
		t.Fatalf("at %d: revision %d, count %d, %d keys; want %d, 6, 6", at, res.Revision, res.Count, len(res.KVs), now)
	}
	for i, kv := range res.KVs {
		if kv.Key != fmt.Sprintf("/r/%d", i) || string(kv.Value) != "old" || kv.Version != 1 {
			t.Errorf("at %d: %+v", at, kv)
		}
	}
	res = must[kine.ReadResult](t)(s.List(ctx, kine.PrefixRange("/r/"), kine.ReadOptions{Revision: at, Limit: 2}))
	if len(res.KVs) != 2 || !res.More || res.Count != 6 {
		t.Errorf("limited at %d: %d keys, more %v, count %d", at, len(res.KVs), res.More, res.Count)
	}
	count := must[kine.ReadResult](t)(s.Count(ctx, kine.PrefixRange("/r/"), kine.ReadOptions{Revision: at}))
	if count.Count != 6 {
		t.Errorf("count at %d: %d, want 6", at, count.Count)
	}
}

func testLeaseMoves(t *testing.T, s kine.Store) {
	ctx := testContext(t)
	first := must[kine.Lease](t)(s.Grant(ctx, 0, 500))
	second := must[kine.Lease](t)(s.Grant(ctx, 0, 500))
	a := must[int64](t)(s.Create(ctx, "/l/a", nil, first.ID))
	must[int64](t)(s.Create(ctx, "/l/b", nil, first.ID))
	must[int64](t)(s.Update(ctx, "/l/a", nil, a, second.ID))
	if err := s.Revoke(ctx, first.ID); err != nil {
		t.Fatal(err)
	}
	res := must[kine.ReadResult](t)(s.List(ctx, kine.PrefixRange("/l/"), kine.ReadOptions{KeysOnly: true}))
	wantEqual(t, "keys", keys(res.KVs), []string{"/l/a"})
	wantError(t, s.Revoke(ctx, first.ID), kine.ErrLeaseNotFound)
	ids := must[[]int64](t)(s.Leases(ctx))
	found := map[int64]bool{}
	for _, id := range ids {
		found[id] = true
	}
	if found[first.ID] || !found[second.ID] {
		t.Errorf("leases %v, want %d and not %d", ids, second.ID, first.ID)
	}
	if _, err := s.KeepAlive(ctx, second.ID); err != nil {
		t.Error(err)
	}
}

// testLarge reads more at once than messages usually take.
func testLarge(t *testing.T, s kine.Store) {
	ctx := testContext(t)
	const n, size = 12, 900 << 10
	first := int64(0)
	for i := range n {
		rev := must[int64](t)(s.Create(ctx, fmt.Sprintf("/large/%02d", i), bytes.Repeat([]byte{byte(i)}, size), 0))
		if i == 0 {
			first = rev
		}
	}
	res := must[kine.ReadResult](t)(s.List(ctx, kine.PrefixRange("/large/"), kine.ReadOptions{}))
	if len(res.KVs) != n {
		t.Fatalf("%d keys, want %d", len(res.KVs), n)
	}
	w := must[kine.Watcher](t)(s.Watch(ctx, kine.PrefixRange("/large/"), kine.WatchOptions{Revision: first}))
	for i, e := range take(t, w, n) {
		for _, value := range [][]byte{e.KV.Value, res.KVs[i].Value} {
			if len(value) != size || value[0] != byte(i) || value[size-1] != byte(i) {
				t.Fatalf("key %d has a value of %d bytes, or another key's", i, len(value))
			}
		}
	}
}
