package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"skiff/cluster/memory"
)

// part is one of the parts that run together.
type part struct {
	name string
	// vital parts end the process when they fail; the others begin anew.
	vital bool
	run   func(ctx context.Context) error
}

const (
	minPause = time.Second
	maxPause = 30 * time.Second
)

// supervise runs parts until ctx ends or a vital one fails, and returns after
// all of them have ended.
func supervise(ctx context.Context, parts []part) error {
	return runAll(ctx, append([]part{{"memory", false, func(ctx context.Context) error {
		memory.GiveBack(ctx) // not where GOGC is set
		<-ctx.Done()
		return nil
	}}}, parts...))
}

// together is a part that is several: when a vital one of them fails, or they cannot be
// made, all are made anew.
func together(name string, parts func() ([]part, error)) part {
	return part{name, false, func(ctx context.Context) error {
		made, err := parts()
		if err != nil {
			return err
		}
		return runAll(ctx, made)
	}}
}

func runAll(ctx context.Context, parts []part) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for _, p := range parts {
		wg.Go(func() {
			if err := keepRunning(ctx, p); err != nil {
				cancel(err)
			}
		})
	}
	wg.Wait()
	if err := context.Cause(ctx); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// keepRunning runs one part, again and again unless it is vital.
func keepRunning(ctx context.Context, p part) error {
	pause := minPause
	for {
		began := time.Now()
		err := p.run(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err == nil {
			err = errors.New("it ended")
		}
		if p.vital {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		if time.Since(began) > time.Minute {
			pause = minPause
		}
		slog.Error("a part ended; it begins anew", "part", p.name, "err", err, "in", pause)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		pause = min(2*pause, maxPause)
	}
}
