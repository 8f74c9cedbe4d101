package postgres

import (
	"testing"

	"skiff/kine"
	"skiff/kine/kinetest"
	"skiff/kine/postgres/pgtest"
)

func BenchmarkStore(b *testing.B) {
	server := pgtest.Start(b)
	kinetest.Bench(b, func(b *testing.B) kine.Store {
		s := newStore(b, server.Database(b))
		kinetest.Start(b, s)
		return s
	})
}
