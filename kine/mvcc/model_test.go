package mvcc

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"skiff/kine"
)

// memory is a State whose values are kept in a map.
type memory struct {
	*Index
	values map[Pos][]byte
	leases map[int64]bool
}

func (m *memory) Value(v *Version) ([]byte, error) { return m.values[v.Pos], nil }
func (m *memory) HasLease(id int64) bool           { return m.leases[id] }

// commit makes a batch's writes visible.
func (m *memory) commit(b *Batch) {
	for _, w := range b.Writes() {
		m.values[w.Version.Pos] = w.Value
	}
	m.Apply(b.Revision(), b.Writes())
}

// The index agrees with a map copied at every revision, whatever the groups that
// the operations came in, the transactions, and the compactions.
func TestIndexAgainstModel(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	m := &memory{Index: NewIndex(), values: map[Pos][]byte{}}
	history := map[int64]map[string]string{1: {}}
	now, compact := map[string]string{}, int64(0)
	b := NewBatch(m, Limits{}.WithDefaults())
	key := func() string { return fmt.Sprintf("/k/%d", rnd.IntN(12)) }
	for step := range 400 {
		b.Reset(m)
		for range 1 + rnd.IntN(5) {
			k, v := key(), fmt.Sprint(step, rnd.IntN(1000))
			_, have := now[k]
			switch rnd.IntN(4) {
			case 0:
				_, err := b.Create(k, []byte(v), 0)
				if have != errors.Is(err, kine.ErrKeyExists) {
					t.Fatalf("create of %s (there: %v): %v", k, have, err)
				}
				if !have {
					now[k] = v
				}
			case 1:
				_, _, err := b.Delete(k, 0)
				if have == errors.Is(err, kine.ErrKeyNotFound) {
					t.Fatalf("delete of %s (there: %v): %v", k, have, err)
				}
				delete(now, k)
			case 2:
				old, err := b.newest(k)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := b.Update(k, []byte(v), modRevision(old), 0); err != nil {
					t.Fatal(err)
				}
				now[k] = v
			case 3:
				from := key()
				_, err := b.Txn(&kine.Txn{
					Compares: []kine.Compare{{Key: k, Target: kine.TargetVersion, Result: kine.Greater}},
					Success:  []kine.Op{{Type: kine.OpDelete, Range: kine.Range{Start: from, End: "/k/5"}}},
					Failure:  []kine.Op{{Type: kine.OpPut, Range: kine.Range{Start: k}, Value: []byte(v)}, {Type: kine.OpPut, Range: kine.Range{Start: "/x"}, Value: []byte(v)}},
				})
				if err != nil {
					t.Fatal(err)
				}
				if !have {
					now[k], now["/x"] = v, v
				} else {
					maps.DeleteFunc(now, func(k, _ string) bool { return k >= from && k < "/k/5" })
				}
			}
			history[b.Revision()] = maps.Clone(now)
		}
		m.commit(b)
		newest, _ := m.Revisions()
		if rnd.IntN(10) == 0 {
			if to := compact + rnd.Int64N(newest-compact) + 1; m.Compact(to) == nil {
				compact = to
			}
		}
		at := compact + rnd.Int64N(newest-compact+1)
		if want, ok := history[at]; ok && at > 0 {
			if d := cmp.Diff(want, state(t, m, at)); d != "" {
				t.Fatalf("step %d: state at %d of %d, compacted to %d (-want +got):\n%s", step, at, newest, compact, d)
			}
		}
		if _, err := m.Select(kine.PrefixRange(""), compact-1, 0); compact > 1 && !errors.Is(err, kine.ErrCompacted) {
			t.Fatalf("read below the compact revision %d: %v", compact, err)
		}
		if m.Live() != int64(len(now)) {
			t.Fatalf("%d keys live, want %d", m.Live(), len(now))
		}
	}
}

func state(t *testing.T, m *memory, at int64) map[string]string {
	t.Helper()
	s, err := m.Select(kine.PrefixRange(""), at, 0)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.IsSortedFunc(s.Versions, func(a, b *Version) int { return strings.Compare(a.Key, b.Key) }) || s.Count != int64(len(s.Versions)) {
		t.Fatalf("selection of %d is out of order or counted as %d", len(s.Versions), s.Count)
	}
	out := map[string]string{}
	for _, v := range s.Versions {
		out[v.Key] = string(m.values[v.Pos])
	}
	return out
}

func TestLimits(t *testing.T) {
	put := func(key string) kine.Op {
		return kine.Op{Type: kine.OpPut, Range: kine.Range{Start: key}, Value: []byte("x")}
	}
	nested := func(then, other kine.Op) kine.Op {
		return kine.Op{Type: kine.OpTxn, Txn: &kine.Txn{Success: []kine.Op{then}, Failure: []kine.Op{other}}}
	}
	deep := kine.Txn{}
	for range maxDepth + 1 {
		inner := deep
		deep = kine.Txn{Success: []kine.Op{{Type: kine.OpTxn, Txn: &inner}}}
	}
	for _, c := range []struct {
		name string
		txn  kine.Txn
		want error
	}{
		{"fine", kine.Txn{Success: []kine.Op{put("a"), put("b")}, Failure: []kine.Op{put("a")}}, nil},
		{"put twice", kine.Txn{Success: []kine.Op{put("a"), put("a")}}, ErrDuplicateKey},
		{"put and deleted", kine.Txn{Success: []kine.Op{put("a"), {Type: kine.OpDelete, Range: kine.PrefixRange("")}}}, ErrDuplicateKey},
		{"put in both branches", kine.Txn{Success: []kine.Op{nested(put("a"), put("a"))}}, nil},
		{"put outside and inside", kine.Txn{Success: []kine.Op{put("a"), nested(put("b"), put("a"))}}, ErrDuplicateKey},
		{"too many", kine.Txn{Success: make([]kine.Op, 200)}, ErrTooManyOps},
		{"too deep", deep, kine.ErrInvalid},
		{"too large", kine.Txn{Success: []kine.Op{{Type: kine.OpPut, Range: kine.Range{Start: "a"}, Value: make([]byte, 2<<20)}}}, kine.ErrTooLarge},
		{"empty compare", kine.Txn{Compares: []kine.Compare{{}}}, kine.ErrInvalid},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := (Limits{}).WithDefaults().CheckTxn(&c.txn); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}
