package group

import (
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"skiff/kine/mvcc"
)

func TestPace(t *testing.T) {
	const took = time.Millisecond
	for _, c := range []struct {
		name string
		do   func(p *pace)
		want int
		wait time.Duration
	}{
		{"one client is never waited for", func(p *pace) { p.ended(1, 0, took) }, 1, took},
		{"those answered and those that wait", func(p *pace) { p.ended(8, 8, took) }, 16, took},
		{"not more than a group holds", func(p *pace) { p.ended(maxGroup, maxGroup, took) }, maxGroup, took},
		{"not for long", func(p *pace) { p.ended(8, 8, time.Minute) }, 16, maxLinger},
		{"a wait in vain is not repeated at once", func(p *pace) {
			p.ended(8, 8, took)
			p.began(8, true)
			p.ended(8, 8, took)
		}, 16, 0},
		{"after a pause it is tried again", func(p *pace) {
			p.ended(8, 8, took)
			p.began(8, true)
			for range 3 {
				p.ended(8, 8, took)
				p.began(8, false)
			}
		}, 16, took},
		{"the pause grows", func(p *pace) {
			p.ended(8, 8, took)
			for range 3 {
				p.began(8, true)
			}
			for range 8 {
				p.ended(8, 8, took)
				p.began(8, false)
			}
		}, 16, 0},
		{"a wait that paid ends it", func(p *pace) {
			p.ended(8, 8, took)
			for range 20 {
				p.began(8, true)
			}
			p.began(16, true)
			for range maxSkip + 1 {
				p.ended(8, 8, took)
			}
			p.began(8, true)
			for range 3 {
				p.ended(8, 8, took)
			}
		}, 16, took},
	} {
		t.Run(c.name, func(t *testing.T) {
			var p pace
			c.do(&p)
			if p.want != c.want || p.limit != c.wait {
				t.Errorf("it waits for %d within %v, want %d within %v", p.want, p.limit, c.want, c.wait)
			}
		})
	}
}

// Two clients take turns at first: one writes while the other's write is committed.
// Then one commit holds both, and when one of them goes the other is not held up.
func TestGroupsFill(t *testing.T) {
	const commit, turnaround = 10 * time.Millisecond, time.Millisecond
	synctest.Test(t, func(t *testing.T) {
		q := NewQueue(mvcc.Limits{}, slog.New(slog.DiscardHandler))
		q.Start()
		client := func(n int) {
			for range n {
				if err := q.Submit(t.Context(), &Op{}); err != nil {
					t.Error(err)
				}
				time.Sleep(turnaround)
			}
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			go client(20)
			time.Sleep(commit / 2) // the first is taken alone
			client(40)
		}()
		var groups []int
		for ended := false; !ended; {
			select {
			case <-q.Wake():
				ops := q.Take()
				if len(ops) == 0 {
					continue
				}
				groups = append(groups, len(ops))
				time.Sleep(commit)
				q.Answer(ops, make([]error, len(ops)))
			case <-done:
				ended = true
			}
		}
		pairs := 0
		for _, n := range groups {
			if n == 2 {
				pairs++
			}
		}
		if pairs < 15 {
			t.Errorf("groups of %v: want most of the first in pairs", groups)
		}
	})
}
