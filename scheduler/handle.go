package scheduler

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/events"

	"skiff/scheduler/framework"
)

func seconds(n int64) time.Duration { return time.Duration(n) * time.Second }

// backgroundContext is the context of work that outlives a cycle. It is set by
// Run, and plugins made before read it when they need it.
type backgroundContext struct {
	p atomic.Pointer[context.Context]
}

func (b *backgroundContext) set(ctx context.Context) { b.p.Store(&ctx) }
func (b *backgroundContext) get() context.Context {
	if p := b.p.Load(); p != nil {
		return *p
	}
	return context.Background()
}

// handle is what plugins see of the scheduler.
type handle struct {
	s        *Scheduler
	recorder events.EventRecorder
}

var _ framework.Handle = (*handle)(nil)

func (h *handle) Client() kubernetes.Interface               { return h.s.cfg.Client }
func (h *handle) Informers() informers.SharedInformerFactory { return h.s.cfg.Informers }
func (h *handle) Recorder() events.EventRecorder             { return h.recorder }
func (h *handle) Snapshot() framework.Snapshot               { return h.s.snapshot }
func (h *handle) Nominator() framework.Nominator             { return h.s.queue.Nominator() }
func (h *handle) Extenders() []framework.Extender            { return h.s.extenders }
func (h *handle) Activate(pods ...*v1.Pod)                   { h.s.queue.Activate(pods...) }
func (h *handle) Go(fn func(ctx context.Context)) bool       { return h.s.spawn(fn) }

// Filterer and RejectWaiting are answered by the profile's framework, which wraps this handle.
func (h *handle) Filterer() framework.Filterer               { return nil }
func (h *handle) RejectWaiting(*v1.Pod, string, string) bool { return false }
func (h *handle) Parallelize(ctx context.Context, n int, fn func(int)) {
	parallelize(ctx, int(*h.s.conf.Parallelism), n, fn)
}

// serialBelow is where starting goroutines costs more than it saves.
const serialBelow = 16

func parallelize(ctx context.Context, workers, n int, fn func(int)) {
	if n < serialBelow || workers <= 1 {
		for i := 0; i < n && ctx.Err() == nil; i++ {
			fn(i)
		}
		return
	}
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(workers, n) {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n || ctx.Err() != nil {
					return
				}
				fn(i)
			}
		})
	}
	wg.Wait()
}

// spawn runs fn in the background unless the scheduler is ending.
func (s *Scheduler) spawn(fn func(ctx context.Context)) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending {
		return false
	}
	s.background.Go(func() { fn(s.ctx.get()) })
	return true
}
