package cri

import (
	"context"
	"sync"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// eventBacklog is how many events a subscriber may be behind before it is cut
// off; it then lists anew.
const eventBacklog = 1000

// events spreads container events to subscribers.
type events struct {
	mu   sync.Mutex
	subs map[chan *runtimeapi.ContainerEventResponse]struct{} // guarded by mu
}

func newEvents() *events {
	return &events{subs: make(map[chan *runtimeapi.ContainerEventResponse]struct{})}
}

func (e *events) subscribe() chan *runtimeapi.ContainerEventResponse {
	ch := make(chan *runtimeapi.ContainerEventResponse, eventBacklog)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.subs[ch] = struct{}{}
	return ch
}

func (e *events) unsubscribe(ch chan *runtimeapi.ContainerEventResponse) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, ok := e.subs[ch]; ok {
		delete(e.subs, ch)
		close(ch)
	}
}

func (e *events) any() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.subs) > 0
}

func (e *events) publish(ev *runtimeapi.ContainerEventResponse) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for ch := range e.subs {
		select {
		case ch <- ev:
		default:
			delete(e.subs, ch)
			close(ch)
		}
	}
}

// emit tells of a change of a container, or with the sandbox's own ID of a sandbox.
func (r *Runtime) emit(id string, sb *sandbox, kind runtimeapi.ContainerEventType) {
	if !r.events.any() {
		return
	}
	ev := &runtimeapi.ContainerEventResponse{ContainerId: id, ContainerEventType: kind, CreatedAt: time.Now().UnixNano()}
	if sb != nil {
		ev.PodSandboxStatus = sb.status()
		for _, c := range r.containersOf(sb.id) {
			ev.ContainersStatuses = append(ev.ContainersStatuses, c.status())
		}
	}
	r.events.publish(ev)
}

// GetContainerEvents implements RuntimeService: it sends events to the channel
// until ctx ends or the subscriber has fallen too far behind.
func (r *Runtime) GetContainerEvents(ctx context.Context, out chan *runtimeapi.ContainerEventResponse, connected func(runtimeapi.RuntimeService_GetContainerEventsClient)) error {
	ch := r.events.subscribe()
	defer r.events.unsubscribe(ch)
	if connected != nil {
		connected(nil)
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case ev, ok := <-ch:
			if !ok {
				return errLagging
			}
			select {
			case out <- ev:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
}
