package kinetest

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"skiff/kine"
)

// FanOut measures how long after a write's begin each of many watchers has it, at
// a number of writes a second. Every watcher must get every event.
func FanOut(b *testing.B, s kine.Store, watchers, rate, seconds int) {
	b.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(seconds)*time.Second+limit)
	defer cancel()
	total := rate * seconds
	lags := make([][]time.Duration, watchers)
	var wg sync.WaitGroup
	for i := range watchers {
		w, err := s.Watch(ctx, kine.PrefixRange("/registry/fan/"), kine.WatchOptions{})
		if err != nil {
			b.Fatal(err)
		}
		lags[i] = make([]time.Duration, 0, total)
		wg.Go(func() {
			for len(lags[i]) < total {
				resp, ok := <-w.Responses()
				if !ok {
					b.Errorf("a watcher ended after %d of %d events: %v", len(lags[i]), total, w.Err())
					return
				}
				now := time.Now().UnixNano()
				for _, e := range resp.Events {
					lags[i] = append(lags[i], time.Duration(now-int64(binary.BigEndian.Uint64(e.KV.Value))))
				}
			}
		})
	}
	const writers = 32
	tick := time.NewTicker(time.Second / time.Duration(rate) * writers)
	defer tick.Stop()
	began := time.Now()
	for n := 0; n < total; {
		// A burst for all writers at a tick, as many clients make it.
		var burst sync.WaitGroup
		for range min(writers, total-n) {
			n++
			key := fmt.Sprintf("/registry/fan/%d", n)
			burst.Go(func() {
				value := binary.BigEndian.AppendUint64(make([]byte, 0, 1024), uint64(time.Now().UnixNano()))
				if _, err := s.Create(ctx, key, value[:1024:1024], 0); err != nil {
					b.Error(err)
				}
			})
		}
		burst.Wait()
		<-tick.C
	}
	b.ReportMetric(float64(total)/time.Since(began).Seconds(), "events/s")
	wg.Wait()
	all := slices.Concat(lags...)
	slices.Sort(all)
	if len(all) != watchers*total {
		b.Fatalf("%d of %d events arrived", len(all), watchers*total)
	}
	b.ReportMetric(float64(all[len(all)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(all[len(all)*99/100].Microseconds())/1000, "p99-ms")
	b.ReportMetric(0, "ns/op")
}
