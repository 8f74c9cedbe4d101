package kinetest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"skiff/kine"
)

// Chaos is a run of clients, watchers and compactions on a store while something
// makes trouble. Requests may fail, but what is acknowledged must be there, and no
// watcher may be told anything but what happened.
type Chaos struct {
	// Store is what everybody uses. Nothing else writes to it.
	Store kine.Store
	// Rounds is how often the run is made; default 1, or for each minute of
	// SKIFF_CHAOS_MINUTES several.
	Rounds int
	// Time is how long one round's clients write; default 2 s.
	Time time.Duration
	// Disturb makes trouble once; it is called again and again until the clients
	// are done, and what it broke works again when it returns.
	Disturb func(ctx context.Context)
	// MayForget tells that the trouble can lose acknowledged writes: then the store
	// must say so, by a revision that goes on and a past that is compacted. With
	// MustForget it is an error when that did not happen.
	MayForget, MustForget bool
}

// ChaosMinutes is how long the long form of a test may take; 0 is the short form.
func ChaosMinutes(t testing.TB) int {
	text := os.Getenv("SKIFF_CHAOS_MINUTES")
	if text == "" {
		return 0
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 || n > 600 {
		t.Fatalf("SKIFF_CHAOS_MINUTES=%q: want a number from 0 to 600", text)
	}
	return n
}

const (
	chaosClients   = 8
	chaosObservers = 6
	// chaosPause is a client's pause between two requests.
	chaosPause = 15 * time.Millisecond
	// enoughWrites are what a run must have to tell anything; slowTime is how long a
	// slow machine may take longer for them.
	enoughWrites = 100
	slowTime     = 40 * time.Second
	// settleTime is how long the store may take to be as before.
	settleTime = 60 * time.Second
)

// Run makes the run.
func (c Chaos) Run(t *testing.T) {
	t.Helper()
	if c.Time == 0 {
		c.Time = 2 * time.Second
	}
	if c.Rounds == 0 {
		c.Rounds = max(1, ChaosMinutes(t)*int(time.Minute/(c.Time+2*time.Second)))
	}
	for round := range c.Rounds {
		seed := uint64(time.Now().UnixNano())
		c.round(t, seed)
		if t.Failed() {
			t.Fatalf("round %d with the seed %d", round, seed)
		}
	}
}

func (c Chaos) round(t *testing.T, seed uint64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), c.Time+slowTime+settleTime)
	defer cancel()
	c.clear(t, ctx)
	w := &truth{s: c.Store, mayReset: c.MayForget}
	if err := w.begin(ctx); err != nil {
		t.Fatal(err)
	}
	follow, stopFollowing := context.WithCancel(ctx)
	var following sync.WaitGroup
	following.Go(func() { w.follow(follow) })
	defer func() { stopFollowing(); following.Wait() }()

	load, stopLoad := context.WithTimeout(ctx, c.Time+slowTime)
	defer stopLoad()
	r := &recorder{s: c.Store, start: time.Now()}
	var wg sync.WaitGroup
	wg.Go(func() {
		defer stopLoad()
		r.enough(load, c.Time)
	})
	for client := range chaosClients {
		wg.Go(func() { chaosClient(load, r, client, rand.New(rand.NewPCG(seed, uint64(client)))) })
	}
	wg.Go(func() { compactAlways(load, w, rand.New(rand.NewPCG(seed, 1000))) })
	var seen sync.Mutex
	var observations []*observation
	for i := range chaosObservers {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(seed, 2000+uint64(i)))
			for load.Err() == nil {
				if o := observe(load, c.Store, rnd); o != nil {
					seen.Lock()
					observations = append(observations, o)
					seen.Unlock()
				}
			}
		})
	}
	var reads []pastRead
	wg.Go(func() { reads = readPast(load, w, rand.New(rand.NewPCG(seed, 3000))) })
	if c.Disturb != nil {
		wg.Go(func() {
			for load.Err() == nil {
				c.Disturb(load)
			}
		})
	}
	wg.Wait()
	c.settle(t, ctx, w)
	stopFollowing()
	following.Wait()
	c.verify(t, w, r, observations)
	verifyReads(t, w, reads)
}

// clear removes what the last round left.
func (c Chaos) clear(t *testing.T, ctx context.Context) {
	t.Helper()
	Eventually(t, "the keys of the last round can be removed", func() bool {
		_, err := c.Store.Txn(ctx, kine.Txn{Success: []kine.Op{{Type: kine.OpDelete, Range: kine.PrefixRange(chaosPrefix)}}})
		return err == nil
	})
}

// settle waits until the truth is at the store's newest revision.
func (c Chaos) settle(t *testing.T, ctx context.Context, w *truth) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var last error
	for {
		// A write of its own, since an idle watcher is not told of every revision.
		rev, err := c.Store.Revision(ctx)
		if err == nil && rev > w.revision() {
			_, err = c.Store.Txn(ctx, kine.Txn{Success: []kine.Op{{Type: kine.OpPut, Range: kine.Range{Start: chaosPrefix + "end"}}}})
		}
		if err == nil && rev <= w.revision() {
			return
		}
		if err != nil {
			last = err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("the store does not come back: the watch is at %d of %d, last error %v", w.revision(), rev, last)
		}
	}
}

