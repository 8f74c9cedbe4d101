package etcd_test

import (
	"context"
	"log/slog"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/server/v3/embed"

	"skiff/kine"
	"skiff/kine/etcd"
	"skiff/kine/kinetest"
)

// startEtcd runs a real etcd of one member on sockets in a temporary folder.
func startEtcd(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	cfg := embed.NewConfig()
	cfg.Dir = filepath.Join(dir, "data")
	cfg.LogLevel = "fatal"
	cfg.LogOutputs = []string{"/dev/null"}
	client := url.URL{Scheme: "http", Host: "127.0.0.1:0"}
	peer := url.URL{Scheme: "http", Host: "127.0.0.1:0"}
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	select {
	case <-e.Server.ReadyNotify():
	case err := <-e.Err():
		t.Fatal(err)
	case <-time.After(30 * time.Second):
		t.Fatal("etcd did not become ready")
	}
	return "http://" + e.Clients[0].Addr().String()
}

// The suite holds for the original too: what it demands is what etcd does.
//
// Covers: store.contract
func TestContractOnEtcd(t *testing.T) {
	endpoint := startEtcd(t)
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
