package etcd_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"skiff/kine"
	"skiff/kine/etcd"
	"skiff/kine/etcd/etcdtest"
	"skiff/kine/kinetest"
)

// The suite holds for the original too: what it demands is what etcd does.
//
// Covers: store.contract
func TestContractOnEtcd(t *testing.T) { contract(t, etcdtest.Start(t)) }

// An etcd whose notifications of progress may be ahead of its events serves too:
// what is asked of it is asked with quorum, and no progress is believed.
//
// Covers: store.contract
func TestContractOnOldEtcd(t *testing.T) {
	contract(t, etcdtest.StartOld(t), kinetest.Except{
		"watch progress":                  "this version's progress is not believed, so there is none",
		"watch from the compact revision": "this version does not deliver the delete that it was compacted on (etcd #19179)",
	})
}

// Progress of an old etcd can be ahead of events that it has not sent.
func TestOldProgressIsNotBelieved(t *testing.T) {
	s := open(t, etcdtest.StartOld(t))
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	w, err := s.Watch(ctx, kine.PrefixRange("/w/"), kine.WatchOptions{ProgressNotify: true})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 50 {
		if _, err := s.Create(ctx, fmt.Sprintf("/elsewhere/%d", i), nil, 0); err != nil {
			t.Fatal(err)
		}
		if err := w.RequestProgress(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Create(ctx, "/w/1", nil, 0); err != nil {
		t.Fatal(err)
	}
	select {
	case resp := <-w.Responses():
		if len(resp.Events) != 1 {
			t.Errorf("progress at %d is passed on", resp.Revision)
		}
	case <-ctx.Done():
		t.Error("no event")
	}
}

func contract(t *testing.T, endpoint string, except ...kinetest.Except) {
	kinetest.Run(t, func(t *testing.T) kine.Store {
		s := open(t, endpoint)
		empty(t, s)
		return s
	}, except...)
}

func open(t *testing.T, endpoint string) *etcd.Store {
	t.Helper()
	s, err := etcd.New(etcd.Config{Endpoints: []string{endpoint}, Progress: 50 * time.Millisecond, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	kinetest.Start(t, s)
	return s
}

// empty removes what the last test left.
func empty(t *testing.T, s kine.Store) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	ids, err := s.Leases(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		if err := s.Revoke(ctx, id); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Txn(ctx, kine.Txn{Success: []kine.Op{{Type: kine.OpDelete, Range: kine.PrefixRange("")}}}); err != nil {
		t.Fatal(err)
	}
}

func TestNobodyThere(t *testing.T) {
	s, err := etcd.New(etcd.Config{Endpoints: []string{"http://127.0.0.1:1"}, Timeout: 50 * time.Millisecond, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	short, stop := context.WithTimeout(ctx, 300*time.Millisecond)
	defer stop()
	if _, err := s.Revision(short); err == nil || !strings.Contains(err.Error(), "unavailable") {
		t.Errorf("got %v, want that the store is unavailable", err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
