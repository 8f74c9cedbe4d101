package group

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"

	"skiff/kine"
	"skiff/kine/mvcc"
)

// submit queues n operations one after the other and collects how they end.
func submit(ctx context.Context, q *Queue, n, size int) <-chan error {
	ends := make(chan error, n)
	for i := range n {
		go func() { ends <- q.Submit(ctx, &Op{Size: size, Keys: []string{fmt.Sprint(i)}}) }()
		synctest.Wait()
	}
	return ends
}

// What waits is taken in its order, in groups that are bounded, and nothing is
// left without another wake-up.
func TestTake(t *testing.T) {
	for _, c := range []struct {
		name    string
		n, size int
		want    []int
	}{
		{"one", 1, 1, []int{1}},
		{"all at once", 100, 1, []int{100}},
		{"many", maxGroup + 10, 1, []int{maxGroup, 10}},
		{"large ones", 5, maxBytes / 2, []int{2, 2, 1}},
		{"one that is too large alone", 2, maxBytes + 1, []int{1, 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := NewQueue(mvcc.Limits{}, slog.New(slog.DiscardHandler))
				q.Start()
				ends := submit(t.Context(), q, c.n, c.size)
				var groups []int
				next := 0
				for q.Waiting() {
					<-q.Wake() // a wake-up that does not come is a deadlock here
					ops := q.Take()
					groups = append(groups, len(ops))
					for _, o := range ops {
						if o.Keys[0] != fmt.Sprint(next) {
							t.Errorf("operation %s is taken where %d is due", o.Keys[0], next)
						}
						next++
						q.Answer([]*Op{o}, []error{nil})
					}
				}
				if !slices.Equal(groups, c.want) {
					t.Errorf("groups of %v, want %v", groups, c.want)
				}
				for range c.n {
					if err := <-ends; err != nil {
						t.Error(err)
					}
				}
			})
		})
	}
}

func TestEndOfOperations(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(q *Queue, cancel context.CancelFunc)
		want error
	}{
		{"answered", func(q *Queue, _ context.CancelFunc) { q.Fail(q.Take(), kine.ErrKeyExists) }, kine.ErrKeyExists},
		{"the caller went", func(_ *Queue, cancel context.CancelFunc) { cancel() }, kine.ErrUnknownOutcome},
		{"stopped while it waits", func(q *Queue, _ context.CancelFunc) { q.Stop() }, kine.ErrStopped},
		{"stopped after it was taken", func(q *Queue, _ context.CancelFunc) {
			ops := q.Take()
			q.Stop()
			q.Answer(ops, []error{nil})
		}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := NewQueue(mvcc.Limits{}, slog.New(slog.DiscardHandler))
				q.Start()
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				ends := submit(ctx, q, 1, 1)
				c.do(q, cancel)
				if err := <-ends; !errors.Is(err, c.want) {
					t.Errorf("it ended with %v, want %v", err, c.want)
				}
			})
		})
	}
	q := NewQueue(mvcc.Limits{}, slog.New(slog.DiscardHandler))
	q.Start()
	q.Stop()
	if err := q.Submit(t.Context(), &Op{}); !errors.Is(err, kine.ErrStopped) {
		t.Errorf("after the end: %v", err)
	}
}

// A queue that is not started says why, once the caller does not wait any longer.
func TestNotServing(t *testing.T) {
	q := NewQueue(mvcc.Limits{}, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := q.Submit(ctx, &Op{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the context's end", err)
	}
	why := errors.New("the disk is full")
	q.Unready(why)
	if err := q.Submit(ctx, &Op{}); !errors.Is(err, kine.ErrUnavailable) || !errors.Is(err, why) {
		t.Errorf("got %v, want the reason", err)
	}
}
