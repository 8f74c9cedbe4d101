package pluginwatch

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
	"k8s.io/klog/v2"
)

const (
	// rescan finds what the kernel did not tell of.
	rescan = 30 * time.Second
	// poll is how often to look where the kernel cannot tell at all.
	poll = time.Second
)

// served is a socket that is registered or being registered.
type served struct {
	id     identity
	cancel context.CancelFunc
	done   chan struct{}
	info   *Info // what is registered; read it after done
}

// end stops the registration and returns what is registered.
func (s *served) end() *Info {
	s.cancel()
	<-s.done
	return s.info
}

// Run registers plugins until the context ends. Those that are registered then
// stay so: the kubelet finds them again when it comes back.
func (w *Watcher) Run(ctx context.Context) error {
	if err := os.MkdirAll(w.dir, 0o750); err != nil {
		return fmt.Errorf("plugin registration: %w", err)
	}
	log := klog.FromContext(ctx)
	events, failures, every := make(<-chan fsnotify.Event), make(<-chan error), poll
	watcher, err := fsnotify.NewWatcher()
	if err == nil {
		defer func() { _ = watcher.Close() }()
		events, failures, every = watcher.Events, watcher.Errors, rescan
	} else {
		log.Info("Watching for plugins is not possible, looking every second instead", "path", w.dir, "err", err)
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	sockets := map[string]*served{}
	for {
		seen, folders, err := scan(w.dir)
		if err != nil {
			log.Info("Looking for plugins failed, will try again", "path", w.dir, "err", err)
		} else {
			w.follow(ctx, &wg, sockets, seen)
		}
		if watcher != nil && watchAll(watcher, folders) {
			continue // what a new folder got before it was watched
		}
		select {
		case <-ctx.Done():
			return nil
		case <-events:
		case err := <-failures:
			log.V(2).Info("Watching for plugins lost events", "err", err)
		case <-ticker.C:
		}
	}
}

// watchAll watches the folders, and reports whether one is new.
func watchAll(watcher *fsnotify.Watcher, folders []string) bool {
	have := map[string]bool{}
	for _, dir := range watcher.WatchList() {
		have[dir] = true
	}
	added := false
	for _, dir := range folders {
		if !have[dir] && watcher.Add(dir) == nil {
			added = true
		}
	}
	return added
}

// follow brings what is served in step with the sockets there are.
func (w *Watcher) follow(ctx context.Context, wg *sync.WaitGroup, sockets map[string]*served, seen map[string]identity) {
	have := map[string]identity{}
	for socket, s := range sockets {
		have[socket] = s.id
	}
	for _, step := range plan(seen, have) {
		var before *Info
		if step.end {
			before = sockets[step.socket].end()
			delete(sockets, step.socket)
		}
		if !step.begin {
			if before != nil {
				klog.FromContext(ctx).Info("A plugin is gone", "type", before.Type, "plugin", before.Name, "socket", step.socket)
				w.deregister(before)
			}
			continue
		}
		ctx, cancel := context.WithCancel(ctx)
		s := &served{id: seen[step.socket], cancel: cancel, done: make(chan struct{})}
		sockets[step.socket] = s
		wg.Go(func() {
			defer close(s.done)
			defer cancel()
			s.info = w.serve(ctx, step.socket, before)
		})
	}
}
