package kinetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"skiff/kine"
)

// call is one operation of a recorded history, on one key.
type call struct {
	kind     string // get, create, update, delete
	key      string
	value    string
	expected int64
}

// answer is what it returned.
type answer struct {
	// revision is the write's, or the key's at a get; 0 when there is none.
	revision int64
	value    string
	ok       bool
	unknown  bool
}

// register is the model's state of one key.
type register struct {
	revision int64
	value    string
}

// anyRevision is the revision of a write whose answer was lost: whatever a later
// answer says.
const anyRevision = -1

// step says which states are possible after an operation; none when it could not
// have gone like this.
func step(state, input, output any) []any {
	s, c, a := state.(register), input.(call), output.(answer)
	stay, none := []any{s}, []any(nil)
	if c.kind == "get" {
		switch {
		case s.revision == anyRevision && a.value == s.value && a.revision > 0:
			return []any{register{a.revision, a.value}}
		case a.revision == s.revision && a.value == s.value:
			return stay
		}
		return none
	}
	// can and must tell whether the write's condition may or does hold.
	can := s.revision == 0
	must := can
	if c.kind != "create" {
		must = s.revision > 0 && s.revision == c.expected
		can = must || s.revision == anyRevision
	}
	after := register{a.revision, c.value}
	if c.kind == "delete" {
		after = register{}
	}
	switch {
	case a.unknown && can:
		if c.kind != "delete" {
			after.revision = anyRevision
		}
		return []any{s, after}
	case a.unknown:
		return stay
	case a.ok && !can, !a.ok && must:
		return none
	case !a.ok:
		return stay
	case c.kind != "delete" && a.revision <= s.revision:
		return none
	}
	return []any{after}
}

// model is the sequential store; keys are independent of each other.
func model() porcupine.Model {
	nd := porcupine.NondeterministicModel{
		Init: func() []any { return []any{register{}} },
		Step: step,
		Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
			byKey := map[string][]porcupine.Operation{}
			for _, op := range history {
				key := op.Input.(call).key
				byKey[key] = append(byKey[key], op)
			}
			var out [][]porcupine.Operation
			for _, ops := range byKey {
				out = append(out, ops)
			}
			return out
		},
		Equal: func(a, b any) bool { return a == b },
		DescribeOperation: func(input, output any) string {
			return fmt.Sprintf("%+v -> %+v", input, output)
		},
	}
	return nd.ToModel()
}

// recorder runs operations and writes down when they began and ended.
type recorder struct {
	s     kine.Store
	start time.Time

	mu      sync.Mutex
	history []porcupine.Operation
	// refused are the writes that the store says have changed nothing.
	refused []call
}

// do runs one operation. What it returned is added to the history, but for
// failures that changed nothing.
func (r *recorder) do(ctx context.Context, client int, c call) answer {
	from := time.Since(r.start).Nanoseconds()
	a, err := r.run(ctx, c)
	to := time.Since(r.start).Nanoseconds()
	if err != nil && !a.unknown {
		r.mu.Lock()
		r.refused = append(r.refused, c)
		r.mu.Unlock()
		return a // it is not part of the history
	}
	if a.unknown {
		if c.kind == "get" {
			return a
		}
		to = int64(1) << 62
	}
	r.mu.Lock()
	r.history = append(r.history, porcupine.Operation{ClientId: client, Input: c, Output: a, Call: from, Return: to})
	r.mu.Unlock()
	return a
}

func (r *recorder) run(ctx context.Context, c call) (answer, error) {
	var a answer
	var err error
	switch c.kind {
	case "get":
		var res kine.ReadResult
		if res, err = r.s.Get(ctx, c.key, kine.ReadOptions{}); err == nil {
			a.ok = true
			if len(res.KVs) > 0 {
				a.revision, a.value = res.KVs[0].ModRevision, string(res.KVs[0].Value)
			}
		}
	case "create":
		a.revision, err = r.s.Create(ctx, c.key, []byte(c.value), 0)
	case "update":
		a.revision, err = r.s.Update(ctx, c.key, []byte(c.value), c.expected, 0)
	case "delete":
		_, a.revision, err = r.s.Delete(ctx, c.key, c.expected)
	}
	switch {
	case err == nil:
		a.ok = true
		return a, nil
	case errors.Is(err, kine.ErrConflict), errors.Is(err, kine.ErrKeyExists), errors.Is(err, kine.ErrKeyNotFound):
		return a, nil
	case errors.Is(err, kine.ErrUnavailable), errors.Is(err, kine.ErrStopped), errors.Is(err, kine.ErrNoSpace):
		return a, err
	}
	a.unknown = true
	return a, err
}

