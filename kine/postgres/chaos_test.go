package postgres

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"skiff/kine"
	"skiff/kine/kinetest"
	"skiff/kine/postgres/pgtest"
)

// servers runs two stores on one database, as one.
func servers(t *testing.T, url string) kine.Store {
	t.Helper()
	e := &kinetest.Either{}
	for range 2 {
		s, err := New(Config{URL: url, CompactInterval: time.Hour, Progress: 200 * time.Millisecond, Timeout: 5 * time.Second, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		kinetest.Start(t, s)
		e.Stores = append(e.Stores, s)
	}
	return e
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// Two servers share a database whose connections are cut and which crashes.
//
// Covers: store.postgres-restart, store.watch-checks
func TestChaos(t *testing.T) {
	t.Parallel()
	db := pgtest.Start(t)
	s := servers(t, db.Database(t))
	kinetest.Chaos{Store: s, Time: 4 * time.Second, Disturb: func(ctx context.Context) {
		if rand.IntN(3) > 0 {
			db.CutConnections(t)
		} else {
			db.Down(t, "immediate")
			pause(ctx, time.Duration(rand.IntN(300))*time.Millisecond)
			db.Up(t)
		}
		pause(ctx, time.Duration(200+rand.IntN(300))*time.Millisecond)
	}}.Run(t)
}

// A standby is promoted when the server is lost. One that commits wait for has
// every acknowledged write. One that lagged has not, and then all who have seen
// more must be told, and never see the revisions again.
//
// Covers: store.postgres-failover
func TestFailover(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name        string
		synchronous bool
	}{{"synchronous standby", true}, {"standby that lags", false}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.Start(t)
			url := db.Database(t)
			standby := db.Standby(t, c.synchronous)
			s := servers(t, pgtest.Both(t, url, db, standby))
			var once sync.Once
			kinetest.Chaos{Store: s, Rounds: 1, Time: 5 * time.Second, MayForget: !c.synchronous, MustForget: !c.synchronous, Disturb: func(ctx context.Context) {
				once.Do(func() {
					pause(ctx, time.Second)
					if !c.synchronous {
						standby.Detach(t)
						pause(ctx, time.Second)
					}
					db.Down(t, "immediate")
					standby.Promote(t)
				})
				<-ctx.Done()
			}}.Run(t)
		})
	}
}
