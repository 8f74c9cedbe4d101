package loop

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
)

// ErrBehind is what a sync returns that waits for its cache: it is tried again,
// and nobody need be told.
var ErrBehind = errors.New("the cache is behind what was written")

// Loop brings keys to their wished state. Its handlers are registered when Run
// begins and removed when it ends, so a controller that lost its lease leaves
// nothing on the shared informers.
type Loop struct {
	name    string
	workers int
	clock   clock.WithTicker
	sync    func(ctx context.Context, key string) error

	feeds   []feed
	readers []cache.SharedIndexInformer
	tasks   []func(context.Context)

	mu      sync.Mutex // guards queue and pending
	queue   workqueue.TypedRateLimitingInterface[string]
	pending []string // keys added before Run
}

type feed struct {
	informer cache.SharedIndexInformer
	handler  cache.ResourceEventHandler
}

// New makes a loop that calls sync for each key; nothing runs before Run.
func New(name string, p Parts, sync func(ctx context.Context, key string) error) *Loop {
	return &Loop{name: name, workers: p.Workers, clock: p.Clock, sync: sync}
}

// On lets the informer's events reach the handler while the loop runs.
func (l *Loop) On(informer cache.SharedIndexInformer, handler cache.ResourceEventHandler) {
	l.feeds = append(l.feeds, feed{informer, handler})
}

// Reads names informers that are only listed: Run waits for them too.
func (l *Loop) Reads(informers ...cache.SharedIndexInformer) {
	l.readers = append(l.readers, informers...)
}

// Also runs task beside the workers, after the caches have filled; the task
// returns when its context ends.
func (l *Loop) Also(task func(context.Context)) { l.tasks = append(l.tasks, task) }

// Every runs task at once and then each period until the loop ends.
func (l *Loop) Every(period time.Duration, task func(context.Context)) {
	l.Also(func(ctx context.Context) {
		ticker := l.clock.NewTicker(period)
		defer ticker.Stop()
		for {
			guard(l.name, func() { task(ctx) })
			select {
			case <-ctx.Done():
				return
			case <-ticker.C():
			}
		}
	})
}

// Add asks for a sync of key.
func (l *Loop) Add(key string) {
	if q := l.open(key); q != nil {
		q.Add(key)
	}
}

// AddAfter asks for a sync of key when d has passed.
func (l *Loop) AddAfter(key string, d time.Duration) {
	if q := l.open(key); q != nil {
		q.AddAfter(key, d)
	}
}

// AddRateLimited asks for a sync of key after its back-off.
func (l *Loop) AddRateLimited(key string) {
	if q := l.open(key); q != nil {
		q.AddRateLimited(key)
	}
}

// Retries says how often key has failed in a row.
func (l *Loop) Retries(key string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.queue == nil {
		return 0
	}
	return l.queue.NumRequeues(key)
}

// Enqueue asks for a sync of the object's namespace/name.
func (l *Loop) Enqueue(obj any) {
	if key, ok := KeyOf(obj); ok {
		l.Add(key)
	}
}

// EnqueueAfter asks for a sync of the object when d has passed.
func (l *Loop) EnqueueAfter(obj any, d time.Duration) {
	if key, ok := KeyOf(obj); ok {
		l.AddAfter(key, d)
	}
}

func (l *Loop) open(key string) workqueue.TypedRateLimitingInterface[string] {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.queue == nil {
		l.pending = append(l.pending, key)
	}
	return l.queue
}

// Run blocks until ctx ends and every goroutine of the loop has returned.
func (l *Loop) Run(ctx context.Context) error {
	queue := workqueue.NewTypedRateLimitingQueueWithConfig(
		workqueue.DefaultTypedControllerRateLimiter[string](),
		workqueue.TypedRateLimitingQueueConfig[string]{Name: l.name, Clock: l.clock})
	l.mu.Lock()
	l.queue = queue
	pending := l.pending
	l.pending = nil
	l.mu.Unlock()
	defer queue.ShutDown()
	for _, key := range pending {
		queue.Add(key)
	}

	var synced []cache.DoneChecker
	for _, f := range l.feeds {
		registration, err := f.informer.AddEventHandler(f.handler)
		if err != nil {
			return fmt.Errorf("%s: watch: %w", l.name, err)
		}
		defer func() {
			if err := f.informer.RemoveEventHandler(registration); err != nil {
				klog.FromContext(ctx).Error(err, "Could not leave an informer", "controller", l.name)
			}
		}()
		synced = append(synced, registration.HasSyncedChecker())
	}
	for _, r := range l.readers {
		synced = append(synced, r.HasSyncedChecker())
	}
	if !cache.WaitFor(ctx, "", synced...) {
		return nil
	}

	var tasks sync.WaitGroup
	for _, task := range l.tasks {
		tasks.Go(func() { task(ctx) })
	}
	stop := context.AfterFunc(ctx, queue.ShutDown)
	defer stop()
	l.work(ctx, queue)
	tasks.Wait()
	return nil
}

// work hands keys to at most l.workers goroutines at once. One goroutine waits
// while the queue is empty, so an idle controller costs no pool.
func (l *Loop) work(ctx context.Context, queue workqueue.TypedRateLimitingInterface[string]) {
	slots := make(chan struct{}, l.workers)
	var running sync.WaitGroup
	defer running.Wait()
	for {
		slots <- struct{}{}
		key, shutdown := queue.Get()
		if shutdown {
			return
		}
		if ctx.Err() != nil {
			queue.Done(key)
			return
		}
		running.Go(func() {
			defer func() { <-slots }()
			defer queue.Done(key)
			l.handle(ctx, queue, key)
		})
	}
}

func (l *Loop) handle(ctx context.Context, queue workqueue.TypedRateLimitingInterface[string], key string) {
	var err error
	finished := guard(l.name, func() { err = l.sync(ctx, key) })
	switch {
	case finished && err == nil:
		queue.Forget(key)
		return
	case ctx.Err() != nil:
		return
	case err != nil:
		logger := klog.FromContext(ctx)
		if errors.Is(err, ErrBehind) || apierrors.IsConflict(err) || apierrors.HasStatusCause(err, "NamespaceTerminating") {
			logger.V(2).Info("Sync is tried again", "controller", l.name, "key", key, "err", err)
		} else {
			logger.Error(err, "Sync failed, it is tried again", "controller", l.name, "key", key)
		}
	}
	queue.AddRateLimited(key)
}

// guard keeps one object's panic from ending every controller of the process.
func guard(name string, f func()) (finished bool) {
	defer func() {
		if r := recover(); r != nil {
			klog.ErrorS(fmt.Errorf("panic: %v", r), "Controller panicked", "controller", name, "stack", string(debug.Stack()))
		}
	}()
	f()
	return true
}
