package backend

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"skiff/kine"
	"skiff/kine/etcd/etcdtest"
	"skiff/kine/kinetest"
	"skiff/kine/postgres/pgtest"
)

// What a store says of itself is what is said of it from beside, while a server has
// it in use and when none has.
//
// Covers: store.status
func TestStatus(t *testing.T) {
	for _, c := range []struct {
		name    string
		address func(t *testing.T) string
	}{
		{"sqlite", func(t *testing.T) string { return "sqlite://" + filepath.Join(t.TempDir(), "state.db") }},
		{"postgres", func(t *testing.T) string { return pgtest.Start(t).Database(t) }},
		{"etcd", func(t *testing.T) string { return etcdtest.Start(t) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			address := c.address(t)
			s, err := New(address, Options{CompactInterval: time.Hour})
			if err != nil {
				t.Fatal(err)
			}
			stop := kinetest.Start(t, s)
			var rev int64
			for _, key := range []string{"/a", "/b", "/gone", "/c"} {
				if rev, err = s.Create(ctx, key, make([]byte, 20_000), 0); err != nil {
					t.Fatal(err)
				}
			}
			if _, _, err = s.Delete(ctx, "/gone", 0); err != nil {
				t.Fatal(err)
			}
			if err := s.Compact(ctx, rev); err != nil {
				t.Fatal(err)
			}
			kinetest.Eventually(t, "the store says what it holds, and nothing is left to clean", func() bool {
				st, err := s.Status(ctx)
				if err != nil {
					t.Fatal(err)
				}
				return st.SizeBytes > 0 && st.PendingRevisions == 0
			})
			said, err := s.Status(ctx)
			if err != nil {
				t.Fatal(err)
			}
			want := kine.Status{Backend: c.name, Revision: rev + 1, CompactRevision: rev, OldestRevision: rev, Keys: 3}
			check := func(when string, st kine.Status, err error) {
				t.Helper()
				if err != nil {
					t.Fatalf("%s: %v", when, err)
				}
				if st.SizeBytes < 16_384 || st.FreeBytes < 0 || st.FreeBytes >= st.SizeBytes {
					t.Errorf("%s: %d bytes, %d of them free", when, st.SizeBytes, st.FreeBytes)
				}
				st.SizeBytes, st.FreeBytes, st.QuotaBytes = 0, 0, 0
				if c.name == "etcd" && when != "by itself" { // it does not tell what it has compacted
					st.CompactRevision, st.OldestRevision = rev, rev
				}
				if st != want {
					t.Errorf("%s: %+v, want %+v", when, st, want)
				}
			}
			check("by itself", said, nil)
			st, err := Inspect(ctx, address, Options{})
			check("beside a server", st, err)
			stop()
			st, err = Inspect(ctx, address, Options{})
			check("without a server", st, err)
		})
	}
}
