package kinetest

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"skiff/kine"
)

// Bench measures puts of 1 KiB by 1, 16 and 256 clients, and lists of 10,000
// keys. open makes an empty store.
func Bench(b *testing.B, open func(b *testing.B) kine.Store) {
	for _, clients := range []int{1, 16, 256} {
		b.Run(fmt.Sprintf("put/clients=%d", clients), func(b *testing.B) { benchPut(b, open(b), clients) })
	}
	b.Run("list/keys=10000", func(b *testing.B) {
		s := open(b)
		Fill(b, s, 10_000, 1024)
		for b.Loop() {
			res, err := s.List(context.Background(), kine.PrefixRange("/registry/pods/"), kine.ReadOptions{})
			if err != nil || len(res.KVs) != 10_000 {
				b.Fatal(len(res.KVs), err)
			}
		}
	})
}

func benchPut(b *testing.B, s kine.Store, clients int) {
	value := make([]byte, 1024)
	var n atomic.Int64
	var wg sync.WaitGroup
	b.ResetTimer()
	for range clients {
		wg.Go(func() {
			for {
				i := n.Add(1)
				if i > int64(b.N) {
					return
				}
				if _, err := s.Create(context.Background(), fmt.Sprintf("/registry/pods/default/pod-%d", i), value, 0); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "puts/s")
}

// Fill puts n keys of a size, as many at once as a transaction takes.
func Fill(b *testing.B, s kine.Store, n, size int) {
	b.Helper()
	value := make([]byte, size)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for {
				from := int(next.Add(100)) - 100
				if from >= n {
					return
				}
				var t kine.Txn
				for i := from; i < min(from+100, n); i++ {
					t.Success = append(t.Success, kine.Op{Type: kine.OpPut, Range: kine.Range{Start: fmt.Sprintf("/registry/pods/default/pod-%07d", i)}, Value: value})
				}
				if _, err := s.Txn(context.Background(), t); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}
