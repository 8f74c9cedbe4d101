package bench

import (
	"context"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"skiff/e2e/bench/figures"
)

// Watches is what watches cost the server of which nothing comes.
type Watches struct {
	Name        string  `json:"name"`
	Watches     int     `json:"watches"`
	Connections int     `json:"connections"`
	BeforeMiB   float64 `json:"beforeMiB"` // the server's own memory without them
	AfterMiB    float64 `json:"afterMiB"`  // and with them
	WatchKiB    float64 `json:"watchKiB"`  // of one
	CPUPercent  float64 `json:"cpuPercent"`
}

// comeToRest is how long the server has to come to rest: what a busy time needed is
// given back in that time.
const comeToRest = 45 * time.Second

// idleWatches opens watches over the connections that the clients have anyway,
// and measures how much more memory the server needs.
func idleWatches(ctx context.Context, r *run) (err error) {
	n := r.cfg.IdleWatches
	if n == 0 || r.cfg.Server == 0 {
		return nil
	}
	if err := pause(ctx, comeToRest); err != nil {
		return err
	}
	w := Watches{Name: "idle-watches", Watches: n, Connections: len(r.clients)}
	if _, w.BeforeMiB, err = figures.Memory(r.cfg.Server); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	var open atomic.Int64
	stop := r.progress("idle-watches", n, &open)
	for i := range n {
		k := r.clients[i%len(r.clients)].CoreV1().RESTClient()
		body, err := k.Get().AbsPath("/api/v1/namespaces/"+r.cfg.Namespace+"/secrets").
			Param("watch", "true").Param("allowWatchBookmarks", "true").Param("timeoutSeconds", "3600").Stream(ctx)
		if err != nil {
			stop()
			return fmt.Errorf("idle watch %d: %w", i, err)
		}
		open.Add(1)
		all.Go(func() {
			_, _ = io.Copy(io.Discard, body) // it ends with the measurement
			body.Close()
			open.Add(-1)
		})
	}
	stop()
	if err := pause(ctx, comeToRest); err != nil {
		return err
	}
	before, began := r.used(), time.Now()
	if err := pause(ctx, idleTime); err != nil {
		return err
	}
	w.CPUPercent = 100 * float64(r.used()-before) / float64(time.Since(began))
	if _, w.AfterMiB, err = figures.Memory(r.cfg.Server); err != nil {
		return err
	}
	if left := open.Load(); left != int64(n) {
		return fmt.Errorf("idle watches: %d of %d are left", left, n)
	}
	w.WatchKiB = (w.AfterMiB - w.BeforeMiB) * 1024 / float64(n)
	return r.out.Encode(w)
}
