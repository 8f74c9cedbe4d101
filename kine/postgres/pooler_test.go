package postgres

import (
	"context"
	"fmt"
	"testing"
	"time"

	"skiff/kine"
	"skiff/kine/kinetest"
	"skiff/kine/postgres/pgtest"
)

// A pooler in transaction mode gives each transaction any connection: nothing may
// depend on what came before on one. It does not pass notifications, so that others'
// changes are found by asking, or heard of at a direct address.
//
// Covers: store.contract, store.pooler
func TestPooler(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t)
	pooler := server.Pooler(t)
	for _, c := range []struct {
		name   string
		listen bool
	}{{"asking", false}, {"direct address for notifications", true}} {
		t.Run(c.name, func(t *testing.T) {
			kinetest.Run(t, func(t *testing.T) kine.Store {
				s := newStore(t, pooler.Database(t, c.listen))
				kinetest.Start(t, s)
				return s
			})
			t.Run("another server's writes", func(t *testing.T) {
				url := pooler.Database(t, c.listen)
				s, other := newStore(t, url), newStore(t, url)
				kinetest.Start(t, s)
				kinetest.Start(t, other)
				othersWrites(t, s, other, c.listen)
			})
		})
	}
	t.Run("two servers", func(t *testing.T) {
		twoServers(t, pooler.Database(t, false))
	})
	t.Run("linearizable with lost connections", func(t *testing.T) {
		s := newStore(t, pooler.Database(t, false))
		kinetest.Start(t, s)
		kinetest.Faults(t, s, func() { server.CutConnections(t) })
	})
}

// othersWrites are seen by a watch of s, and heard of where that is possible.
func othersWrites(t *testing.T, s, other *Store, heard bool) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if heard {
		kinetest.Eventually(t, "notifications arrive", s.feed.heard.Load)
	}
	w, err := s.Watch(ctx, kine.PrefixRange("/o/"), kine.WatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		key := fmt.Sprintf("/o/%d", i)
		rev, err := other.Create(ctx, key, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		select {
		case resp := <-w.Responses():
			if len(resp.Events) != 1 || resp.Events[0].KV.Key != key || resp.Events[0].KV.ModRevision != rev {
				t.Fatalf("got %+v, want the create of %s at %d", resp, key, rev)
			}
		case <-ctx.Done():
			t.Fatalf("the create of %s is not seen", key)
		}
	}
	if !heard && s.feed.heard.Load() {
		t.Error("the pooler passes notifications: then this tests nothing")
	}
}

func TestListenAddress(t *testing.T) {
	for _, c := range []struct{ name, url, want string }{
		{"none", "postgres://u@pool:6432/db?sslmode=disable", "postgres://u@pool:6432/db?sslmode=disable&target_session_attrs=read-write"},
		{"host and port", "postgres://u:p@pool:6432/db?listen=db.internal:5432&sslmode=disable", "postgres://u:p@db.internal:5432/db?sslmode=disable&target_session_attrs=read-write"},
		{"socket beside a socket", "postgres://u@/db?host=/run/pool&port=6432&listen=/run/pg", "postgres://u@/db?host=%2Frun%2Fpg&target_session_attrs=read-write"},
		{"host beside a socket", "postgres://u@/db?host=/run/pool&port=6432&listen=db:5432", "postgres://u@db:5432/db?target_session_attrs=read-write"},
		{"several servers", "postgres://u@a:5432,b:5433/db?target_session_attrs=any", "postgres://u@/db?host=a%2Cb&port=5432%2C5433&target_session_attrs=any"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := New(Config{URL: c.url})
			if err != nil {
				t.Fatal(err)
			}
			if s.cfg.ListenURL != c.want {
				t.Errorf("it listens at %s, want %s", s.cfg.ListenURL, c.want)
			}
			cfg, err := config(c.url)
			if err != nil || cfg.Runtime["listen"] != "" {
				t.Errorf("the database is told %v, %v", cfg.Runtime, err)
			}
		})
	}
}
