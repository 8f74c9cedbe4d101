package flowcontrol

import (
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"skiff/apiserver/request"
)

// Covers: api.flow-control
func TestWidth(t *testing.T) {
	for _, tc := range []struct {
		name, method, url string
		nominal, objects  int
		want              int
	}{
		{"a get", "GET", "/api/v1/namespaces/a/pods/p", 100, 5000, 1},
		{"a create", "POST", "/api/v1/namespaces/a/pods", 100, 5000, 1},
		{"a watch", "GET", "/api/v1/pods?watch=1", 100, 5000, 1},
		{"a list of nothing", "GET", "/api/v1/pods", 100, 0, 1},
		{"of a hundred", "GET", "/api/v1/pods", 100, 100, 1},
		{"of one more", "GET", "/api/v1/pods", 100, 101, 2},
		{"of many", "GET", "/api/v1/pods", 100, 5000, 10},
		{"with a limit", "GET", "/api/v1/pods?limit=250", 100, 5000, 3},
		{"with a limit that is no number", "GET", "/api/v1/pods?limit=x", 100, 5000, 10},
		{"with a limit and a selector", "GET", "/api/v1/pods?limit=250&labelSelector=a%3Db", 100, 5000, 10},
		{"of one by its name", "GET", "/api/v1/namespaces/a/pods?fieldSelector=metadata.name%3Dp", 100, 5000, 1},
		{"of many in a small level", "GET", "/api/v1/pods", 20, 5000, 3},
		{"of many in a tiny level", "GET", "/api/v1/pods", 2, 5000, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := httptest.NewRequest(tc.method, tc.url, nil)
			if got := width(r, request.Parse(r), tc.nominal, tc.objects); got != tc.want {
				t.Errorf("%d seats, want %d", got, tc.want)
			}
		})
	}
}

// TestLongListsTakeSeats: of 100 seats ten lists of a thousand objects and more take all, so
// that an eleventh waits until one of them ends, and goes on then.
//
// Covers: api.flow-control
func TestLongListsTakeSeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := controllerOf(100, flowcontrolv1.LimitResponse{Type: flowcontrolv1.LimitResponseTypeQueue,
			Queuing: &flowcontrolv1.QueuingConfiguration{Queues: 8, HandSize: 1, QueueLengthLimit: 20}})
		c.cfg.Objects = func(schema.GroupResource) int { return 5000 }
		next := make(chan struct{})
		h := c.Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-next }))
		var wg sync.WaitGroup
		for range 11 {
			wg.Go(func() { h.ServeHTTP(httptest.NewRecorder(), get("u")) })
		}
		synctest.Wait()
		l := c.known["l"]
		if l.executing != 10 || l.seats != 100 || l.waiting() != 1 {
			t.Errorf("%d run on %d seats and %d wait; want 10 on 100 and 1", l.executing, l.seats, l.waiting())
		}
		next <- struct{}{}
		synctest.Wait()
		if l.executing != 10 || l.seats != 100 || l.waiting() != 0 {
			t.Errorf("after one ended %d run on %d seats and %d wait; want 10 on 100 and 0", l.executing, l.seats, l.waiting())
		}
		close(next)
		wg.Wait()
		if l.executing != 0 || l.seats != 0 {
			t.Errorf("%d seats are still taken by %d", l.seats, l.executing)
		}
	})
}

// TestBorrowing: a level goes on over its own seats while another lends, up to its limit.
//
// Covers: api.flow-control
func TestBorrowing(t *testing.T) {
	c := &Controller{known: map[string]*level{}}
	l := &level{name: "l", nominal: 10, borrowable: 5, running: map[*ticket]struct{}{}, rejected: map[string]int{}}
	o := &level{name: "o", nominal: 10, lendable: 8, running: map[*ticket]struct{}{}, rejected: map[string]int{}}
	c.known["l"], c.known["o"] = l, o
	for _, tc := range []struct {
		name                  string
		seats, others, borrow int
		n                     int
		want                  bool
	}{
		{"own seats", 9, 0, 5, 1, true},
		{"one that is lent", 10, 0, 5, 1, true},
		{"some own, some lent", 8, 0, 5, 4, true},
		{"over what it may borrow", 10, 0, 5, 6, false},
		{"up to it, already borrowing", 13, 0, 5, 2, true},
		{"over it, already borrowing", 13, 0, 5, 3, false},
		{"the other needs its own", 10, 8, 5, 3, false},
		{"the other leaves some", 10, 8, 5, 2, true},
		{"wider than all, alone", 0, 10, 0, 20, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l.seats, o.seats, l.borrowable = tc.seats, tc.others, tc.borrow
			if got := c.seatsFor(l, tc.n); got != tc.want {
				t.Errorf("%v, want %v", got, tc.want)
			}
		})
	}
}
