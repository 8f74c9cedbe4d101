package kinetest

import (
	"errors"
	"fmt"
	"testing"

	"skiff/kine"
)

// What went wrong in other stores; docs/store.md names the reports.

// testRefusedTakeNothing: what is refused takes no revision, or a store whose
// revisions are given beforehand has gaps that its watchers wait for.
func testRefusedTakeNothing(t *testing.T, s kine.Store) {
	ctx := testContext(t)
	first := must[int64](t)(s.Create(ctx, "/a", []byte("1"), 0))
	w := must[kine.Watcher](t)(s.Watch(ctx, kine.PrefixRange("/"), kine.WatchOptions{Revision: first}))
	for range 50 {
		_, err := s.Create(ctx, "/a", nil, 0)
		wantError(t, err, kine.ErrKeyExists)
		_, err = s.Update(ctx, "/a", nil, first+1000, 0)
		wantError(t, err, kine.ErrConflict)
		_, _, err = s.Delete(ctx, "/none", 0)
		wantError(t, err, kine.ErrKeyNotFound)
		_, err = s.Create(ctx, "/leased", nil, 4711)
		wantError(t, err, kine.ErrLeaseNotFound)
	}
	if next := must[int64](t)(s.Create(ctx, "/b", nil, 0)); next != first+1 {
		t.Errorf("the next write is at %d, want %d", next, first+1)
	}
	wantEqual(t, "events", describe(take(t, w, 2)), []string{"create /a 1", "create /b "})
}

// testCompactedInTxn: a transaction that reads what is compacted fails as a whole.
func testCompactedInTxn(t *testing.T, s kine.Store) {
	ctx := testContext(t)
	r1 := must[int64](t)(s.Create(ctx, "/a", []byte("1"), 0))
	r2 := must[int64](t)(s.Update(ctx, "/a", []byte("2"), r1, 0))
	if err := s.Compact(ctx, r2); err != nil {
		t.Fatal(err)
	}
	read := func(revision int64) (kine.TxnResult, error) {
		return s.Txn(ctx, kine.Txn{Success: []kine.Op{
			{Type: kine.OpPut, Range: kine.Range{Start: "/b"}},
			{Type: kine.OpRange, Range: kine.Range{Start: "/a"}, Read: kine.ReadOptions{Revision: revision}},
		}})
	}
	_, err := read(r1)
	wantError(t, err, kine.ErrCompacted)
	_, err = read(r2 + 1000)
	wantError(t, err, kine.ErrFutureRevision)
	if n := must[kine.ReadResult](t)(s.Count(ctx, kine.Range{Start: "/b"}, kine.ReadOptions{})).Count; n != 0 {
		t.Error("a transaction that failed has written")
	}
	res, err := read(r2)
	if err != nil || string(res.Results[1].Read.KVs[0].Value) != "2" {
		t.Errorf("at the compact revision: %+v, %v", res, err)
	}
}

// testBusyKey: a key of thousands of revisions is one key to a list, at a revision
// that is as new as what the list shows.
func testBusyKey(t *testing.T, s kine.Store) {
	ctx := testContext(t)
	const versions, perTxn = 3000, 60
	must[int64](t)(s.Create(ctx, "/l/other", nil, 0))
	for range versions / perTxn {
		// One write to a revision, many of them on their way at once.
		ends := make(chan error, perTxn)
		for range perTxn {
			go func() {
				_, err := s.Txn(ctx, kine.Txn{Success: []kine.Op{{Type: kine.OpPut, Range: kine.Range{Start: "/l/busy"}, Value: []byte("x")}}})
				ends <- err
			}()
		}
		for range perTxn {
			if err := <-ends; err != nil {
				t.Fatal(err)
			}
		}
		res := must[kine.ReadResult](t)(s.List(ctx, kine.PrefixRange("/l/"), kine.ReadOptions{}))
		if len(res.KVs) != 2 || res.Count != 2 || res.Revision < res.KVs[0].ModRevision {
			t.Fatalf("the list at %d has %+v", res.Revision, res.KVs)
		}
	}
	if kv := must[kine.ReadResult](t)(s.Get(ctx, "/l/busy", kine.ReadOptions{})).KVs[0]; kv.Version != versions {
		t.Errorf("version %d, want %d", kv.Version, versions)
	}
}

// testWatchBeforeCompact: a watch that begins before what is kept gets no event
// before it is told so.
func testWatchBeforeCompact(t *testing.T, s kine.Store) {
	ctx := testContext(t)
	var revisions []int64
	for i := range 10 {
		revisions = append(revisions, must[int64](t)(s.Create(ctx, fmt.Sprintf("/w/%d", i), nil, 0)))
	}
	if err := s.Compact(ctx, revisions[5]); err != nil {
		t.Fatal(err)
	}
	w, err := s.Watch(ctx, kine.PrefixRange("/w/"), kine.WatchOptions{Revision: revisions[4]})
	if err == nil {
		for resp := range w.Responses() {
			t.Errorf("told %+v", resp)
		}
		err = w.Err()
	}
	var compacted *kine.CompactedError
	if !errors.As(err, &compacted) || compacted.CompactRevision != revisions[5] {
		t.Errorf("ended with %v, want compacted at %d", err, revisions[5])
	}
}
