// Package memory gives memory back to the system while the process has little to
// do. The collector lets the heap grow to twice of what lives on it before it
// works, and keeps what a busy time needed: right while requests come, and most
// of what an idle node would use.
package memory

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// period is how often it is looked how much was allocated.
	period = 10 * time.Second
	// calm is how many periods with little to do make an idle process.
	calm = 2
	// little is what an idle process allocates in a period at most.
	little = 32 << 20
	// idlePercent is how much of the heap's size may come before the collector
	// works: a collection of an idle heap comes a few times a minute at most.
	idlePercent = 50
)

// allocated is the metric that counts what was ever allocated.
const allocated = "/gc/heap/allocs:bytes"

// Act is what to do after a period.
type Act int

// Acts of State.After.
const (
	Nothing Act = iota
	// Tighten: the process has become idle.
	Tighten
	// Loosen: it has work again.
	Loosen
)

// State is how busy the process has been.
type State struct {
	quiet int
	idle  bool
}

// After counts a period in which so many bytes were allocated.
func (s *State) After(bytes uint64) Act {
	if bytes > little {
		s.quiet = 0
		if s.idle {
			s.idle = false
			return Loosen
		}
		return Nothing
	}
	if s.idle {
		return Nothing
	}
	if s.quiet++; s.quiet < calm {
		return Nothing
	}
	s.idle = true
	return Tighten
}

// GiveBack watches the process until ctx ends. It leaves the collector alone
// where GOGC says how it is to work.
func GiveBack(ctx context.Context) {
	if os.Getenv("GOGC") != "" {
		return
	}
	normal := debug.SetGCPercent(100)
	debug.SetGCPercent(normal)
	defer debug.SetGCPercent(normal)
	sample := []metrics.Sample{{Name: allocated}}
	read := func() uint64 {
		metrics.Read(sample)
		if sample[0].Value.Kind() != metrics.KindUint64 {
			return 0
		}
		return sample[0].Value.Uint64()
	}
	var s State
	last := read()
	ticker := time.NewTicker(period)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now := read()
		switch s.After(now - last) {
		case Tighten:
			debug.SetGCPercent(idlePercent)
			debug.FreeOSMemory()
		case Loosen:
			debug.SetGCPercent(normal)
		}
		last = now
	}
}
