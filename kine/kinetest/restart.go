package kinetest

import (
	"testing"

	"skiff/kine"
)

// Restart checks that a store which is stopped and opened again is the same.
// open makes a store over the same data each time.
func Restart(t *testing.T, open func(t *testing.T) kine.Runner) {
	ctx := testContext(t)
	s := open(t)
	stop := Start(t, s)
	r1 := must[int64](t)(s.Create(ctx, "/a", []byte("1"), 0))
	r2 := must[int64](t)(s.Update(ctx, "/a", []byte("2"), r1, 0))
	must[int64](t)(s.Update(ctx, "/a", []byte("3"), r2, 0))
	must[int64](t)(s.Create(ctx, "/b", []byte("1"), 0))
	if _, _, err := s.Delete(ctx, "/b", 0); err != nil {
		t.Fatal(err)
	}
	must[kine.Lease](t)(s.Grant(ctx, 7, 1000))
	must[int64](t)(s.Create(ctx, "/leased", nil, 7))
	if err := s.Compact(ctx, r2); err != nil {
		t.Fatal(err)
	}
	list := func(s kine.Store, rev int64) kine.ReadResult {
		return must[kine.ReadResult](t)(s.List(ctx, kine.PrefixRange("/"), kine.ReadOptions{Revision: rev}))
	}
	newest, past := list(s, 0), list(s, r2)
	stop()

	s = open(t)
	stop = Start(t, s)
	wantEqual(t, "newest state", list(s, 0), newest)
	got := list(s, r2)
	got.Revision = past.Revision
	wantEqual(t, "state at the compact revision", got, past)
	_, err := s.Get(ctx, "/a", kine.ReadOptions{Revision: r1})
	wantError(t, err, kine.ErrCompacted)
	l := must[kine.Lease](t)(s.TimeToLive(ctx, 7, true))
	wantEqual(t, "keys of the lease", l.Keys, []string{"/leased"})
	w := must[kine.Watcher](t)(s.Watch(ctx, kine.PrefixRange("/"), kine.WatchOptions{Revision: r2, PrevKV: true}))
	wantEqual(t, "events", describe(take(t, w, 5)),
		[]string{"put /a 2 was 1", "put /a 3 was 2", "create /b 1", "delete /b  was 1", "create /leased "})
	if rev := must[int64](t)(s.Create(ctx, "/c", nil, 0)); rev != newest.Revision+1 {
		t.Errorf("the first write after the restart is at %d, want %d", rev, newest.Revision+1)
	}

	// A lease ends after a restart too, also when its key's revision is compacted.
	must[kine.Lease](t)(s.Grant(ctx, 9, 1))
	must[int64](t)(s.Create(ctx, "/ends", nil, 9))
	if err := s.Compact(ctx, must[int64](t)(s.Create(ctx, "/d", nil, 0))); err != nil {
		t.Fatal(err)
	}
	stop()
	s = open(t)
	Start(t, s)
	Eventually(t, "the key goes with its lease", func() bool {
		return must[kine.ReadResult](t)(s.Count(ctx, kine.Range{Start: "/ends"}, kine.ReadOptions{})).Count == 0
	})
}
