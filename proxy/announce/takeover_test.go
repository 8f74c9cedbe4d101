package announce

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes/fake"
)

// proxies are the health checks of nodes, each on a loopback address of its own and all
// on one port.
type proxies struct {
	port  int
	nodes map[string]*v1.Node
	well  map[string]*atomic.Bool
}

func startProxies(t *testing.T, names ...string) *proxies {
	t.Helper()
	p := &proxies{nodes: map[string]*v1.Node{}, well: map[string]*atomic.Bool{}}
	for i, name := range names {
		address := "127.0.77." + strconv.Itoa(i+1)
		l, err := net.Listen("tcp", net.JoinHostPort(address, strconv.Itoa(p.port)))
		if err != nil {
			t.Fatal(err)
		}
		p.port = l.Addr().(*net.TCPAddr).Port
		well := &atomic.Bool{}
		well.Store(true)
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if !well.Load() {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
		}))
		s.Listener.Close()
		s.Listener = l
		s.Start()
		t.Cleanup(s.Close)
		p.nodes[name], p.well[name] = node(name, func(n *v1.Node) { n.Status.Addresses = []v1.NodeAddress{{Type: v1.NodeInternalIP, Address: address}} }), well
	}
	return p
}

// candidate is what one node thinks, round by round.
type candidate struct {
	*Announcer
	p    *proxies
	rank map[netip.Addr][]string
}

func (p *proxies) candidate(t *testing.T, name string, connected func(context.Context) error, order ...string) *candidate {
	t.Helper()
	a, err := New(Config{Client: fake.NewClientset(), NodeName: name, Ours: ours, HealthPort: p.port, Ask: 5 * time.Second, Connected: connected})
	if err != nil {
		t.Fatal(err)
	}
	a.settled = true
	return &candidate{a, p, map[netip.Addr][]string{netip.MustParseAddr("10.1.0.77"): order}}
}

// has asks once, and tells whether the address is the node's then.
func (c *candidate) has(t *testing.T) bool {
	t.Helper()
	var all []*v1.Node
	for _, n := range c.p.nodes {
		all = append(all, n)
	}
	c.take(c.rank, all)
	c.prober.round(t.Context())
	c.mine, _ = c.take(c.rank, all)
	return len(c.mine) == 1
}

// TestTakeOver has an address go to the next node when the first is silent, and back,
// with never more than one that has it.
func TestTakeOver(t *testing.T) {
	p := startProxies(t, "a", "b")
	connected := func(context.Context) error { return nil }
	a, b := p.candidate(t, "a", connected, "a", "b"), p.candidate(t, "b", connected, "a", "b")
	round := func(what string, first, second bool) {
		t.Helper()
		if gotA, gotB := a.has(t), b.has(t); gotA != first || gotB != second {
			t.Fatalf("%s: a has it: %v, b: %v; want %v and %v", what, gotA, gotB, first, second)
		}
	}
	round("all are well", true, false)
	p.well["a"].Store(false)
	round("one lost answer", true, false)
	round("two lost answers", true, false)
	// a finds itself dead in the same round, and then looks whether b is alive.
	a.has(t)
	a.has(t)
	round("three lost answers", false, true)
	p.well["a"].Store(true)
	round("it is back, and waits until b has seen it", false, false)
	a.began, a.prober.since = time.Time{}, time.Time{}.Add(time.Second)
	round("b has seen it", true, false)
}

// A node that has lost its way to the API server takes nothing over.
func TestCutOffTakesNothing(t *testing.T) {
	p := startProxies(t, "a", "b")
	lost := errors.New("no route")
	b := p.candidate(t, "b", func(context.Context) error { return lost }, "a", "b")
	if b.has(t) {
		t.Fatal("b has the address of a, which is well")
	}
	p.well["a"].Store(false)
	for range 2 * silent {
		if b.has(t) {
			t.Fatal("b has taken over, cut off as it is")
		}
	}
	lost = nil
	if !b.has(t) {
		t.Error("b has not taken over, though it is back")
	}
}

// Who begins waits until others have seen it, unless there are none.
func TestSettles(t *testing.T) {
	p := startProxies(t, "a", "b")
	a, alone := p.candidate(t, "a", nil, "a", "b"), p.candidate(t, "a", nil, "a")
	a.settled, alone.settled = false, false
	if mine, early := a.take(a.rank, nil); len(mine) != 0 || !early {
		t.Errorf("it has %v at once, early: %v", mine, early)
	}
	a.began = time.Now().Add(-noProxy)
	if mine, early := a.take(a.rank, nil); len(mine) != 1 || early {
		t.Errorf("later it has %v, early: %v", mine, early)
	}
	a.settled, a.mine = false, map[netip.Addr]bool{netip.MustParseAddr("10.1.0.77"): true}
	if mine, early := a.take(a.rank, nil); len(mine) != 1 || early {
		t.Errorf("of what it had it has %v, early: %v", mine, early)
	}
	if mine, early := alone.take(alone.rank, nil); len(mine) != 1 || early {
		t.Errorf("the only node has %v, early: %v", mine, early)
	}
	began := time.Unix(1000, 0)
	for _, tc := range []struct{ answering, want time.Time }{
		{time.Time{}, began.Add(noProxy)},
		{began.Add(2 * time.Second), began.Add(4 * time.Second)},
	} {
		if got := settled(began, tc.answering, time.Second); !got.Equal(tc.want) {
			t.Errorf("answering at %v: settled at %v, want %v", tc.answering, got, tc.want)
		}
	}
}
