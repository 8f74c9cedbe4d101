package sqlite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"skiff/kine"
	"skiff/kine/kinetest"
)

// smallDisk mounts a disk of a few megabytes.
func smallDisk(t *testing.T) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("mounting a small disk needs root")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=6m,mode=0700"); err != nil {
		t.Skipf("a small disk cannot be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// Covers: store.disk-full, store.disk-fails
func TestFullDisk(t *testing.T) {
	dir := smallDisk(t)
	ctx := context.Background()
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 3<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "state.db")
	s := newStore(t, path)
	stop := kinetest.Start(t, s)
	acked := map[string]int64{}
	var err error
	for i := 0; err == nil && i < 10_000; i++ {
		key := fmt.Sprintf("/full/%d", i)
		var rev int64
		if rev, err = s.Create(ctx, key, make([]byte, 10_000), 0); err == nil {
			acked[key] = rev
		}
	}
	if !errors.Is(err, kine.ErrNoSpace) {
		t.Fatalf("after %d writes: %v, want ErrNoSpace", len(acked), err)
	}
	check := func(s *Store) {
		t.Helper()
		res, err := s.List(ctx, kine.PrefixRange("/full/"), kine.ReadOptions{})
		if err != nil || len(res.KVs) != len(acked) {
			t.Fatalf("%d keys of %d, %v", len(res.KVs), len(acked), err)
		}
		for _, kv := range res.KVs {
			if acked[kv.Key] != kv.ModRevision || len(kv.Value) != 10_000 {
				t.Fatalf("%s is at %d with %d bytes, was acknowledged at %d", kv.Key, kv.ModRevision, len(kv.Value), acked[kv.Key])
			}
		}
	}
	check(s)
	if err := s.Probe(ctx); !errors.Is(err, kine.ErrNoSpace) || !strings.Contains(err.Error(), "free some space") {
		t.Errorf("the store says %v of itself, want that its disk is full", err)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	kinetest.Eventually(t, "the store is well again, though nobody writes", func() bool { return s.Probe(ctx) == nil })
	rev, err := s.Create(ctx, "/full/again", make([]byte, 10_000), 0)
	if err != nil {
		t.Fatalf("with space again: %v", err)
	}
	acked["/full/again"] = rev
	stop()
	s = newStore(t, path)
	kinetest.Start(t, s)
	check(s)
}

// What takes no space is possible on a full disk, and makes it less full.
//
// Covers: store.disk-full
func TestFullDiskTakesDeletes(t *testing.T) {
	for name, first := range map[string]int{"that the store has filled": 0, "that others have filled": 4 << 20} {
		t.Run(name, func(t *testing.T) {
			dir := smallDisk(t)
			ctx := context.Background()
			path := filepath.Join(dir, "state.db")
			s := newStore(t, path)
			stop := kinetest.Start(t, s)
			ballast, err := os.Create(filepath.Join(dir, "ballast"))
			if err != nil {
				t.Fatal(err)
			}
			defer ballast.Close()
			if _, err := ballast.Write(make([]byte, first)); err != nil {
				t.Fatal(err)
			}
			put := func(key string) error {
				_, err := s.Txn(ctx, kine.Txn{Success: []kine.Op{{Type: kine.OpPut, Range: kine.Range{Start: key}, Value: make([]byte, 10_000)}}})
				return err
			}
			n := 0
			for ; err == nil && n < 10_000; n++ {
				err = put(fmt.Sprintf("/full/%d", n))
			}
			if !errors.Is(err, kine.ErrNoSpace) {
				t.Fatalf("after %d writes: %v, want ErrNoSpace", n, err)
			}
			for err = nil; err == nil; {
				_, err = ballast.Write(make([]byte, 1<<10))
			}
			if !errors.Is(err, unix.ENOSPC) {
				t.Fatal(err)
			}
			// A store that finds the disk full when it starts is no worse off.
			stop()
			s = newStore(t, path)
			kinetest.Start(t, s)
			if err := put("/full/more"); !errors.Is(err, kine.ErrNoSpace) {
				t.Errorf("a write: %v, want ErrNoSpace", err)
			}
			if err := s.Probe(ctx); !errors.Is(err, kine.ErrNoSpace) || !strings.Contains(err.Error(), "free some space") {
				t.Errorf("the store says %v of itself, want that its disk is full", err)
			}
			revision := int64(0)
			for i := range n - 1 {
				if _, revision, err = s.Delete(ctx, fmt.Sprintf("/full/%d", i), 0); err != nil {
					t.Fatalf("delete %d of %d: %v", i, n-1, err)
				}
			}
			if err := s.Compact(ctx, revision); err != nil {
				t.Fatal(err)
			}
			kinetest.Eventually(t, "the store is well again", func() bool { return s.Probe(ctx) == nil })
			if err := put("/full/again"); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestReadOnlyDiskIsWaitedFor(t *testing.T) {
	dir := smallDisk(t)
	remount := func(flags uintptr) {
		if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT|flags, ""); err != nil {
			t.Fatal(err)
		}
	}
	remount(unix.MS_RDONLY)
	s := newStore(t, filepath.Join(dir, "state.db"))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	short, stop := context.WithTimeout(ctx, 50*time.Millisecond)
	defer stop()
	if _, err := s.Revision(short); !errors.Is(err, kine.ErrUnavailable) || !errors.Is(err, unix.EROFS) {
		t.Errorf("on a read-only disk: %v, want ErrUnavailable with the cause", err)
	}
	remount(0)
	select {
	case <-s.Ready():
	case err := <-done:
		done <- nil
		t.Fatalf("ended: %v", err)
	}
}

// A file that is taken away under the store takes no more writes, which nobody would
// find again, and all goes on when it is back.
//
// Covers: store.disk-fails
func TestFilesAreTakenAway(t *testing.T) {
	for _, suffix := range []string{"", "-wal"} {
		t.Run("state.db"+suffix, func(t *testing.T) {
			ctx := context.Background()
			path := filepath.Join(t.TempDir(), "state.db")
			s := newStore(t, path)
			stop := kinetest.Start(t, s)
			if _, err := s.Create(ctx, "/before", nil, 0); err != nil {
				t.Fatal(err)
			}
			move := func(from, to string) {
				t.Helper()
				if err := os.Rename(from, to); err != nil {
					t.Fatal(err)
				}
			}
			move(path+suffix, path+".away")
			for _, what := range []string{"nothing", "another file"} {
				if _, err := s.Create(ctx, "/lost", nil, 0); !errors.Is(err, kine.ErrUnavailable) || !strings.Contains(err.Error(), "put it back") {
					t.Errorf("with %s in its place: %v, want ErrUnavailable with the remedy", what, err)
				}
				if err := s.Probe(ctx); err == nil {
					t.Errorf("with %s in its place the store says that it is well", what)
				}
				if err := os.WriteFile(path+suffix, nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if res, err := s.Get(ctx, "/before", kine.ReadOptions{}); err != nil || len(res.KVs) != 1 {
				t.Errorf("a read: %v, %v", res.KVs, err)
			}
			move(path+".away", path+suffix)
			kinetest.Eventually(t, "the store is well again, though nobody writes", func() bool { return s.Probe(ctx) == nil })
			if _, err := s.Create(ctx, "/after", nil, 0); err != nil {
				t.Error(err)
			}
			stop()
			s = newStore(t, path)
			kinetest.Start(t, s)
			res, err := s.List(ctx, kine.PrefixRange("/"), kine.ReadOptions{})
			if err != nil || len(res.KVs) != 2 {
				t.Errorf("after a restart: %d keys, %v; want those that were acknowledged", len(res.KVs), err)
			}
		})
	}
}

// filled is a database with some data, and its files.
func filled(t *testing.T) (path string, want kine.ReadResult) {
	t.Helper()
	ctx := context.Background()
	path = filepath.Join(t.TempDir(), "state.db")
	s := newStore(t, path)
	stop := kinetest.Start(t, s)
	for i := range 200 {
		if _, err := s.Create(ctx, fmt.Sprintf("/k/%03d", i), make([]byte, 3000), 0); err != nil {
			t.Fatal(err)
		}
	}
	want, err := s.List(ctx, kine.PrefixRange("/k/"), kine.ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	// A copy of the files as they are: what a crash would leave.
	crashed := filepath.Join(t.TempDir(), "state.db")
	for _, suffix := range []string{"", "-wal"} {
		data, err := os.ReadFile(path + suffix)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(crashed+suffix, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	return crashed, want
}

// Covers: store.corrupt
func TestTornLogIsCutOff(t *testing.T) {
	path, want := filled(t)
	f, err := os.OpenFile(path+"-wal", os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(make([]byte, 5000)); err != nil {
		t.Fatal(err)
	}
	f.Close()
	s := newStore(t, path)
	kinetest.Start(t, s)
	got, err := s.List(context.Background(), kine.PrefixRange("/k/"), kine.ReadOptions{})
	if err != nil || got.Revision != want.Revision || len(got.KVs) != len(want.KVs) {
		t.Errorf("%d keys at %d, %v; want %d at %d", len(got.KVs), got.Revision, err, len(want.KVs), want.Revision)
	}
}

// Covers: store.corrupt
func TestTruncatedDatabaseIsRefused(t *testing.T) {
	path, _ := filled(t)
	s := newStore(t, path)
	kinetest.Start(t, s)() // brings the log into the database
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []int64{4, 2} {
		if err := os.Truncate(path, info.Size()*(part-1)/part); err != nil {
			t.Fatal(err)
		}
		err = newStore(t, path).Run(context.Background())
		if err == nil || !strings.Contains(err.Error(), "damaged") {
			t.Fatalf("without %d/%d of the file: got %v, want that it is damaged", 1, part, err)
		}
	}
}

// A full disk is like a quota that is used up.
//
// Covers: store.disk-full
func TestFullDiskMakesRoom(t *testing.T) {
	kinetest.Quota(t, func(t *testing.T) (kine.Store, func()) {
		s := newStore(t, filepath.Join(smallDisk(t), "state.db"))
		kinetest.Start(t, s)
		return s, func() {}
	})
}
