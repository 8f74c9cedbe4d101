package chaos

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"testing"
	"time"

	"skiff/kine/etcd"
	"skiff/kine/etcd/etcdtest"
	"skiff/kine/kinetest"
)

// The members of an etcd cluster of three are killed one at a time under load.
// Progress is asked for all the time, so that there is always some on its way when
// a watch is opened.
//
// Covers: store.etcd-members
func TestEtcdMembersDie(t *testing.T) {
	c := etcdtest.NewCluster(t, 3)
	s, err := etcd.New(etcd.Config{Endpoints: c.Endpoints(), Timeout: 10 * time.Second, CompactInterval: -1, Progress: 3 * time.Millisecond, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	kinetest.Start(t, s)
	kinetest.Chaos{Store: s, Time: 8 * time.Second, Disturb: func(ctx context.Context) {
		i := rand.IntN(3)
		c.Kill(i)
		pause(ctx, time.Duration(500+rand.IntN(1500))*time.Millisecond)
		c.Up(i)
		pause(ctx, 1500*time.Millisecond)
	}}.Run(t)
}
