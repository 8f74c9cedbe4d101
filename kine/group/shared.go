package group

import (
	"context"
	"sync"
)

// Shared lets those who ask while reads are under way wait for the next one together:
// that begins after each of them asked. A is the answer to all of its questions.
type Shared[Q, A any] struct {
	Read func(context.Context, []Q) (A, error)
	// Most bounds the questions of a read; default as many as wait.
	Most int
	// Side is how many reads are under way at a time; default 1.
	Side int

	mu   sync.Mutex
	busy int
	next []*flight[Q, A]
}

type flight[Q, A any] struct {
	asked  []Q
	done   chan struct{}
	answer A
	err    error
}

// Get is what a read answered that began after the call.
func (h *Shared[Q, A]) Get(ctx context.Context, question Q) (A, error) {
	h.mu.Lock()
	if n := len(h.next); n == 0 || h.Most > 0 && len(h.next[n-1].asked) >= h.Most {
		h.next = append(h.next, &flight[Q, A]{done: make(chan struct{})})
	}
	f := h.next[len(h.next)-1]
	f.asked = append(f.asked, question)
	if h.busy < max(1, h.Side) {
		h.busy++
		go h.fly()
	}
	h.mu.Unlock()
	select {
	case <-f.done:
		return f.answer, f.err
	case <-ctx.Done():
		var none A
		return none, ctx.Err()
	}
}

// fly reads until nobody waits.
func (h *Shared[Q, A]) fly() {
	for {
		h.mu.Lock()
		if len(h.next) == 0 {
			h.next = nil
			h.busy--
			h.mu.Unlock()
			return
		}
		f := h.next[0]
		h.next = h.next[1:]
		h.mu.Unlock()
		f.answer, f.err = h.Read(context.Background(), f.asked)
		close(f.done)
	}
}
