package volume

import (
	"context"
	"sync"
)

// Locks let one goroutine at a time work on a volume, which K names: drivers may expect
// so. The zero value is ready.
type Locks[K comparable] struct {
	mu   sync.Mutex // guards held
	held map[K]*lock
}

type lock struct {
	users int
	slot  chan struct{}
}

// Try takes the volume where nobody has it.
func (l *Locks[K]) Try(k K) (unlock func(), ok bool) {
	h, leave := l.enter(k)
	select {
	case h.slot <- struct{}{}:
		return func() { <-h.slot; leave() }, true
	default:
		leave()
		return nil, false
	}
}

// Lock waits for the volume; the function it returns gives it back.
func (l *Locks[K]) Lock(ctx context.Context, k K) (func(), error) {
	h, leave := l.enter(k)
	select {
	case h.slot <- struct{}{}:
		return func() { <-h.slot; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, ctx.Err()
	}
}

// enter finds the volume's lock, which is there until the last has left.
func (l *Locks[K]) enter(k K) (h *lock, leave func()) {
	l.mu.Lock()
	if l.held == nil {
		l.held = map[K]*lock{}
	}
	h = l.held[k]
	if h == nil {
		h = &lock{slot: make(chan struct{}, 1)}
		l.held[k] = h
	}
	h.users++
	l.mu.Unlock()
	return h, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if h.users--; h.users == 0 {
			delete(l.held, k)
		}
	}
}
