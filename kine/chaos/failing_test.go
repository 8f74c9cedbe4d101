package chaos

import (
	"context"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"skiff/kine"
	"skiff/kine/kinetest"
)

// A disk fails under a server. Writes are refused with the remedy, and reads go on.
// Once the disk works all does, and what was acknowledged is there.
//
// Covers: store.disk-full, store.disk-fails
func TestDiskThatFails(t *testing.T) {
	for _, c := range []struct {
		name        string
		write, sync syscall.Errno
		want        string
	}{
		{"full", syscall.ENOSPC, 0, "space exceeded"},
		{"read-only", syscall.EROFS, syscall.EROFS, "check it"},
		{"broken", syscall.EIO, syscall.EIO, "check it"},
		{"does not sync", 0, syscall.EIO, "check it"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			d := &disk{files: map[string]*diskFile{}}
			unmount := d.mount(t, dir)
			p, s := start(t, dir)
			t.Cleanup(func() { p.kill(); unmount() })
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			acked := map[string]int64{}
			n := 0
			write := func() error {
				n++
				key := fmt.Sprintf("/k/%d", n)
				revision, err := s.Create(ctx, key, make([]byte, 1000), 0)
				if err == nil {
					acked[key] = revision
				}
				return err
			}
			for range 5 {
				if err := write(); err != nil {
					t.Fatal(err)
				}
			}
			d.refuse(c.write, c.sync)
			for range 5 {
				err := write()
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("got %v, want %q", err, c.want)
				}
			}
			if res, err := s.List(ctx, kine.PrefixRange("/k/"), kine.ReadOptions{}); err != nil || len(res.KVs) != len(acked) {
				t.Errorf("%d keys, %v; want %d", len(res.KVs), err, len(acked))
			}
			// That nothing is well is found by writing, also when no client does.
			before := d.refusedSoFar()
			kinetest.Eventually(t, "the disk is tried again", func() bool { return d.refusedSoFar() > before+1 })
			if n := p.logged("writes fail"); n != 1 {
				t.Errorf("the log has %d times that writes fail, as if they had not in between", n)
			}
			d.refuse(0, 0)
			if err := write(); err != nil {
				t.Errorf("when the disk works again: %v", err)
			}
			p.kill()
			p.up("")
			res, err := s.List(ctx, kine.PrefixRange("/k/"), kine.ReadOptions{})
			if err != nil {
				t.Fatal(err)
			}
			have := map[string]int64{}
			for _, kv := range res.KVs {
				have[kv.Key] = kv.ModRevision
			}
			for key, revision := range acked {
				if have[key] != revision {
					t.Errorf("%s was acknowledged at %d, and is at %d", key, revision, have[key])
				}
			}
		})
	}
}
