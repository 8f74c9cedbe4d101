package images

import (
	"context"
	"sync"
)

// flights are pulls that several callers wait for. A pull goes on as long as one of
// them does, and ends with the last.
type flights struct {
	mu    sync.Mutex // guards what follows
	calls map[string]*flight
}

type flight struct {
	callers int
	cancel  context.CancelFunc
	done    chan struct{} // closed when what follows is set

	image *Image
	err   error
}

// do runs pull, or waits for the one that runs under the key already. The context of
// pull has the values of its first caller's and ends when the last caller has left.
func (f *flights) do(ctx context.Context, key string, pull func(context.Context) (*Image, error)) (*Image, error) {
	for {
		call, left := f.join(ctx, key, pull)
		if !left {
			return f.wait(ctx, call)
		}
		// It is ending because all its callers left: its error would be nobody's.
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-call.done:
		}
	}
}

// join returns the key's call with one caller more, or one that its callers have left.
func (f *flights) join(ctx context.Context, key string, pull func(context.Context) (*Image, error)) (call *flight, left bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if call = f.calls[key]; call != nil {
		if call.callers == 0 {
			return call, true
		}
		call.callers++
		return call, false
	}
	shared, cancel := context.WithCancel(context.WithoutCancel(ctx))
	call = &flight{callers: 1, cancel: cancel, done: make(chan struct{})}
	if f.calls == nil {
		f.calls = map[string]*flight{}
	}
	f.calls[key] = call
	go func() {
		defer cancel()
		call.image, call.err = pull(shared)
		f.mu.Lock()
		delete(f.calls, key)
		f.mu.Unlock()
		close(call.done)
	}()
	return call, false
}

func (f *flights) wait(ctx context.Context, call *flight) (*Image, error) {
	select {
	case <-call.done:
		return call.image, call.err
	case <-ctx.Done():
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if call.callers--; call.callers == 0 {
		call.cancel()
	}
	return nil, context.Cause(ctx)
}

// turns let one caller at a time work under a key.
type turns struct {
	mu   sync.Mutex // guards what follows
	held map[string]chan struct{}
}

// take waits for the key's turn, which the returned function gives back.
func (t *turns) take(ctx context.Context, key string) (done func(), err error) {
	for {
		t.mu.Lock()
		other := t.held[key]
		if other == nil {
			if t.held == nil {
				t.held = map[string]chan struct{}{}
			}
			mine := make(chan struct{})
			t.held[key] = mine
			t.mu.Unlock()
			return func() {
				t.mu.Lock()
				delete(t.held, key)
				t.mu.Unlock()
				close(mine)
			}, nil
		}
		t.mu.Unlock()
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-other:
		}
	}
}
