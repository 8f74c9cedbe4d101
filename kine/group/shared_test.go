package group

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
)

// Who asks while reads are under way is answered by one that begins later, together
// with others, as far as the bounds allow.
func TestShared(t *testing.T) {
	for _, c := range []struct {
		name       string
		most, side int
		want       [][]int // the questions of each read, in the order of their begin
	}{
		{"one after the other", 0, 0, [][]int{{0}, {1, 2, 3, 4}}},
		{"two at a time", 0, 2, [][]int{{0}, {1}, {2, 3, 4}}},
		{"bounded", 2, 0, [][]int{{0}, {1, 2}, {3, 4}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var got [][]int
				release := make(chan struct{})
				s := Shared[int, int]{Most: c.most, Side: c.side, Read: func(_ context.Context, asked []int) (int, error) {
					got = append(got, asked)
					n := len(got)
					<-release
					return n, nil
				}}
				var wg sync.WaitGroup
				answers := make([]int, 5)
				for i := range answers {
					wg.Go(func() {
						var err error
						if answers[i], err = s.Get(t.Context(), i); err != nil {
							t.Error(err)
						}
					})
					synctest.Wait()
				}
				gone, cancel := context.WithCancel(t.Context())
				cancel()
				for range c.want {
					release <- struct{}{}
					synctest.Wait()
				}
				wg.Wait()
				if d := cmp.Diff(c.want, got); d != "" {
					t.Errorf("reads (-want +got):\n%s", d)
				}
				for n, asked := range c.want {
					for _, i := range asked {
						if answers[i] != n+1 {
							t.Errorf("question %d was answered by read %d, want %d", i, answers[i], n+1)
						}
					}
				}
				// Who leaves does not wait; the read goes on for nobody.
				if _, err := s.Get(gone, 9); !errors.Is(err, context.Canceled) {
					t.Errorf("got %v", err)
				}
				release <- struct{}{}
			})
		})
	}
}
