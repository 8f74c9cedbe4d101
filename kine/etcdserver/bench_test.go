package etcdserver_test

import (
	"log/slog"
	"testing"

	"skiff/kine"
	"skiff/kine/etcd"
	"skiff/kine/kinetest"
)

// BenchmarkFace is the SQLite store through the gRPC face and etcd's client.
func BenchmarkFace(b *testing.B) {
	kinetest.Bench(b, func(b *testing.B) kine.Store {
		s, err := etcd.New(etcd.Config{Endpoints: []string{serve(b)}, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			b.Fatal(err)
		}
		kinetest.Start(b, s)
		return s
	})
}
