package postgres

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"skiff/kine"
	"skiff/kine/group"
	"skiff/kine/kinetest"
	"skiff/kine/mvcc"
	"skiff/kine/postgres/pgtest"
)

// commit plans puts of keys over a state, deletes of those with a "-".
func commit(t *testing.T, m *memory, state *txState, now time.Time, keys ...string) {
	t.Helper()
	b := mvcc.NewBatch(state, mvcc.Limits{}.WithDefaults())
	for _, key := range keys {
		op := kine.Op{Type: kine.OpPut, Range: kine.Range{Start: key}}
		if key[0] == '-' {
			op = kine.Op{Type: kine.OpDelete, Range: kine.Range{Start: key[1:]}}
		}
		if _, err := b.Txn(&kine.Txn{Success: []kine.Op{op}}); err != nil {
			t.Fatal(key, err)
		}
	}
	m.learn(state, b, now)
}

func TestMemory(t *testing.T) {
	now := time.Now()
	ops := []*group.Op{{Keys: []string{"/a", "/b"}}, {Keys: []string{"/b", "/c"}}}
	names := func(keys ...string) []*group.Op { return []*group.Op{{Keys: keys}} }
	fresh := func(revision int64, ops []*group.Op) *txState {
		s := &txState{revision: revision, known: map[string]*mvcc.Version{}}
		s.names(ops)
		return s
	}
	for _, c := range []struct {
		name string
		do   func(m *memory)
		// highest is what was seen, age how long ago the last commit was.
		highest int64
		age     time.Duration
		// want are the revisions of the keys that are known; nil without a guess.
		want map[string]int64
	}{
		{"nothing", func(*memory) {}, 0, 0, nil},
		{"what was written", func(m *memory) { commit(t, m, fresh(10, names("/a", "/b")), now, "/a", "/b") }, 12, 0, map[string]int64{"/a": 11, "/b": 12}},
		{"the newest of it", func(m *memory) { commit(t, m, fresh(10, names("/a")), now, "/a", "/a") }, 12, 0, map[string]int64{"/a": 12}},
		{"what was read", func(m *memory) {
			s := fresh(10, names("/a", "/b"))
			s.known["/b"] = &mvcc.Version{Key: "/b", Pos: mvcc.At(4, 0), Created: 4, Count: 1}
			commit(t, m, s, now, "/a")
		}, 11, 0, map[string]int64{"/a": 11, "/b": 4}},
		{"what was deleted is not there", func(m *memory) { commit(t, m, fresh(10, names("/a", "/b")), now, "/a", "/b", "-/a") }, 13, 0, map[string]int64{"/b": 12}},
		{"group after group", func(m *memory) {
			commit(t, m, fresh(10, names("/a")), now, "/a")
			commit(t, m, fresh(11, names("/b")), now, "/b")
		}, 12, 0, map[string]int64{"/a": 11, "/b": 12}},
		{"others wrote between the groups", func(m *memory) {
			commit(t, m, fresh(10, names("/a")), now, "/a")
			commit(t, m, fresh(12, names("/b")), now, "/b")
		}, 13, 0, map[string]int64{"/b": 13}},
		{"others wrote since", func(m *memory) { commit(t, m, fresh(10, names("/a")), now, "/a") }, 12, 0, nil},
		{"long ago", func(m *memory) { commit(t, m, fresh(10, names("/a")), now, "/a") }, 11, memoryAge + 1, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			var m memory
			c.do(&m)
			var got map[string]int64
			if state := m.guess(t.Context(), ops, c.highest, now.Add(c.age)); state != nil {
				got = map[string]int64{}
				absent := map[string]bool{}
				for _, key := range state.absent {
					absent[string(key)] = true
				}
				for key, v := range state.known {
					if v != nil {
						got[key] = v.Pos.Revision()
					}
					if absent[key] == (v != nil) {
						t.Errorf("%s is known as %v, and guessed absent: %v", key, v, absent[key])
					}
				}
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A key that the writer does not remember may exist, though nobody wrote since its last
// commit, and what it remembers others may have changed.
func TestWrongGuesses(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t)
	url := server.Database(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	first := newStore(t, url)
	stop := kinetest.Start(t, first)
	const n = 50
	for i := range n {
		if _, err := first.Create(ctx, fmt.Sprintf("/old/%d", i), []byte("old"), 0); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	s, other := newStore(t, url), newStore(t, url)
	kinetest.Start(t, s)
	kinetest.Start(t, other)
	for i := range n {
		s.guesses, other.guesses = group.Doubt{}, group.Doubt{} // each time anew
		old, mine := fmt.Sprintf("/old/%d", i), fmt.Sprintf("/mine/%d", i)
		revision, err := s.Create(ctx, mine, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		if s.memory.revision != revision {
			t.Fatalf("the writer remembers revision %d, want %d", s.memory.revision, revision)
		}
		if _, err := s.Create(ctx, old, []byte("new"), 0); !errors.Is(err, kine.ErrKeyExists) {
			t.Fatalf("create of %s, which exists: %v", old, err)
		}
		// The other server does not know of the key either, nor this one of its write.
		theirs, err := other.Update(ctx, mine, []byte("theirs"), revision, 0)
		if err != nil {
			t.Fatal(err)
		}
		var conflict *kine.ConflictError
		if _, err := s.Update(ctx, mine, []byte("mine"), revision, 0); !errors.As(err, &conflict) || conflict.Current == nil || conflict.Current.ModRevision != theirs {
			t.Fatalf("update of %s over %d: %v, want a conflict with %d", mine, revision, err, theirs)
		}
	}
	// Both at once, each over what it remembers.
	if _, err := s.Create(ctx, "/n/counter", []byte("0"), 0); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for _, s := range []*Store{s, other} {
		wg.Go(func() { count(t, ctx, s, n) })
	}
	wg.Wait()
	res, err := s.Get(ctx, "/n/counter", kine.ReadOptions{})
	if err != nil || string(res.KVs[0].Value) != fmt.Sprint(2*n) {
		t.Errorf("the counter is %v, %v; want %d", res.KVs, err, 2*n)
	}
}
