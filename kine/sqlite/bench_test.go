package sqlite

import (
	"path/filepath"
	"runtime"
	"testing"

	"skiff/kine"
	"skiff/kine/kinetest"
)

func BenchmarkStore(b *testing.B) {
	kinetest.Bench(b, func(b *testing.B) kine.Store {
		s := newStore(b, filepath.Join(b.TempDir(), "state.db"))
		kinetest.Start(b, s)
		return s
	})
}

func BenchmarkOpenMillionKeys(b *testing.B) {
	path := filepath.Join(b.TempDir(), "state.db")
	s := newStore(b, path)
	stop := kinetest.Start(b, s)
	kinetest.Fill(b, s, 1_000_000, 64)
	stop()
	b.ResetTimer()
	for b.Loop() {
		s := newStore(b, path)
		kinetest.Start(b, s)()
	}
	b.StopTimer()
	s = newStore(b, path)
	kinetest.Start(b, s)
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	b.ReportMetric(float64(m.HeapAlloc)/(1<<20), "MiB")
}

// BenchmarkFanOut is 1,000 events a second to 1,000 watchers.
func BenchmarkFanOut(b *testing.B) {
	s := newStore(b, filepath.Join(b.TempDir(), "state.db"))
	kinetest.Start(b, s)
	kinetest.FanOut(b, s, 1000, 1000, 5)
}
