package mvcc

import (
	"fmt"
	"sort"

	"skiff/kine"
)

// Batch plans operations one after the other over a State; each sees what
// those before it would write. A failed operation leaves no trace. Nothing is
// true until the backend has stored Writes and applied them.
//
// A Batch is for one goroutine.
type Batch struct {
	state  State
	limits Limits
	// revision is the last one given, compact the state's.
	revision, compact int64
	// pending holds the newest version of each key that the batch writes.
	pending map[string]*Version
	writes  []Write
	// values are the pending versions' values.
	values map[Pos][]byte
	// revoked are the leases that the batch ends.
	revoked map[int64]struct{}
	granted map[int64]struct{}
}

// NewBatch begins an empty batch.
func NewBatch(state State, limits Limits) *Batch {
	b := &Batch{limits: limits, pending: map[string]*Version{}, values: map[Pos][]byte{}}
	b.Reset(state)
	return b
}

// Reset empties the batch for another use. The slice that Writes returned
// stays valid.
func (b *Batch) Reset(state State) {
	b.state = state
	b.revision, b.compact = state.Revisions()
	clear(b.pending)
	clear(b.values)
	b.writes = nil
	b.revoked, b.granted = nil, nil
}

// Revision is the newest revision, the batch's own included.
func (b *Batch) Revision() int64 { return b.revision }

// Writes are the planned writes in log order.
func (b *Batch) Writes() []Write { return b.writes }

// Create plans a put of a key that must not exist.
func (b *Batch) Create(key string, value []byte, lease int64) (int64, error) {
	old, err := b.newest(key)
	if err != nil {
		return 0, err
	}
	if old != nil {
		return 0, kine.ErrKeyExists
	}
	return b.single(key, value, lease, nil)
}

// Update plans a put of a key whose ModRevision must be expected.
func (b *Batch) Update(key string, value []byte, expected, lease int64) (int64, error) {
	old, err := b.newest(key)
	if err != nil {
		return 0, err
	}
	if modRevision(old) != expected {
		return 0, b.conflict(old)
	}
	return b.single(key, value, lease, old)
}

// Delete plans the removal of a key whose ModRevision must be expected, or
// whatever it is when expected is 0.
func (b *Batch) Delete(key string, expected int64) (kine.KeyValue, int64, error) {
	old, err := b.newest(key)
	if err != nil {
		return kine.KeyValue{}, 0, err
	}
	if old == nil {
		return kine.KeyValue{}, 0, kine.ErrKeyNotFound
	}
	if expected != 0 && modRevision(old) != expected {
		return kine.KeyValue{}, 0, b.conflict(old)
	}
	value, err := b.value(old)
	if err != nil {
		return kine.KeyValue{}, 0, err
	}
	if err := b.checkRevisions(); err != nil {
		return kine.KeyValue{}, 0, err
	}
	b.revision++
	b.remove(At(b.revision, 0), old, value)
	return old.KeyValue(value), b.revision, nil
}

// CheckCompact tells whether the state can be compacted to revision.
func (b *Batch) CheckCompact(revision int64) error {
	return CheckCompact(revision, b.revision, b.compact)
}

// Grant lets the operations after it hang keys on a lease.
func (b *Batch) Grant(id int64) error {
	if b.hasLease(id) {
		return kine.ErrLeaseExists
	}
	if b.granted == nil {
		b.granted = map[int64]struct{}{}
	}
	b.granted[id] = struct{}{}
	delete(b.revoked, id)
	return nil
}

// Revoke plans the end of a lease: all of its keys go in one revision.
func (b *Batch) Revoke(id int64) error {
	if !b.hasLease(id) {
		return kine.ErrLeaseNotFound
	}
	var doomed []*Version
	for _, key := range b.state.LeaseKeys(id) {
		if _, changed := b.pending[key]; changed {
			continue
		}
		v, err := b.state.Newest(key)
		if err != nil {
			return err
		}
		if v != nil && v.Lease == id {
			doomed = append(doomed, v)
		}
	}
	for _, v := range b.pending {
		if !v.Deleted() && v.Lease == id {
			doomed = append(doomed, v)
		}
	}
	if len(doomed) > MaxWritesPerRevision {
		return fmt.Errorf("lease %d holds %d keys, one revision can delete %d: %w", id, len(doomed), MaxWritesPerRevision, kine.ErrTooLarge)
	}
	sort.Slice(doomed, func(i, j int) bool { return doomed[i].Key < doomed[j].Key })
	values := make([][]byte, len(doomed))
	for i, v := range doomed {
		var err error
		if values[i], err = b.value(v); err != nil {
			return err
		}
	}
	if b.revoked == nil {
		b.revoked = map[int64]struct{}{}
	}
	b.revoked[id] = struct{}{}
	delete(b.granted, id)
	if len(doomed) == 0 {
		return nil
	}
	if err := b.checkRevisions(); err != nil {
		return err
	}
	b.revision++
	for i, v := range doomed {
		b.remove(At(b.revision, i), v, values[i])
	}
	return nil
}

