package etcd_test

import (
	"log/slog"
	"testing"

	"skiff/kine"
	"skiff/kine/etcd"
	"skiff/kine/etcd/etcdtest"
	"skiff/kine/kinetest"
)

// BenchmarkStore is etcd itself, for comparison.
func BenchmarkStore(b *testing.B) {
	kinetest.Bench(b, func(b *testing.B) kine.Store {
		s, err := etcd.New(etcd.Config{Endpoints: []string{etcdtest.Start(b)}, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			b.Fatal(err)
		}
		kinetest.Start(b, s)
		return s
	})
}
