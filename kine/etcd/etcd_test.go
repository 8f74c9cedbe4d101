package etcd_test

import (
	"context"
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
func TestContractOnEtcd(t *testing.T) {
	endpoint := etcdtest.Start(t)
	kinetest.Run(t, func(t *testing.T) kine.Store {
		s, err := etcd.New(etcd.Config{Endpoints: []string{endpoint}, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		kinetest.Start(t, s)
		empty(t, s)
		return s
	})
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
