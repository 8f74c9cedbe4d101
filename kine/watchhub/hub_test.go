package watchhub

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"skiff/kine"
)

// memory is a log of one event per revision.
type memory struct{ revision atomic.Int64 }

func (m *memory) event(rev int64) *kine.Event {
	return &kine.Event{KV: kine.KeyValue{Key: fmt.Sprintf("/k/%d", rev), ModRevision: rev, CreateRevision: rev, Value: []byte("x")}}
}

func (m *memory) Events(_ context.Context, q Query) (Page, error) {
	c := Collect{Query: q}
	for rev := q.From; rev <= min(q.To, m.revision.Load()); rev++ {
		if e := m.event(rev); !c.Add(e) {
			break
		}
	}
	return c.Page(), nil
}

func (m *memory) publish(h *Hub, n int) {
	for range n {
		rev := m.revision.Add(1)
		h.Publish(rev, []*kine.Event{m.event(rev)}, true)
	}
}

func start(t *testing.T, m *memory) (*Hub, context.Context) {
	ctx, cancel := context.WithCancel(t.Context())
	h := New(Config{Log: m, Revision: func(context.Context) (int64, error) { return m.revision.Load(), nil }}, m.revision.Load())
	done := make(chan struct{})
	go func() { h.Run(ctx); close(done) }()
	t.Cleanup(func() { cancel(); <-done })
	return h, ctx
}

// A watcher that is too slow is ended, and whoever resumes where it says has
// then seen every event exactly once.
func TestSlowWatcherResumes(t *testing.T) {
	for _, c := range []struct {
		name string
		from int64 // revision to watch from
		take int   // responses taken before the rush
	}{{"at once", 0, 0}, {"after some", 0, 3}, {"during the catch-up", 1, 1}} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := &memory{}
				m.revision.Store(2500)
				h, ctx := start(t, m)
				next := c.from
				if next == 0 {
					next = m.revision.Load() + 1
				}
				w, err := h.Watch(ctx, kine.PrefixRange("/k/"), kine.WatchOptions{Revision: c.from}, 0)
				if err != nil {
					t.Fatal(err)
				}
				check := func(resp kine.WatchResponse) {
					for _, e := range resp.Events {
						if e.KV.ModRevision != next {
							t.Fatalf("event of revision %d, want %d", e.KV.ModRevision, next)
						}
						next++
					}
				}
				m.publish(h, 10)
				for range c.take {
					check(<-w.Responses())
				}
				m.publish(h, queueEvents+100)
				synctest.Wait()
				for resp := range w.Responses() {
					check(resp)
				}
				var slow *kine.SlowWatcherError
				if !errors.As(w.Err(), &slow) || slow.ResumeRevision != next {
					t.Fatalf("ended with %v, want a slow watcher to resume from %d", w.Err(), next)
				}
				w, err = h.Watch(ctx, kine.PrefixRange("/k/"), kine.WatchOptions{Revision: next}, 0)
				if err != nil {
					t.Fatal(err)
				}
				for next <= m.revision.Load() {
					check(<-w.Responses())
				}
			})
		})
	}
}

func TestProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memory{}
		m.revision.Store(5)
		h, ctx := start(t, m)
		idle, err := h.Watch(ctx, kine.PrefixRange("/other/"), kine.WatchOptions{ProgressNotify: true}, 0)
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		if resp := <-idle.Responses(); resp.Revision != 5 || len(resp.Events) > 0 || time.Since(begin) != 5*time.Second {
			t.Errorf("after %v: %+v", time.Since(begin), resp)
		}
		// A revision that the hub has not published yet is waited for.
		m.revision.Store(6)
		if err := idle.RequestProgress(ctx); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		select {
		case resp := <-idle.Responses():
			t.Errorf("progress before the events: %+v", resp)
		default:
		}
		h.Publish(6, []*kine.Event{m.event(6)}, true)
		if resp := <-idle.Responses(); resp.Revision != 6 {
			t.Errorf("got %+v, want progress at 6", resp)
		}
	})
}

// Progress that was asked for does not fall behind events that were queued after
// it, and a watch from the future is told of nothing before its start.
func TestProgressNeverGoesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memory{}
		m.revision.Store(1)
		h, ctx := start(t, m)
		w, err := h.Watch(ctx, kine.PrefixRange("/k/"), kine.WatchOptions{}, 0)
		if err != nil {
			t.Fatal(err)
		}
		later, err := h.Watch(ctx, kine.PrefixRange("/k/"), kine.WatchOptions{Revision: 4, ProgressNotify: true}, 0)
		if err != nil {
			t.Fatal(err)
		}
		m.publish(h, 1)
		synctest.Wait() // the first response waits to be taken
		if err := w.RequestProgress(ctx); err != nil {
			t.Fatal(err)
		}
		h.progress()
		m.publish(h, 2)
		last := int64(0)
		for last < 4 || w.(*watcher).progressAt > 0 {
			resp := <-w.Responses()
			if resp.Revision < last {
				t.Fatalf("a response at revision %d after %d", resp.Revision, last)
			}
			last = resp.Revision
			synctest.Wait()
		}
		select {
		case resp := <-w.Responses():
			if resp.Revision < last {
				t.Fatalf("a response at revision %d after %d", resp.Revision, last)
			}
		default:
		}
		if resp := <-later.Responses(); len(resp.Events) != 1 || resp.Events[0].KV.ModRevision != 4 {
			t.Errorf("the watch from 4 was told %+v first", resp)
		}
	})
}
