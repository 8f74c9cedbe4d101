package scheduler

import (
	"context"
	"fmt"

	"k8s.io/klog/v2"
)

// Run schedules until ctx ends, and returns when bindings and preemptions in
// the background have ended too. It may be called once.
func (s *Scheduler) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.ctx.set(ctx)
	if s.broadcaster != nil {
		if err := s.broadcaster.StartRecordingToSinkWithContext(ctx); err != nil {
			return fmt.Errorf("scheduler: recording events: %w", err)
		}
		defer s.broadcaster.Shutdown()
	}
	s.cfg.Informers.StartWithContext(ctx)
	for kind, ok := range s.cfg.Informers.WaitForCacheSync(ctx.Done()) {
		if !ok {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("scheduler: the list of %v could not be read", kind)
		}
	}
	defer func() {
		s.queue.Close()
		cancel()
		s.mu.Lock()
		s.ending = true
		s.mu.Unlock()
		s.background.Wait()
	}()
	if !s.waitHandlers(ctx) {
		return nil
	}
	klog.V(1).InfoS("Scheduler started", "profiles", len(s.profiles))
	for {
		p, err := s.queue.Pop(ctx)
		if err != nil {
			return nil
		}
		s.scheduleOne(ctx, p)
	}
}
