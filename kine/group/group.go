// Package group is the queue before a backend's one writer: who writes waits in
// it, and what waits is committed together.
package group

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"skiff/kine"
	"skiff/kine/mvcc"
)

// maxGroup and maxBytes bound what one commit holds.
const (
	maxGroup = 1024
	maxBytes = 16 << 20
)

// Exec runs SQL in the transaction of a group.
type Exec func(text string, args ...any) error

// Op is a queued write.
type Op struct {
	// Plan runs in the writer; what it returns is the answer once the group is
	// durable. It sets the caller's results.
	Plan func(b *mvcc.Batch) error
	// Keys are the keys that Plan will look at, as far as they are known.
	Keys []string
	// Values tells that Plan needs the values of Keys too.
	Values bool
	// Extra is SQL beyond the planned writes, run in the same transaction.
	Extra func(Exec) error
	// After runs once the group is durable, before the answer.
	After func()
	// Puts is refused when the quota is used up.
	Puts bool
	// Size is how many bytes it stores, roughly.
	Size int

	done chan error
}

// answer tells the waiting caller how it went.
func (o *Op) answer(err error) {
	if err == nil && o.After != nil {
		o.After()
	}
	o.done <- err
}

// Answer tells the callers of the group that was taken last how each went.
func (q *Queue) Answer(ops []*Op, answers []error) {
	q.mu.Lock()
	waiting := len(q.waiting)
	q.mu.Unlock()
	q.pace.ended(len(ops), waiting, time.Since(q.began))
	for i, o := range ops {
		o.answer(answers[i])
	}
}

// Fail tells them that none of it happened, or that nobody knows.
func (q *Queue) Fail(ops []*Op, err error) {
	q.Answer(ops, slices.Repeat([]error{err}, len(ops)))
}

// Queue holds the operations that wait for the writer.
type Queue struct {
	limits         mvcc.Limits
	ready, stopped chan struct{}
	// serves tells that it is started and not stopped, at the price of a load.
	serves atomic.Bool
	// unready is why the store does not serve yet.
	unready atomic.Pointer[error]
	log     *slog.Logger
	// failing is why the last commit failed; nil when it did not.
	failing atomic.Pointer[error]
	// wake has a token when operations may wait.
	wake chan struct{}

	mu      sync.Mutex
	waiting []*Op
	ended   bool
	// enough is the length of waiting at which the writer wants to be woken too.
	enough int

	// pace and began, when the last group was taken, are the writer's own.
	pace  pace
	began time.Time
}

// NewQueue is an empty queue. Operations are queued after Start. The log is told when
// commits begin to fail, and when they succeed again.
func NewQueue(limits mvcc.Limits, log *slog.Logger) *Queue {
	return &Queue{limits: limits, log: log, ready: make(chan struct{}), stopped: make(chan struct{}), wake: make(chan struct{}, 1)}
}

// Start says that the store serves from now on.
func (q *Queue) Start() {
	q.serves.Store(true)
	close(q.ready)
}

// Ready is closed by Start; it implements kine.Runner.
func (q *Queue) Ready() <-chan struct{} { return q.ready }

// Unready says why the store does not serve yet.
func (q *Queue) Unready(err error) { q.unready.Store(&err) }

// Serving waits until the store serves.
func (q *Queue) Serving(ctx context.Context) error {
	if q.serves.Load() {
		return nil
	}
	select {
	case <-q.ready:
	case <-q.stopped:
		return kine.ErrStopped
	case <-ctx.Done():
		if why := q.unready.Load(); why != nil {
			return fmt.Errorf("%w: %w", kine.ErrUnavailable, *why)
		}
		return ctx.Err()
	}
	select {
	case <-q.stopped:
		return kine.ErrStopped
	default:
		return nil
	}
}

// Wake has a value when operations may wait: then Take takes them.
func (q *Queue) Wake() <-chan struct{} { return q.wake }

// Waiting tells whether operations wait.
func (q *Queue) Waiting() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.waiting) > 0
}

// Take is the group of what waits by now; nil when nothing does. While many write
// at a time it waits a moment for those who were just answered.
func (q *Queue) Take() []*Op {
	waited := q.linger()
	q.mu.Lock()
	defer q.mu.Unlock()
	n, size := 0, 0
	for n < min(len(q.waiting), maxGroup) && size < maxBytes {
		size += q.waiting[n].Size
		n++
	}
	ops := q.waiting[:n:n]
	q.pace.began(n, waited)
	q.began = time.Now()
	if q.waiting = q.waiting[n:]; len(q.waiting) == 0 {
		q.waiting = nil
		return ops
	}
	q.signal()
	return ops
}

// linger waits until the group is as large as it will be; false when there is
// nothing to wait for.
func (q *Queue) linger() bool {
	q.mu.Lock()
	if len(q.waiting) == 0 || len(q.waiting) >= q.pace.want || q.pace.limit <= 0 || q.ended {
		q.mu.Unlock()
		return false
	}
	q.enough = q.pace.want
	q.mu.Unlock()
	timer := time.NewTimer(q.pace.limit)
	defer timer.Stop()
	for filled := false; !filled; {
		select {
		case <-q.wake:
		case <-timer.C:
			filled = true
		case <-q.stopped:
			filled = true
		}
		q.mu.Lock()
		if filled = filled || len(q.waiting) >= q.enough; filled {
			q.enough = 0
		}
		q.mu.Unlock()
	}
	return true
}

// signal wakes the writer. The caller holds mu.
func (q *Queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// Stop ends the queue. The writer has answered all that it took; what still waits
// is told that the store has stopped.
func (q *Queue) Stop() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.serves.Store(false)
	q.ended = true
	close(q.stopped)
	for _, o := range q.waiting {
		o.done <- kine.ErrStopped
	}
	q.waiting = nil
}

// Stopped is closed by Stop.
func (q *Queue) Stopped() <-chan struct{} { return q.stopped }

// Submit queues an operation and waits for its end. Once it is queued it runs,
// also when ctx ends meanwhile.
func (q *Queue) Submit(ctx context.Context, o *Op) error {
	if err := q.Serving(ctx); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	o.done = make(chan error, 1)
	q.mu.Lock()
	if q.ended {
		q.mu.Unlock()
		return kine.ErrStopped
	}
	if q.waiting = append(q.waiting, o); len(q.waiting) == 1 || len(q.waiting) == q.enough {
		q.signal()
	}
	q.mu.Unlock()
	select {
	case err := <-o.done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", kine.ErrUnknownOutcome, ctx.Err())
	}
}
