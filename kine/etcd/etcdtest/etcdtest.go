// Package etcdtest runs etcd servers for a test: one inside the test's process,
// or a cluster of processes that can be killed.
package etcdtest

import (
	"fmt"
	"net/url"
	"path/filepath"
	"testing"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
)

// ready is how long a member may take to serve.
const ready = 30 * time.Second

// Start runs an etcd of one member, on ports that the system picks, until the
// test's end. It returns the URL for clients.
func Start(t testing.TB) string {
	t.Helper()
	cfg := config(filepath.Join(t.TempDir(), "data"))
	any := []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls, cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = any, any, any, any
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	e, err := serve(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	return "http://" + e.Clients[0].Addr().String()
}

func config(dir string) *embed.Config {
	cfg := embed.NewConfig()
	cfg.Dir = dir
	cfg.LogLevel = "fatal"
	cfg.LogOutputs = []string{"/dev/null"}
	return cfg
}

func serve(cfg *embed.Config) (*embed.Etcd, error) {
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		return nil, err
	}
	select {
	case <-e.Server.ReadyNotify():
		return e, nil
	case err := <-e.Err():
		e.Close()
		return nil, err
	case <-time.After(ready):
		e.Close()
		return nil, fmt.Errorf("etcd did not become ready in %v", ready)
	}
}