// testLinearizable checks a history of racing clients, and what watchers saw of
// it.
func testLinearizable(t *testing.T, s kine.Store) {
	ctx := testContext(t)
	first := must[int64](t)(s.Revision(ctx))
	live := must[kine.Watcher](t)(s.Watch(ctx, kine.PrefixRange("/lin/"), kine.WatchOptions{PrevKV: true}))
	history := race(t, ctx, s)
	checkWatch(t, ctx, s, history, live, first)
}

// Faults checks that what clients see stays linearizable while disturb, which is
// called again and again, makes trouble. Requests may fail, but not lie.
func Faults(t *testing.T, s kine.Store, disturb func()) {
	ctx := testContext(t)
	raced := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-raced:
				return
			default:
				disturb()
			}
		}
	})
	race(t, ctx, s)
	close(raced)
	wg.Wait()
}

// race lets clients race on few keys and checks that the history they saw could
// have happened one operation after the other.
func race(t *testing.T, ctx context.Context, s kine.Store) []porcupine.Operation {
	t.Helper()
	const clients, each, keyCount = 8, 60, 3
	r := &recorder{s: s, start: time.Now()}
	var wg sync.WaitGroup
	for client := range clients {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(client), 1))
			known := map[string]int64{}
			for i := range each {
				c := call{key: fmt.Sprintf("/lin/%d", rnd.IntN(keyCount)), value: fmt.Sprintf("%d-%d", client, i)}
				c.kind = []string{"get", "create", "update", "update", "delete"}[rnd.IntN(5)]
				if c.kind == "update" || c.kind == "delete" {
					if c.expected = known[c.key]; c.expected == 0 {
						c.kind = "get"
					}
				}
				if c.kind == "get" {
					c.value = ""
				}
				a := r.do(ctx, client, c)
				if c.kind == "get" || a.ok && c.kind != "delete" {
					known[c.key] = a.revision
				}
			}
		})
	}
	wg.Wait()
	done := 0
	for _, op := range r.history {
		if op.Output.(answer).ok {
			done++
		}
	}
	if done < clients*each/10 {
		t.Errorf("%d of %d operations succeeded", done, clients*each)
	}
	switch porcupine.CheckOperationsTimeout(model(), r.history, limit) {
	case porcupine.Illegal:
		t.Errorf("no order of the %d operations explains what the clients saw", len(r.history))
	case porcupine.Unknown:
		t.Log("the history is too hard to check in time")
	}
	return r.history
}

// checkWatch compares what a watcher saw with the acknowledged writes: every one
// is there once, in order, with the key that was before it.
func checkWatch(t *testing.T, ctx context.Context, s kine.Store, history []porcupine.Operation, live kine.Watcher, first int64) {
	t.Helper()
	writes := map[int64]call{}
	for _, op := range history {
		if c, a := op.Input.(call), op.Output.(answer); a.ok && c.kind != "get" {
			writes[a.revision] = c
		}
	}
	past := must[kine.Watcher](t)(s.Watch(ctx, kine.PrefixRange("/lin/"), kine.WatchOptions{PrevKV: true, Revision: first + 1}))
	for name, w := range map[string]kine.Watcher{"live": live, "from the past": past} {
		before := map[string]*kine.KeyValue{}
		last := first
		for _, e := range take(t, w, len(writes)) {
			c, ok := writes[e.KV.ModRevision]
			if !ok || e.KV.ModRevision <= last {
				t.Fatalf("%s: event of revision %d after %d, acknowledged: %v", name, e.KV.ModRevision, last, ok)
			}
			last = e.KV.ModRevision
			if c.key != e.KV.Key || (c.kind == "delete") != (e.Type == kine.Delete) || (c.kind == "create") != e.IsCreate() {
				t.Fatalf("%s: event %+v at revision %d, but the write was %+v", name, e, last, c)
			}
			wantEqual(t, fmt.Sprintf("%s: previous key at %d", name, last), e.PrevKV, before[c.key])
			before[c.key] = nil
			if e.Type == kine.Put {
				kv := e.KV
				before[c.key] = &kv
			}
		}
	}
}