// single plans one put as a revision of its own.
func (b *Batch) single(key string, value []byte, lease int64, old *Version) (int64, error) {
	if lease != 0 && !b.hasLease(lease) {
		return 0, kine.ErrLeaseNotFound
	}
	if err := b.checkRevisions(); err != nil {
		return 0, err
	}
	b.revision++
	b.put(At(b.revision, 0), key, value, lease, old)
	return b.revision, nil
}

func (b *Batch) checkRevisions() error {
	if b.revision >= MaxRevision {
		return fmt.Errorf("revision %d is the last one possible; move the data to a new store: %w", b.revision, kine.ErrInvalid)
	}
	return nil
}

// put plans one put at pos.
func (b *Batch) put(pos Pos, key string, value []byte, lease int64, old *Version) *Version {
	if value == nil {
		value = []byte{}
	}
	v := &Version{Key: key, Pos: pos, Created: pos.Revision(), Count: 1, Lease: lease}
	w := Write{Version: v, Value: value, Prev: old}
	if old != nil {
		v.Created, v.Count = old.Created, old.Count+1
		w.PrevValue = b.values[old.Pos]
	}
	b.pending[key] = v
	b.values[pos] = value
	b.writes = append(b.writes, w)
	return v
}

// remove plans one delete at pos.
func (b *Batch) remove(pos Pos, old *Version, value []byte) {
	v := &Version{Key: old.Key, Pos: pos}
	b.pending[old.Key] = v
	b.writes = append(b.writes, Write{Version: v, Prev: old, PrevValue: value})
}

// newest is the key's newest version, planned or committed.
func (b *Batch) newest(key string) (*Version, error) {
	if v, ok := b.pending[key]; ok {
		if v.Deleted() {
			return nil, nil
		}
		return v, nil
	}
	return b.state.Newest(key)
}

// value is the value of a planned or committed version.
func (b *Batch) value(v *Version) ([]byte, error) {
	if value, ok := b.values[v.Pos]; ok {
		return value, nil
	}
	return b.state.Value(v)
}

func (b *Batch) hasLease(id int64) bool {
	if _, ok := b.revoked[id]; ok {
		return false
	}
	if _, ok := b.granted[id]; ok {
		return true
	}
	return b.state.HasLease(id)
}

// conflict is the error of a conditional write that found v.
func (b *Batch) conflict(v *Version) error {
	e := &kine.ConflictError{Revision: b.revision}
	if v == nil {
		return e
	}
	value, err := b.value(v)
	if err != nil {
		return err
	}
	kv := v.KeyValue(value)
	e.Current = &kv
	return e
}

// scan reads a range, the planned writes included, at the newest state.
func (b *Batch) scan(r kine.Range, limit int64) ([]*Version, int64, error) {
	var changed []*Version
	if r.End == "" {
		if v, ok := b.pending[r.Start]; ok {
			changed = append(changed, v)
		}
	} else {
		for key, v := range b.pending {
			if r.Contains(key) {
				changed = append(changed, v)
			}
		}
	}
	if len(changed) == 0 {
		s, err := b.state.Select(r, 0, limit)
		return s.Versions, s.Count, err
	}
	s, err := b.state.Select(r, 0, 0)
	if err != nil {
		return nil, 0, err
	}
	sort.Slice(changed, func(i, j int) bool { return changed[i].Key < changed[j].Key })
	merged := merge(s.Versions, changed)
	count := int64(len(merged))
	switch {
	case limit < 0:
		merged = nil
	case limit > 0 && count > limit:
		merged = merged[:limit]
	}
	return merged, count, nil
}

// merge lays changed over base, both in key order, and leaves deletes out.
func merge(base, changed []*Version) []*Version {
	out := make([]*Version, 0, len(base)+len(changed))
	for len(base) > 0 || len(changed) > 0 {
		if len(changed) == 0 || len(base) > 0 && base[0].Key < changed[0].Key {
			out = append(out, base[0])
			base = base[1:]
			continue
		}
		if len(base) > 0 && base[0].Key == changed[0].Key {
			base = base[1:]
		}
		if !changed[0].Deleted() {
			out = append(out, changed[0])
		}
		changed = changed[1:]
	}
	return out
}

func modRevision(v *Version) int64 {
	if v == nil {
		return 0
	}
	return v.Pos.Revision()
}

// Last is the newest version of a key that the batch has planned, or that is
// committed; a planned delete is returned as such.
func (b *Batch) Last(key string) (*Version, error) {
	if v, ok := b.pending[key]; ok {
		return v, nil
	}
	return b.state.Newest(key)
}
