package postgres

import (
	"context"
	"time"

	"github.com/lib/pq"

	"skiff/kine/group"
	"skiff/kine/mvcc"
)

const (
	// memoryKeys bounds how many keys the writer remembers.
	memoryKeys = 20_000
	// memoryAge is how old its last commit may be. A standby that was promoted without
	// the last writes could have come to the same revision by others, but not as soon.
	memoryAge = time.Second
)

// memory is what the writer knows of the newest state from its own commits: the keys
// as they are at a revision. It is true for as long as nobody else writes, which the
// statement that stores the next group finds out.
type memory struct {
	revision int64
	at       time.Time
	known    map[string]*mvcc.Version
}

// learn takes what was read and written with a group that is committed now.
func (m *memory) learn(state *txState, b *mvcc.Batch, now time.Time) {
	if m.revision != state.revision || len(m.known) > memoryKeys {
		m.known = map[string]*mvcc.Version{} // others wrote, or it is too much
	}
	m.revision, m.at = b.Revision(), now
	for key, v := range state.known {
		if v != nil {
			m.known[key] = v
		}
	}
	for _, w := range b.Writes() {
		if w.Version.Deleted() {
			delete(m.known, w.Version.Key)
		} else {
			m.known[w.Version.Key] = w.Version
		}
	}
}

// guess is the state that operations would be planned over if nobody wrote since the
// last commit and the keys that are not remembered do not exist, or nil when that is
// unlikely. absent are those keys.
func (m *memory) guess(ctx context.Context, ops []*group.Op, highest int64, now time.Time) *txState {
	if m.revision == 0 || m.revision < highest || now.Sub(m.at) > memoryAge {
		return nil
	}
	t := &txState{ctx: ctx, revision: m.revision, known: map[string]*mvcc.Version{}, values: map[mvcc.Pos][]byte{}, absent: pq.ByteaArray{}}
	for _, o := range ops {
		for _, key := range o.Keys {
			if _, ok := t.known[key]; ok {
				continue
			}
			v := m.known[key]
			if t.known[key] = v; v == nil {
				t.absent = append(t.absent, []byte(key))
			}
		}
	}
	return t
}
