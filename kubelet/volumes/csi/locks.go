package csi

import (
	"context"
	"sync"
)

// locks let one goroutine at a time work on a volume: drivers may expect so.
type locks struct {
	mu   sync.Mutex // guards held
	held map[key]*lock
}

type lock struct {
	users int
	slot  chan struct{}
}

// lock waits for the volume; the function it returns gives it back.
func (l *locks) lock(ctx context.Context, k key) (func(), error) {
	l.mu.Lock()
	if l.held == nil {
		l.held = map[key]*lock{}
	}
	h := l.held[k]
	if h == nil {
		h = &lock{slot: make(chan struct{}, 1)}
		l.held[k] = h
	}
	h.users++
	l.mu.Unlock()
	leave := func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if h.users--; h.users == 0 {
			delete(l.held, k)
		}
	}
	select {
	case h.slot <- struct{}{}:
		return func() { <-h.slot; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, ctx.Err()
	}
}
