package volume

import (
	"context"
	"testing"
)

func TestLocks(t *testing.T) {
	var l Locks[string]
	unlock, err := l.Lock(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := l.Try("a"); ok {
		t.Error("two have a")
	}
	other, ok := l.Try("b")
	if !ok {
		t.Fatal("b is not free")
	}
	other()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.Lock(ended, "a"); err == nil {
		t.Error("a was given to two")
	}
	got := make(chan struct{})
	go func() {
		defer close(got)
		next, err := l.Lock(t.Context(), "a")
		if err != nil {
			t.Error(err)
			return
		}
		next()
	}()
	unlock()
	<-got
	if len(l.held) != 0 {
		t.Errorf("%d locks are left", len(l.held))
	}
}