// enough waits for the time and for enough writes that succeeded.
func (r *recorder) enough(ctx context.Context, atLeast time.Duration) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for done := 0; done < enoughWrites || time.Since(r.start) < atLeast; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		done = 0
		r.mu.Lock()
		for _, op := range r.history {
			if op.Output.(answer).ok && op.Input.(call).kind != "get" {
				done++
			}
		}
		r.mu.Unlock()
	}
}

// chaosClient reads and writes keys, single ones for the model and several at once
// for the watchers.
func chaosClient(ctx context.Context, r *recorder, client int, rnd *rand.Rand) {
	known := map[string]int64{}
	tick := time.NewTicker(chaosPause)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		// A request may take longer than the load, and is then of unknown outcome.
		request, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		if rnd.IntN(10) == 0 {
			_, _ = r.s.Txn(request, kine.Txn{Success: []kine.Op{ // seen by the watchers alone
				{Type: kine.OpPut, Range: kine.Range{Start: chaosPrefix + "a/txn"}, Value: fmt.Append(nil, client, i)},
				{Type: kine.OpPut, Range: kine.Range{Start: chaosPrefix + "b/txn"}, Value: fmt.Append(nil, client, i)},
				{Type: kine.OpDelete, Range: kine.PrefixRange(chaosPrefix + "c/")},
				{Type: kine.OpPut, Range: kine.Range{Start: fmt.Sprintf("%sd/%d", chaosPrefix, rnd.IntN(3))}, Value: fmt.Append(nil, client, i)},
			}})
			cancel()
			continue
		}
		c := call{key: fmt.Sprintf("%s%c/%d", chaosPrefix, "ab"[rnd.IntN(2)], rnd.IntN(4)), value: fmt.Sprintf("%d-%d", client, i)}
		n := rnd.IntN(100)
		if n >= 30 && rnd.IntN(3) > 0 {
			// Most know what they change, some have it from long ago.
			known[c.key] = r.do(request, client, call{kind: "get", key: c.key}).revision
		}
		switch {
		case n < 20:
			c.kind, c.value = "get", ""
		case known[c.key] == 0 || n < 30:
			c.kind = "create"
		case n < 85:
			c.kind, c.expected = "update", known[c.key]
		default:
			c.kind, c.expected = "delete", known[c.key]
		}
		a := r.do(request, client, c)
		cancel()
		switch {
		case a.unknown:
		case c.kind == "get" || a.ok && c.kind != "delete":
			known[c.key] = a.revision
		case a.ok, c.kind != "create":
			known[c.key] = 0 // deleted, or another's: the next get tells
		}
	}
}

// compactAlways compacts every 100 to 200 ms, up to shortly before what the truth
// has seen.
func compactAlways(ctx context.Context, w *truth, rnd *rand.Rand) {
	for {
		timer := time.NewTimer(time.Duration(100+rnd.IntN(100)) * time.Millisecond)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		rev := w.revision() - rnd.Int64N(150)
		if rev > 1 && w.s.Compact(ctx, rev) == nil { // or it is compacted already, or the trouble
			w.mu.Lock()
			w.compacted = rev
			w.mu.Unlock()
		}
	}
}

// pastRead is what a read of an old revision gave.
type pastRead struct {
	revision int64
	kvs      []kine.KeyValue
}

// readPast reads old revisions, often the oldest that can be read.
func readPast(ctx context.Context, w *truth, rnd *rand.Rand) (out []pastRead) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return out
		case <-tick.C:
		}
		w.mu.Lock()
		rev := w.compacted + rnd.Int64N(4)
		if rnd.IntN(2) == 0 {
			rev = w.at - rnd.Int64N(150)
		}
		rev = max(1, min(rev, w.at))
		w.mu.Unlock()
		res, err := w.s.List(ctx, kine.PrefixRange(chaosPrefix), kine.ReadOptions{Revision: rev})
		if err == nil {
			out = append(out, pastRead{rev, res.KVs})
		}
		var compacted *kine.CompactedError
		if errors.As(err, &compacted) && compacted.CompactRevision <= rev {
			w.mu.Lock()
			w.problem("a read at revision %d is refused as compacted, and only what is below %d is", rev, compacted.CompactRevision)
			w.mu.Unlock()
		}
	}
}

// verifyReads compares reads of old revisions with the truth.
func verifyReads(t *testing.T, w *truth, reads []pastRead) {
	t.Helper()
	slices.SortStableFunc(reads, func(a, b pastRead) int { return cmp.Compare(a.revision, b.revision) })
	state, next := maps.Clone(w.initial), 0
	checked := 0
	for _, r := range reads {
		if r.revision < w.floor {
			continue
		}
		for ; next < len(w.events) && w.events[next].KV.ModRevision <= r.revision; next++ {
			if e := &w.events[next]; e.Type == kine.Delete {
				delete(state, e.KV.Key)
			} else {
				state[e.KV.Key] = e.KV
			}
		}
		checked++
		for i := range r.kvs {
			kv := &r.kvs[i]
			if was, ok := state[kv.Key]; !ok || !sameKey(&was, kv) {
				t.Errorf("a read at revision %d has %+v, and it was %+v", r.revision, *kv, was)
				return
			}
		}
		if len(r.kvs) != len(state) {
			t.Errorf("a read at revision %d has %d keys, and there were %d", r.revision, len(r.kvs), len(state))
			return
		}
	}
	t.Logf("%d reads of old revisions", checked)
}

