package group

import (
	"context"
	"sync"
)

// Shared lets all who ask while one read is under way wait for the next one
// together: that begins after each of them asked.
type Shared struct {
	// Read finds the newest revision.
	Read func(context.Context) (int64, error)

	mu   sync.Mutex
	busy bool
	next *flight
}

type flight struct {
	done     chan struct{}
	revision int64
	err      error
}

// Get is a revision that was read after the call began.
func (h *Shared) Get(ctx context.Context) (int64, error) {
	h.mu.Lock()
	if h.next == nil {
		h.next = &flight{done: make(chan struct{})}
	}
	f := h.next
	if !h.busy {
		h.busy = true
		go h.fly()
	}
	h.mu.Unlock()
	select {
	case <-f.done:
		return f.revision, f.err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// fly reads until nobody waits.
func (h *Shared) fly() {
	for {
		h.mu.Lock()
		f := h.next
		h.next = nil
		if f == nil {
			h.busy = false
			h.mu.Unlock()
			return
		}
		h.mu.Unlock()
		f.revision, f.err = h.Read(context.Background())
		close(f.done)
	}
}
