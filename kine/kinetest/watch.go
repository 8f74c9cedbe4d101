package kinetest

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"skiff/kine"
)

// take reads n events.
func take(t *testing.T, w kine.Watcher, n int) []*kine.Event {
	t.Helper()
	var out []*kine.Event
	deadline := time.After(limit)
	for len(out) < n {
		select {
		case resp, ok := <-w.Responses():
			if !ok {
				t.Fatalf("the watch ended after %d of %d events: %v", len(out), n, w.Err())
			}
			out = append(out, resp.Events...)
		case <-deadline:
			t.Fatalf("got %d of %d events", len(out), n)
		}
	}
	return out
}

func describe(events []*kine.Event) []string {
	out := make([]string, len(events))
	for i, e := range events {
		kind := "put"
		switch {
		case e.Type == kine.Delete:
			kind = "delete"
		case e.IsCreate():
			kind = "create"
		}
		out[i] = fmt.Sprintf("%s %s %s", kind, e.KV.Key, e.KV.Value)
		if e.PrevKV != nil {
			out[i] += fmt.Sprintf(" was %s", e.PrevKV.Value)
		}
	}
	return out
}

func testWatch(t *testing.T, s kine.Store) {
	ctx := testContext(t)
	w := must[kine.Watcher](t)(s.Watch(ctx, kine.PrefixRange("/w/"), kine.WatchOptions{PrevKV: true}))
	r := must[int64](t)(s.Create(ctx, "/w/a", []byte("1"), 0))
	must[int64](t)(s.Create(ctx, "/other", []byte("1"), 0))
	r = must[int64](t)(s.Update(ctx, "/w/a", []byte("2"), r, 0))
	if _, _, err := s.Delete(ctx, "/w/a", r); err != nil {
		t.Fatal(err)
	}
	wantEqual(t, "events", describe(take(t, w, 3)), []string{"create /w/a 1", "put /w/a 2 was 1", "delete /w/a  was 2"})
}

func testWatchPast(t *testing.T, s kine.Store) {
	ctx := testContext(t)
	first := must[int64](t)(s.Create(ctx, "/w/0", []byte("0"), 0))
	for i := 1; i < 5; i++ {
		must[int64](t)(s.Create(ctx, fmt.Sprintf("/w/%d", i), fmt.Append(nil, i), 0))
	}
	w := must[kine.Watcher](t)(s.Watch(ctx, kine.PrefixRange("/w/"), kine.WatchOptions{Revision: first + 1}))
	must[int64](t)(s.Create(ctx, "/w/5", []byte("5"), 0))
	wantEqual(t, "events", describe(take(t, w, 5)),
		[]string{"create /w/1 1", "create /w/2 2", "create /w/3 3", "create /w/4 4", "create /w/5 5"})
	// A watch from the future waits for it.
	now := must[int64](t)(s.Revision(ctx))
	w = must[kine.Watcher](t)(s.Watch(ctx, kine.PrefixRange("/w/"), kine.WatchOptions{Revision: now + 2}))
	must[int64](t)(s.Create(ctx, "/w/6", []byte("6"), 0))
	must[int64](t)(s.Create(ctx, "/w/7", []byte("7"), 0))
	wantEqual(t, "events from the future", describe(take(t, w, 1)), []string{"create /w/7 7"})
}

func testWatchCompacted(t *testing.T, s kine.Store) {
	ctx := testContext(t)
	r1 := must[int64](t)(s.Create(ctx, "/w", []byte("1"), 0))
	r2 := must[int64](t)(s.Update(ctx, "/w", []byte("2"), r1, 0))
	if err := s.Compact(ctx, r2); err != nil {
		t.Fatal(err)
	}
	w, err := s.Watch(ctx, kine.PrefixRange("/w"), kine.WatchOptions{Revision: r1})
	if err == nil {
		select {
		case resp, ok := <-w.Responses():
			if ok {
				t.Fatalf("got %v, want the end of the watch", resp)
			}
			err = w.Err()
		case <-time.After(limit):
			t.Fatal("the watch did not end")
		}
	}
	var compacted *kine.CompactedError
	if !errors.As(err, &compacted) || compacted.CompactRevision != r2 {
		t.Fatalf("got %v, want a *CompactedError at %d", err, r2)
	}
}

func testWatchFilters(t *testing.T, s kine.Store) {
	ctx := testContext(t)
	puts := must[kine.Watcher](t)(s.Watch(ctx, kine.Range{Start: "/w"}, kine.WatchOptions{NoDelete: true}))
	deletes := must[kine.Watcher](t)(s.Watch(ctx, kine.Range{Start: "/v", End: "/x"}, kine.WatchOptions{NoPut: true}))
	must[int64](t)(s.Create(ctx, "/w", []byte("1"), 0))
	if _, _, err := s.Delete(ctx, "/w", 0); err != nil {
		t.Fatal(err)
	}
	must[int64](t)(s.Create(ctx, "/w", []byte("2"), 0))
	wantEqual(t, "puts", describe(take(t, puts, 2)), []string{"create /w 1", "create /w 2"})
	wantEqual(t, "deletes", describe(take(t, deletes, 1)), []string{"delete /w "})
}

func testWatchProgress(t *testing.T, s kine.Store) {
	ctx := testContext(t)
	w := must[kine.Watcher](t)(s.Watch(ctx, kine.PrefixRange("/w/"), kine.WatchOptions{}))
	rev := must[int64](t)(s.Create(ctx, "/elsewhere", nil, 0))
	if err := w.RequestProgress(ctx); err != nil {
		t.Fatal(err)
	}
	select {
	case resp := <-w.Responses():
		if len(resp.Events) != 0 || resp.Revision < rev {
			t.Fatalf("got %+v, want no events and revision %d", resp, rev)
		}
	case <-time.After(limit):
		t.Fatal("no progress notification")
	}
}

func testWatchAtomic(t *testing.T, s kine.Store) {
	ctx := testContext(t)
	w := must[kine.Watcher](t)(s.Watch(ctx, kine.PrefixRange("/w/"), kine.WatchOptions{}))
	var ops []kine.Op
	for i := range 10 {
		ops = append(ops, kine.Op{Type: kine.OpPut, Range: kine.Range{Start: fmt.Sprintf("/w/%d", i)}, Value: []byte("x")})
	}
	res := must[kine.TxnResult](t)(s.Txn(ctx, kine.Txn{Success: ops}))
	select {
	case resp := <-w.Responses():
		if len(resp.Events) != 10 || resp.Events[0].KV.ModRevision != res.Revision || resp.Events[9].KV.ModRevision != res.Revision {
			t.Fatalf("got %d events in one response, want 10 of revision %d", len(resp.Events), res.Revision)
		}
	case <-time.After(limit):
		t.Fatal("no events")
	}
}