// verify compares what everybody saw with the truth.
func (c Chaos) verify(t *testing.T, w *truth, r *recorder, observations []*observation) {
	t.Helper()
	for i, p := range w.problems {
		if i == 5 {
			t.Errorf("and %d more", len(w.problems)-i)
			break
		}
		t.Error(p)
	}
	told := 0
	for _, o := range observations {
		if err := o.check(w); err != nil {
			t.Errorf("watch of %q to %q from %d (prev %v, no put %v, no delete %v): %v", o.keys.Start, o.keys.End, o.opts.Revision, o.opts.PrevKV, o.opts.NoPut, o.opts.NoDelete, err)
		}
		for _, resp := range o.responses {
			told += len(resp.Events)
		}
	}
	c.verifyState(t, w)
	acked := c.verifyHistory(t, w, r)
	t.Logf("%d operations, %d acknowledged writes, %d events, %d watches with %d events, %d resets", len(r.history), acked, len(w.events), len(observations), told, w.resets)
	if c.MustForget && w.resets == 0 {
		t.Error("no watcher was told that the past is gone, and it is")
	}
	if acked < enoughWrites/2 || told < enoughWrites/2 {
		t.Errorf("%d writes and %d events are too few to tell anything", acked, told)
	}
}

// verifyState compares the store's state where the truth ends.
func (c Chaos) verifyState(t *testing.T, w *truth) {
	t.Helper()
	ctx := testContext(t)
	res := must[kine.ReadResult](t)(c.Store.List(ctx, kine.PrefixRange(chaosPrefix), kine.ReadOptions{Revision: w.at}))
	for i := range res.KVs {
		kv := &res.KVs[i]
		if was, ok := w.state[kv.Key]; !ok || !sameKey(&was, kv) {
			t.Errorf("the store has %+v, and the events lead to %+v", *kv, was)
		}
	}
	if len(res.KVs) != len(w.state) {
		t.Errorf("the store has %d keys, and the events lead to %d", len(res.KVs), len(w.state))
	}
}

// verifyHistory checks that every acknowledged write is in the truth and no
// refused one, and that the clients' history is linearizable. The truth tells of
// writes without an answer whether they happened.
func (c Chaos) verifyHistory(t *testing.T, w *truth, r *recorder) (acked int) {
	t.Helper()
	byRevision := map[int64][]*kine.Event{}
	byValue := map[string]*kine.Event{}
	for i := range w.events {
		e := &w.events[i]
		byRevision[e.KV.ModRevision] = append(byRevision[e.KV.ModRevision], e)
		if e.Type == kine.Put {
			byValue[e.KV.Key+"="+string(e.KV.Value)] = e
		}
	}
	var history []porcupine.Operation
	for _, op := range r.history {
		call, a := op.Input.(call), op.Output.(answer)
		if call.kind == "get" {
			history = append(history, op)
			continue
		}
		landed := byValue[call.key+"="+call.value]
		if call.kind == "delete" {
			landed = nil
		}
		switch {
		case a.ok:
			acked++
			if w.resets == 0 && !happened(byRevision[a.revision], &call) {
				t.Errorf("%s of %q was acknowledged at %d, and did not happen", call.kind, call.key, a.revision)
			}
		case a.unknown && call.kind != "delete" && w.resets == 0:
			if landed == nil {
				continue // it did not happen
			}
			a.unknown, a.ok, a.revision = false, true, landed.KV.ModRevision
			op.Output = a
		case !a.unknown && landed != nil:
			t.Errorf("%s of %q was refused, and happened at %d", call.kind, call.key, landed.KV.ModRevision)
		}
		history = append(history, op)
	}
	for _, c := range r.refused {
		if e := byValue[c.key+"="+c.value]; e != nil && c.kind != "get" && c.kind != "delete" {
			t.Errorf("%s of %q was refused with nothing changed, and happened at %d", c.kind, c.key, e.KV.ModRevision)
		}
	}
	if w.resets > 0 {
		return acked // acknowledged writes may be lost, and the store has said so
	}
	switch porcupine.CheckOperationsTimeout(model(), history, limit) {
	case porcupine.Illegal:
		t.Errorf("no order of the %d operations explains what the clients saw", len(history))
	case porcupine.Unknown:
		t.Log("the history is too hard to check in time")
	}
	return acked
}

func happened(events []*kine.Event, c *call) bool {
	for _, e := range events {
		if e.KV.Key == c.key && (e.Type == kine.Delete) == (c.kind == "delete") && (c.kind == "delete" || string(e.KV.Value) == c.value) {
			return true
		}
	}
	return false
}
