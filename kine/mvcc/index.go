package mvcc

import (
	"fmt"
	"strings"
	"sync"

	"github.com/google/btree"

	"skiff/kine"
)

// FirstRevision is the revision of an empty store, as in etcd.
const FirstRevision = 1

// Index knows every key's versions since the compact revision, without their
// values. It is what decides compares and answers ranges; a backend looks the
// values up by Pos. All methods are safe for concurrent use.
type Index struct {
	mu sync.RWMutex
	// tree holds the newest version of each key, deletes included until they
	// are compacted.
	tree *btree.BTreeG[*Version]
	// superseding holds, in log order, the versions that have a predecessor to
	// drop or are deletes; Compact takes them from the front.
	superseding []*Version
	// revision and compact only grow. live counts the keys that exist.
	revision, compact, live int64
	// leases holds the keys that hang on each lease.
	leases map[int64]map[string]struct{}
}

// NewIndex is the index of an empty store.
func NewIndex() *Index {
	return &Index{
		tree:     btree.NewG(64, func(a, b *Version) bool { return a.Key < b.Key }),
		revision: FirstRevision,
		leases:   map[int64]map[string]struct{}{},
	}
}

// Load puts versions in place while a store is opened: first the state at
// some revision in key order, then the log after it in log order.
func (x *Index) Load(versions []*Version) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, v := range versions {
		x.put(v)
	}
}

// SetRevisions sets the revisions when a store is opened. They never go back.
func (x *Index) SetRevisions(revision, compact int64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.revision = max(x.revision, revision)
	x.compact = max(x.compact, compact)
	x.cut()
}

// Apply makes committed writes visible, all at once, up to revision.
func (x *Index) Apply(revision int64, writes []Write) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for i := range writes {
		x.put(writes[i].Version)
	}
	x.revision = max(x.revision, revision)
}

// put takes v as its key's newest version. The caller holds mu.
func (x *Index) put(v *Version) {
	old, had := x.tree.ReplaceOrInsert(v)
	if had {
		v.prev = old
		if !old.Deleted() {
			x.live--
			x.detach(old)
		}
	}
	if had || v.Deleted() {
		x.superseding = append(x.superseding, v)
	}
	x.revision = max(x.revision, v.Pos.Revision())
	if v.Deleted() {
		return
	}
	x.live++
	if v.Lease != 0 {
		keys := x.leases[v.Lease]
		if keys == nil {
			keys = map[string]struct{}{}
			x.leases[v.Lease] = keys
		}
		keys[v.Key] = struct{}{}
	}
}

// detach takes v's key off its lease. The caller holds mu.
func (x *Index) detach(v *Version) {
	if v.Lease == 0 {
		return
	}
	keys := x.leases[v.Lease]
	delete(keys, v.Key)
	if len(keys) == 0 {
		delete(x.leases, v.Lease)
	}
}

// Compact makes revisions below revision unreadable.
func (x *Index) Compact(revision int64) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if err := CheckCompact(revision, x.revision, x.compact); err != nil {
		return err
	}
	x.compact = revision
	x.cut()
	return nil
}

// CheckCompact tells whether Compact(revision) would be accepted.
func (x *Index) CheckCompact(revision int64) error {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return CheckCompact(revision, x.revision, x.compact)
}

// CheckCompact tells whether a store at newest, compacted to compact, can be
// compacted to revision.
func CheckCompact(revision, newest, compact int64) error {
	switch {
	case revision > newest:
		return fmt.Errorf("compact to revision %d, newest is %d: %w", revision, newest, kine.ErrFutureRevision)
	case revision <= compact:
		return &kine.CompactedError{Revision: revision, CompactRevision: compact}
	}
	return nil
}

// cut drops what no read at or after the compact revision can see. The caller
// holds mu.
func (x *Index) cut() {
	n := 0
	for ; n < len(x.superseding); n++ {
		v := x.superseding[n]
		if v.Pos.Revision() > x.compact {
			break
		}
		v.prev = nil
		if v.Deleted() {
			if newest, ok := x.tree.Get(v); ok && newest == v {
				x.tree.Delete(v)
			}
		}
		x.superseding[n] = nil
	}
	x.superseding = x.superseding[n:]
	if len(x.superseding) == 0 {
		x.superseding = nil
	}
}

// Revisions are the newest revision and the compact revision.
func (x *Index) Revisions() (revision, compact int64) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.revision, x.compact
}

// Live is the number of keys that exist.
func (x *Index) Live() int64 {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.live
}

// Newest is the newest version of a key, nil when it does not exist.
func (x *Index) Newest(key string) (*Version, error) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.newest(key), nil
}

func (x *Index) newest(key string) *Version {
	v, ok := x.tree.Get(&Version{Key: key})
	if !ok || v.Deleted() {
		return nil
	}
	return v
}

// LeaseKeys are the keys that hang on a lease, in no order.
func (x *Index) LeaseKeys(id int64) []string {
	x.mu.RLock()
	defer x.mu.RUnlock()
	keys := make([]string, 0, len(x.leases[id]))
	for key := range x.leases[id] {
		keys = append(keys, key)
	}
	return keys
}

// Selection is what a range holds at a revision.
type Selection struct {
	// Revision is the store's revision at the selection.
	Revision int64
	// Versions are in key order, at most as many as the limit.
	Versions []*Version
	// Count is the number of keys in the range, whatever the limit was.
	Count int64
}

// CheckRevision tells whether a read at revision (0: newest) is possible.
func (x *Index) CheckRevision(revision int64) error {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return checkRevision(revision, x.revision, x.compact)
}

func checkRevision(revision, newest, compact int64) error {
	switch {
	case revision < 0:
		return fmt.Errorf("revision %d is negative: %w", revision, kine.ErrInvalid)
	case revision == 0:
		return nil
	case revision > newest:
		return fmt.Errorf("revision %d, newest is %d: %w", revision, newest, kine.ErrFutureRevision)
	case revision < compact:
		return &kine.CompactedError{Revision: revision, CompactRevision: compact}
	}
	return nil
}

// Select reads a range at a revision (0: newest). A limit below 0 counts only,
// 0 selects all.
func (x *Index) Select(r kine.Range, revision, limit int64) (Selection, error) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if err := checkRevision(revision, x.revision, x.compact); err != nil {
		return Selection{Revision: x.revision}, err
	}
	s := Selection{Revision: x.revision}
	if revision == 0 {
		revision = x.revision
	}
	if limit < 0 && revision == x.revision && r.Start == "" && r.End == kine.Unbounded {
		s.Count = x.live
		return s, nil
	}
	x.ascend(r, func(v *Version) bool {
		for v != nil && v.Pos.Revision() > revision {
			v = v.prev
		}
		if v == nil || v.Deleted() {
			return true
		}
		s.Count++
		if limit == 0 || s.Count <= limit {
			s.Versions = append(s.Versions, v)
		}
		return true
	})
	return s, nil
}

// ascend calls fn with the newest version, deletes included, of each key in
// the range. The caller holds mu.
func (x *Index) ascend(r kine.Range, fn func(*Version) bool) {
	switch r.End {
	case "":
		if v, ok := x.tree.Get(&Version{Key: r.Start}); ok {
			fn(v)
		}
	case kine.Unbounded:
		x.tree.AscendGreaterOrEqual(&Version{Key: r.Start}, fn)
	default:
		if strings.Compare(r.Start, r.End) < 0 {
			x.tree.AscendRange(&Version{Key: r.Start}, &Version{Key: r.End}, fn)
		}
	}
}
