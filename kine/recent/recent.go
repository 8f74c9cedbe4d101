// Package recent is a store's memory of values.
package recent

import (
	"sync"

	"skiff/kine/mvcc"
)

// Values keeps the values of the newest writes and reads, within a bound: what
// was just written is what is read, compared and replaced next. Two halves take
// turns: when the young one is full it becomes the old one, and the old one
// goes; what is used is young again.
type Values struct {
	mu         sync.Mutex
	half       int
	bytes      int
	young, old map[mvcc.Pos][]byte
}

// entryBytes is roughly what an entry costs beside its value.
const entryBytes = 64

// New keeps so many bytes at most.
func New(bytes int) *Values {
	return &Values{half: bytes / 2, young: map[mvcc.Pos][]byte{}}
}

// Get is the value at a position.
func (r *Values) Get(pos mvcc.Pos) ([]byte, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if value, ok := r.young[pos]; ok {
		return value, true
	}
	value, ok := r.old[pos]
	if ok {
		r.put(pos, value)
	}
	return value, ok
}

// Add keeps a value.
func (r *Values) Add(pos mvcc.Pos, value []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.put(pos, value)
}

// put adds to the young half. The caller holds mu.
func (r *Values) put(pos mvcc.Pos, value []byte) {
	cost := len(value) + entryBytes
	if cost > r.half {
		return
	}
	if r.bytes+cost > r.half {
		r.old, r.young, r.bytes = r.young, map[mvcc.Pos][]byte{}, 0
	}
	r.young[pos] = value
	r.bytes += cost
}

// Drop forgets a value that was replaced: nobody reads it but the past.
func (r *Values) Drop(pos mvcc.Pos) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if value, ok := r.young[pos]; ok {
		delete(r.young, pos)
		r.bytes -= len(value) + entryBytes
	}
	delete(r.old, pos)
}
