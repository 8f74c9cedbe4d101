package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"skiff/kine/kinetest"
	"skiff/kine/sqlite"
)

// pause waits, but not beyond ctx.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// A server ends itself at each point of its work in turn, and is started again.
//
// Covers: store.kill
func TestKilledAtEveryPoint(t *testing.T) {
	p, s := start(t, t.TempDir())
	points := sqlite.Points()
	var n, reached atomic.Int64
	kinetest.Chaos{Store: s, Time: 6 * time.Second, Disturb: func(ctx context.Context) {
		point := points[int(n.Add(1)-1)%len(points)]
		p.kill()
		p.up(fmt.Sprintf("%s,%d", point, 1+rand.IntN(3)))
		short, cancel := context.WithTimeout(ctx, 1500*time.Millisecond)
		defer cancel()
		if p.wait(short) {
			reached.Add(1)
		}
		// One that did not come there would end itself when nobody starts it again.
		p.kill()
		p.up("")
		pause(ctx, 200*time.Millisecond)
	}}.Run(t)
	t.Logf("%d of %d processes came to their point", reached.Load(), n.Load())
	if reached.Load() == 0 {
		t.Error("no process came to its point")
	}
}

// A server is stopped for a while, as a machine that swaps or is moved: clients
// give up and come back, and it goes on where it was.
func TestPaused(t *testing.T) {
	p, s := start(t, t.TempDir())
	kinetest.Chaos{Store: s, Time: 3 * time.Second, Disturb: func(ctx context.Context) {
		p.signal(syscall.SIGSTOP)
		pause(ctx, time.Duration(100+rand.IntN(700))*time.Millisecond)
		p.signal(syscall.SIGCONT)
		pause(ctx, 200*time.Millisecond)
	}}.Run(t)
}
