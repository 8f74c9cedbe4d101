package podstate

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/apimachinery/pkg/types"
	internalapi "k8s.io/cri-api/pkg/apis"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"
)

// WatcherConfig configures a Watcher.
type WatcherConfig struct {
	Runtime internalapi.RuntimeService
	// Notify is called with each pod whose state in the runtime changed. It
	// must not block.
	Notify func(types.UID)
	// Relisted, when set, is told when a full list began, and when the one before it
	// did, zero for none.
	Relisted func(began, before time.Time)
	// RelistEvents is the period of the full list while the event stream
	// works. Default 5 minutes.
	RelistEvents time.Duration
	// RelistPlain is the period while the runtime offers no events. Default 1 s.
	RelistPlain time.Duration
}

// Watcher turns runtime events, and the difference between full lists where
// there are none, into notifications about pods.
type Watcher struct {
	cfg WatcherConfig

	mu         sync.Mutex // guards what follows
	lastRelist time.Time
	relistErr  error
	streaming  bool
}

// NewWatcher checks the configuration.
func NewWatcher(cfg WatcherConfig) (*Watcher, error) {
	if cfg.Runtime == nil || cfg.Notify == nil {
		return nil, errors.New("podstate: Runtime and Notify are required")
	}
	if cfg.RelistEvents == 0 {
		cfg.RelistEvents = 5 * time.Minute
	}
	if cfg.RelistPlain == 0 {
		cfg.RelistPlain = time.Second
	}
	return &Watcher{cfg: cfg}, nil
}

// Healthy returns an error when the runtime has not answered a list lately.
func (w *Watcher) Healthy() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.lastRelist.IsZero() {
		return errors.New("pleg has yet to be successful")
	}
	limit := 3*time.Minute + w.cfg.RelistPlain
	if w.streaming {
		limit = 3*time.Minute + w.cfg.RelistEvents
	}
	if since := time.Since(w.lastRelist); w.relistErr != nil && since > limit {
		return fmt.Errorf("pleg was last seen active %v ago; threshold is %v", since.Round(time.Millisecond), limit)
	}
	return nil
}

// Run watches until the context ends.
func (w *Watcher) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	relistNow := make(chan struct{}, 1)
	wg.Go(func() { w.stream(ctx, relistNow) })

	last := Listing{}
	var before time.Time
	for {
		began := time.Now()
		next, err := List(ctx, w.cfg.Runtime)
		if w.cfg.Relisted != nil {
			w.cfg.Relisted(began, before)
		}
		before = began
		w.mu.Lock()
		w.relistErr = err
		if err == nil {
			w.lastRelist = time.Now()
		}
		period := w.cfg.RelistPlain
		if w.streaming {
			period = w.cfg.RelistEvents
		}
		w.mu.Unlock()
		if err == nil {
			for _, uid := range last.Changed(next) {
				w.cfg.Notify(uid)
			}
			last = next
		} else if ctx.Err() == nil {
			klog.FromContext(ctx).Error(err, "Listing pods of the runtime failed")
		}
		timer := time.NewTimer(period)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-relistNow:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// stream follows the runtime's events, and asks for a full list whenever the
// stream starts or breaks, since events may have been missed in between.
func (w *Watcher) stream(ctx context.Context, relist chan<- struct{}) {
	setStreaming := func(on bool) {
		w.mu.Lock()
		changed := w.streaming != on
		w.streaming = on
		w.mu.Unlock()
		if changed {
			select {
			case relist <- struct{}{}:
			default:
			}
		}
	}
	backoff := time.Second
	for ctx.Err() == nil {
		events := make(chan *runtimeapi.ContainerEventResponse, 128)
		done := make(chan struct{})
		go func() {
			defer close(done)
			for e := range events {
				setStreaming(true)
				if uid := types.UID(e.GetPodSandboxStatus().GetMetadata().GetUid()); uid != "" {
					w.cfg.Notify(uid)
				}
			}
		}()
		err := w.cfg.Runtime.GetContainerEvents(ctx, events, func(runtimeapi.RuntimeService_GetContainerEventsClient) {
			setStreaming(true)
			backoff = time.Second
		})
		close(events)
		<-done
		setStreaming(false)
		if ctx.Err() != nil {
			return
		}
		if status.Code(err) == codes.Unimplemented {
			klog.FromContext(ctx).Info("The container runtime offers no events; pods are listed instead", "period", w.cfg.RelistPlain)
			return
		}
		timer := time.NewTimer(backoff)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		backoff = min(2*backoff, 30*time.Second)
	}
}

// Listing is a full list: per pod, the state of each sandbox and container.
type Listing map[types.UID]map[string]int32

// List asks the runtime for all sandboxes and containers.
func List(ctx context.Context, runtime internalapi.RuntimeService) (Listing, error) {
	sandboxes, err := runtime.ListPodSandbox(ctx, nil)
	if err != nil {
		return nil, fmt.Errorf("list sandboxes: %w", err)
	}
	containers, err := runtime.ListContainers(ctx, nil)
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	l := Listing{}
	put := func(uid types.UID, id string, state int32) {
		if uid == "" {
			return
		}
		if l[uid] == nil {
			l[uid] = map[string]int32{}
		}
		l[uid][id] = state
	}
	for _, s := range sandboxes {
		put(uidOf(s.Labels), s.Id, int32(s.State))
	}
	for _, c := range containers {
		put(uidOf(c.Labels), c.Id, int32(c.State))
	}
	return l, nil
}

// Changed returns the pods that differ between two listings.
func (l Listing) Changed(next Listing) []types.UID {
	var out []types.UID
	for uid, now := range next {
		before := l[uid]
		same := len(before) == len(now)
		for id, state := range now {
			if s, ok := before[id]; !ok || s != state {
				same = false
				break
			}
		}
		if !same {
			out = append(out, uid)
		}
	}
	for uid := range l {
		if _, ok := next[uid]; !ok {
			out = append(out, uid)
		}
	}
	return out
}
