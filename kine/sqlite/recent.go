package sqlite

import (
	"sync"

	"skiff/kine/mvcc"
)

// recent keeps the values of the newest writes and reads, within a bound: what
// was just written is what is read, compared and replaced next. Two halves take
// turns: when the young one is full it becomes the old one, and the old one
// goes; what is used is young again.
type recent struct {
	mu         sync.Mutex
	half       int
	bytes      int
	young, old map[mvcc.Pos][]byte
}

// entryBytes is roughly what an entry costs beside its value.
const entryBytes = 64

func newRecent(bytes int) *recent {
	return &recent{half: bytes / 2, young: map[mvcc.Pos][]byte{}}
}

func (r *recent) get(pos mvcc.Pos) ([]byte, bool) {
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

func (r *recent) add(pos mvcc.Pos, value []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.put(pos, value)
}

// put adds to the young half. The caller holds mu.
func (r *recent) put(pos mvcc.Pos, value []byte) {
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

// drop forgets a value that was replaced: nobody reads it but the past.
func (r *recent) drop(pos mvcc.Pos) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if value, ok := r.young[pos]; ok {
		delete(r.young, pos)
		r.bytes -= len(value) + entryBytes
	}
	delete(r.old, pos)
}
