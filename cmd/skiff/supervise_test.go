package main

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// runs is a part that runs until it is ended, or fails when it is told to.
type runs struct {
	began int
	fail  chan error
}

func (r *runs) part(name string, vital bool) part {
	return part{name, vital, func(ctx context.Context) error {
		r.began++
		select {
		case err := <-r.fail:
			return err
		case <-ctx.Done():
			return nil
		}
	}}
}

// A kubelet that cannot be made, or fails, is made anew until it runs; the control plane
// beside it goes on.
func TestTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		server, kubelet, runtime := &runs{}, &runs{fail: make(chan error)}, &runs{}
		wrong := errors.New("maxPods: Invalid value")
		tries := 0
		done := make(chan error, 1)
		go func() {
			done <- runAll(ctx, []part{server.part("apiserver", true), together("kubelet", func() ([]part, error) {
				tries++
				if wrong != nil {
					return nil, wrong
				}
				return []part{kubelet.part("kubelet", true), runtime.part("runtime", true)}, nil
			})})
		}()
		synctest.Wait()
		if tries != 1 || server.began != 1 || kubelet.began != 0 {
			t.Errorf("%d tries; the server began %d times, the kubelet %d", tries, server.began, kubelet.began)
		}
		wrong = nil
		time.Sleep(2 * minPause)
		synctest.Wait()
		if tries != 2 || kubelet.began != 1 || runtime.began != 1 {
			t.Errorf("repaired: %d tries; the kubelet began %d times, its runtime %d", tries, kubelet.began, runtime.began)
		}
		kubelet.fail <- errors.New("the port is taken")
		time.Sleep(2 * maxPause)
		synctest.Wait()
		if kubelet.began != 2 || runtime.began != 2 || server.began != 1 {
			t.Errorf("after a failure the kubelet began %d times, its runtime %d, the server %d", kubelet.began, runtime.began, server.began)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// A vital part that fails ends all others.
func TestVital(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, other := &runs{fail: make(chan error, 1)}, &runs{}
		lost := errors.New("lost")
		server.fail <- lost
		if err := runAll(t.Context(), []part{server.part("apiserver", true), other.part("dns", false)}); !errors.Is(err, lost) {
			t.Error(err)
		}
	})
}
