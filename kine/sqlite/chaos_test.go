package sqlite

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"skiff/kine"
	"skiff/kine/kinetest"
)

// Covers: store.watch-checks
func TestChaos(t *testing.T) {
	s := newStore(t, filepath.Join(t.TempDir(), "state.db"))
	kinetest.Start(t, s)
	kinetest.Chaos{Store: s}.Run(t)
}

// The disk is full again and again: what cannot be written is refused, and all
// goes on when there is space.
//
// Covers: store.disk-full
func TestChaosOnAFullDisk(t *testing.T) {
	dir := smallDisk(t)
	s := newStore(t, filepath.Join(dir, "state.db"))
	kinetest.Start(t, s)
	ballast := filepath.Join(dir, "ballast")
	full := 0
	kinetest.Chaos{Store: s, Disturb: func(ctx context.Context) {
		// As much as there is room for.
		f, err := os.Create(ballast)
		if err != nil {
			t.Error(err)
			return
		}
		for err == nil {
			_, err = f.Write(make([]byte, 16<<10))
		}
		f.Close()
		res, err := s.Txn(ctx, kine.Txn{Success: []kine.Op{{Type: kine.OpPut, Range: kine.Range{Start: "/chaos/big"}, Value: make([]byte, 200<<10)}}})
		if errors.Is(err, kine.ErrNoSpace) {
			full++
		} else if err != nil && ctx.Err() == nil {
			t.Errorf("on a full disk: %+v, %v; want that there is no space", res, err)
		}
		timer := time.NewTimer(100 * time.Millisecond)
		<-timer.C
		if err := os.Remove(ballast); err != nil {
			t.Error(err)
		}
		timer.Reset(100 * time.Millisecond)
		<-timer.C
	}}.Run(t)
	if full == 0 {
		t.Error("the disk was never full")
	}
}
