package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"skiff/kine"
	"skiff/kine/kinetest"
	"skiff/kine/postgres/pgtest"
)

// cutter passes connections on to a database, and can cut each of them in the middle
// of what the database says.
type cutter struct {
	l net.Listener
	// after is how many bytes of one answer pass before the cut; 0 is all.
	after atomic.Int64
	cuts  atomic.Int64
}

// newCutter makes a cutter and the URL through it.
func newCutter(t *testing.T, address string) (*cutter, string) {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	target := filepath.Join(q.Get("host"), ".s.PGSQL.5432")
	dir, err := os.MkdirTemp("", "cut") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	c := &cutter{}
	if c.l, err = net.Listen("unix", filepath.Join(dir, ".s.PGSQL.5432")); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			client, err := c.l.Accept()
			if err != nil {
				return // closed
			}
			wg.Go(func() { c.pass(client, target) })
		}
	})
	t.Cleanup(func() {
		c.l.Close()
		wg.Wait()
	})
	q.Set("host", dir)
	u.RawQuery = q.Encode()
	return c, u.String()
}

func (c *cutter) pass(client net.Conn, target string) {
	defer client.Close()
	server, err := net.Dial("unix", target)
	if err != nil {
		return // the client sees the end
	}
	defer server.Close()
	var said atomic.Int64 // since the client asked last
	go func() {
		defer server.Close()
		b := make([]byte, 64<<10)
		for {
			n, err := client.Read(b)
			if err != nil {
				return
			}
			said.Store(0)
			if _, err := server.Write(b[:n]); err != nil {
				return
			}
		}
	}()
	b := make([]byte, 4<<10)
	for {
		n, err := server.Read(b)
		if err != nil {
			return
		}
		if after := c.after.Load(); after > 0 && said.Add(int64(n)) > after {
			c.cuts.Add(1)
			return
		}
		if _, err := client.Write(b[:n]); err != nil && !errors.Is(err, io.EOF) {
			return
		}
	}
}

// A connection that breaks in the middle of an answer makes an error of it, never a
// shorter list, which to controllers would be objects that were deleted; and a watch
// that is fed by such reads misses nothing.
//
// Covers: store.postgres-restart
func TestCutAnswers(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t)
	address := server.Database(t)
	c, cut := newCutter(t, address)
	s, other := newStore(t, cut), newStore(t, address)
	kinetest.Start(t, s)
	kinetest.Start(t, other)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	const keys, perTxn = 2000, 100
	value := make([]byte, 500)
	fill := func(prefix string) {
		for i := 0; i < keys; i += perTxn {
			var txn kine.Txn
			for k := range perTxn {
				txn.Success = append(txn.Success, kine.Op{Type: kine.OpPut, Range: kine.Range{Start: fmt.Sprintf("%s%05d", prefix, i+k)}, Value: value})
			}
			if _, err := other.Txn(ctx, txn); err != nil {
				t.Fatal(err)
			}
		}
	}
	fill("/k/")
	res, err := s.List(ctx, kine.PrefixRange("/k/"), kine.ReadOptions{})
	if err != nil || len(res.KVs) != keys {
		t.Fatalf("%d keys, %v", len(res.KVs), err)
	}
	for _, after := range []int64{100, 10_000, 100_000, 500_000} {
		c.after.Store(after)
		before := c.cuts.Load()
		for range 3 {
			res, err := s.List(ctx, kine.PrefixRange("/k/"), kine.ReadOptions{})
			if err == nil && len(res.KVs) != keys {
				t.Fatalf("cut after %d bytes: a list of %d keys without an error", after, len(res.KVs))
			}
			if err == nil || !errors.Is(err, kine.ErrUnavailable) {
				t.Errorf("cut after %d bytes: got %v, want that the store is unavailable", after, err)
			}
		}
		if c.cuts.Load() == before {
			t.Errorf("after %d bytes: nothing was cut", after)
		}
	}
	c.after.Store(0)
	w, err := s.Watch(ctx, kine.PrefixRange("/w/"), kine.WatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	c.after.Store(30_000)
	cuts := c.cuts.Load()
	fill("/w/")
	kinetest.Eventually(t, "the feed was cut", func() bool { return c.cuts.Load() > cuts })
	c.after.Store(0)
	for n := 0; n < keys; {
		resp, ok := <-w.Responses()
		if !ok {
			t.Fatalf("the watch ended after %d events: %v", n, w.Err())
		}
		for _, e := range resp.Events {
			if want := fmt.Sprintf("/w/%05d", n); e.KV.Key != want {
				t.Fatalf("event of %s, want %s", e.KV.Key, want)
			}
			n++
		}
	}
}
