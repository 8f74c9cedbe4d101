package sqlite

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"skiff/kine"
	"skiff/kine/kinetest"
)

func TestSnapshotRestoresAndMovesOn(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	live := filepath.Join(dir, "live.db")
	s := newStore(t, live)
	kinetest.Start(t, s)
	first := create(t, s, "/a", "1")
	create(t, s, "/b", "2")
	copied := filepath.Join(dir, "copy", "state.db")
	if err := Snapshot(ctx, live, copied); err != nil {
		t.Fatal(err)
	}
	if err := Snapshot(ctx, live, copied); err == nil || !strings.Contains(err.Error(), "exists already") {
		t.Errorf("a second snapshot to the same file: %v", err)
	}
	after := create(t, s, "/c", "3") // the copy does not have it
	keys, _, err := Verify(ctx, copied)
	if err != nil || keys != 2 {
		t.Fatalf("verify: %d keys, %v; want 2", keys, err)
	}
	if err := Rebase(ctx, copied); err != nil {
		t.Fatal(err)
	}
	r := newStore(t, copied)
	kinetest.Start(t, r)
	list, err := r.List(ctx, kine.PrefixRange("/"), kine.ReadOptions{})
	if err != nil || len(list.KVs) != 2 || string(list.KVs[0].Value) != "1" {
		t.Fatalf("restored: %v, %v", list.KVs, err)
	}
	if list.Revision <= after {
		t.Errorf("restored revision %d is not after the lost one %d", list.Revision, after)
	}
	if _, err := r.Get(ctx, "/a", kine.ReadOptions{Revision: first}); !errors.Is(err, kine.ErrCompacted) {
		t.Errorf("an old revision after the restore: %v, want compacted", err)
	}
	if rev := create(t, r, "/d", "4"); rev != list.Revision+1 {
		t.Errorf("the next write is at %d, want %d", rev, list.Revision+1)
	}
}
