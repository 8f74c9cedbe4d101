// Package pods drives the work on pods: at most one step of a pod at a time,
// a goroutine only while a pod has something to do.
package pods

import (
	"context"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// Step does the next thing for a pod, and returns when to look again; 0 means
// not before something happens.
type Step func(ctx context.Context, uid types.UID) time.Duration

// Workers runs steps.
type Workers struct {
	step Step

	mu   sync.Mutex // guards what follows
	base context.Context
	pods map[types.UID]*worker
	wg   sync.WaitGroup
}

// worker is one pod: idle with at most a timer, or busy with a goroutine.
type worker struct {
	busy, dirty bool
	cancel      context.CancelFunc
	timer       *time.Timer
}

// New returns workers that do nothing before Run.
func New(step Step) *Workers {
	return &Workers{step: step, pods: map[types.UID]*worker{}}
}

// Run lets steps run until the context ends, and waits for those under way.
func (w *Workers) Run(ctx context.Context) error {
	w.mu.Lock()
	w.base = ctx
	for uid, p := range w.pods {
		if p.dirty && !p.busy {
			w.launch(uid, p)
		}
	}
	w.mu.Unlock()
	<-ctx.Done()
	w.mu.Lock()
	w.base = nil
	for _, p := range w.pods {
		if p.timer != nil {
			p.timer.Stop()
		}
	}
	w.mu.Unlock()
	w.wg.Wait()
	return nil
}

// Notify makes a step of the pod run soon.
func (w *Workers) Notify(uid types.UID) { w.poke(uid, false) }

// Interrupt also ends the step under way, because its purpose has changed.
func (w *Workers) Interrupt(uid types.UID) { w.poke(uid, true) }

func (w *Workers) poke(uid types.UID, interrupt bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.pods[uid]
	if p == nil {
		p = &worker{}
		w.pods[uid] = p
	}
	p.dirty = true
	if p.busy {
		if interrupt && p.cancel != nil {
			p.cancel()
		}
		return
	}
	if w.base != nil {
		w.launch(uid, p)
	}
}

// launch starts the pod's goroutine. Caller holds mu and base is set.
func (w *Workers) launch(uid types.UID, p *worker) {
	if p.timer != nil {
		p.timer.Stop()
		p.timer = nil
	}
	p.busy = true
	base := w.base
	w.wg.Go(func() { w.work(base, uid, p) })
}

// work runs steps until the pod has nothing to do.
func (w *Workers) work(base context.Context, uid types.UID, p *worker) {
	for {
		w.mu.Lock()
		p.dirty = false
		ctx, cancel := context.WithCancel(base)
		p.cancel = cancel
		w.mu.Unlock()
		again := w.step(ctx, uid)
		cancel()
		w.mu.Lock()
		if p.dirty && base.Err() == nil {
			w.mu.Unlock()
			continue
		}
		p.busy, p.cancel = false, nil
		switch {
		case base.Err() != nil:
		case again > 0:
			p.timer = time.AfterFunc(again, func() { w.Notify(uid) })
		default:
			delete(w.pods, uid)
		}
		w.mu.Unlock()
		return
	}
}
