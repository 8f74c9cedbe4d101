package kinetest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"skiff/kine"
	"skiff/kine/history"
)

// History checks what a store keeps of the past: that it can be read below the
// compact revision, that the protocol shows nothing of it, that it is bounded,
// and that it is there after a restart. open makes a store over the same data
// each time.
func History(t *testing.T, open func(t *testing.T, keep history.Retention) kine.Runner) {
	keep := history.Retention{Window: time.Hour, Versions: 10, Skip: []string{"/skip/"}}
	ctx := testContext(t)
	began := time.Now().Truncate(time.Second)
	s := open(t, keep)
	stop := Start(t, s)
	put := func(key, value string) int64 {
		t.Helper()
		res := must[kine.TxnResult](t)(s.Txn(ctx, kine.Txn{Success: []kine.Op{{Type: kine.OpPut, Range: kine.Range{Start: key}, Value: []byte(value)}}}))
		return res.Revision
	}
	remove := func(key string) int64 {
		t.Helper()
		_, rev, err := s.Delete(ctx, key, 0)
		if err != nil {
			t.Fatal(err)
		}
		return rev
	}
	before := put("/quiet", "q")
	first := put("/a", "1")
	second := put("/a", "2")
	put("/gone", "g")
	gone := remove("/gone")
	remove("/a")
	put("/a", "3")
	for i := range 60 {
		put("/hot", fmt.Sprint(i))
		put("/skip/x", fmt.Sprint(i))
	}
	last := put("/end", "e")
	if err := s.Compact(ctx, last); err != nil {
		t.Fatal(err)
	}

	check := func(s kine.Runner) {
		t.Helper()
		log := must[history.Log](t)(s.(history.Keeper).Past(ctx))
		// The cleaning goes on beside.
		Eventually(t, "the changes of a busy key are bounded, and a key without a past has none", func() bool {
			hot := must[[]history.Change](t)(history.Changes(ctx, log, "/hot"))
			skip := must[[]history.Change](t)(history.Changes(ctx, log, "/skip/x"))
			return len(hot) >= 10 && len(hot) <= 15 && string(hot[len(hot)-1].KV.Value) == "59" && len(skip) == 1
		})
		var a []string
		for _, c := range must[[]history.Change](t)(history.Changes(ctx, log, "/a")) {
			a = append(a, fmt.Sprintf("%s %v", c.KV.Value, c.Deleted))
		}
		wantEqual(t, "changes of /a", a, []string{"1 false", "2 false", "2 true", "3 false"})
		deleted := must[[]history.Change](t)(history.Deleted(ctx, log, kine.PrefixRange("/")))
		if len(deleted) != 1 || deleted[0].KV.Key != "/gone" || string(deleted[0].KV.Value) != "g" || deleted[0].Revision != gone {
			t.Errorf("deleted keys: %+v; want /gone at %d", deleted, gone)
		}
		// Moments are noted once a minute, and this delete is younger.
		if at := deleted[0].At; at.Before(began) || at.After(time.Now().Add(time.Second)) {
			t.Errorf("/gone was deleted at %v; want a time since %v", at, began)
		}
		for _, c := range []struct {
			rev        int64
			want, lost string
		}{
			{before, "/quiet=q ", "[]"},
			{first, "/a=1 /quiet=q ", "[]"},
			{second + 1, "/a=2 /gone=g /quiet=q ", "[]"},
			{gone + 40, "/a=3 /quiet=q ", "[/hot /skip/x]"},
			{last, "/a=3 /end=e /hot=59 /quiet=q /skip/x=59 ", "[]"},
		} {
			kvs, lost, err := history.State(ctx, log, kine.PrefixRange("/"), c.rev)
			got := ""
			for _, kv := range kvs {
				got += fmt.Sprintf("%s=%s ", kv.Key, kv.Value)
			}
			if err != nil || got != c.want || fmt.Sprint(lost) != c.lost {
				t.Errorf("state at %d: %s, lost %v, %v; want %s, lost %s", c.rev, got, lost, err, c.want, c.lost)
			}
		}
		_, _, err := history.State(ctx, log, kine.PrefixRange("/"), last+100)
		wantError(t, err, kine.ErrFutureRevision)
	}
	hidden := func(s kine.Runner) {
		t.Helper()
		_, err := s.List(ctx, kine.PrefixRange("/"), kine.ReadOptions{Revision: second})
		wantError(t, err, kine.ErrCompacted)
		w, err := s.Watch(ctx, kine.PrefixRange("/"), kine.WatchOptions{Revision: second})
		if err == nil {
			for resp := range w.Responses() {
				t.Errorf("a watch below the compact revision got %+v", resp)
			}
			err = w.Err()
		}
		wantError(t, err, kine.ErrCompacted)
		if st := must[kine.Status](t)(s.Status(ctx)); st.OldestRevision > before || st.CompactRevision != last {
			t.Errorf("status: oldest %d, compact %d; want history from %d on and the protocol from %d", st.OldestRevision, st.CompactRevision, before, last)
		}
	}
	check(s)
	hidden(s)
	stop()
	s = open(t, keep)
	stop = Start(t, s)
	check(s)
	hidden(s)
	stop()

	// Without retention it goes.
	s = open(t, history.Retention{})
	Start(t, s)
	log, err := s.(history.Keeper).Past(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := history.State(ctx, log, kine.PrefixRange("/"), second); !errors.Is(err, history.ErrNotKept) {
		t.Errorf("the past without retention: %v, want that it is not kept", err)
	}
	Eventually(t, "all of the past is removed", func() bool {
		n := 0
		for _, err := range log.Rows(ctx, kine.PrefixRange("/"), 0) {
			if err != nil {
				t.Fatal(err)
			}
			n++
		}
		return n == 5
	})
}

// Eventually waits for a condition.
func Eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("it does not come about that %s", what)
		}
	}
}
