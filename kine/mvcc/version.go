// Package mvcc is the semantics of skiff's store without any storage: which
// versions of which keys exist at which revision, how a transaction is decided
// and planned, what a lease holds, and what a compaction may remove.
//
// Nothing here reads a clock, a disk or a network. A backend plans writes with
// a Batch over a State, stores the planned writes as it likes, and then makes
// them visible by Index.Apply.
package mvcc

import "skiff/kine"

// Pos is a place in the log: a revision and the place of the write within it.
// Positions order as their integers do.
type Pos int64

const (
	subBits = 20
	// MaxWritesPerRevision is how many keys one revision can write.
	MaxWritesPerRevision = 1 << subBits
	// MaxRevision is the highest revision that a Pos can hold.
	MaxRevision = int64(1)<<(63-subBits) - 1
)

// At is the position of the sub-th write of a revision.
func At(revision int64, sub int) Pos { return Pos(revision<<subBits | int64(sub)) }

// Revision is the revision that p belongs to.
func (p Pos) Revision() int64 { return int64(p) >> subBits }

// Version is one write of one key. It never changes once it is planned, but
// for the link to its predecessor, which the Index guards.
type Version struct {
	Key string
	// Pos is where the write is in the log.
	Pos Pos
	// Created is the revision of the put that created the key.
	Created int64
	// Count is the key's version, from 1; 0 marks a delete.
	Count int64
	// Lease is the lease that the key hangs on, or 0.
	Lease int64

	// prev is the version before this one, as far as it is kept.
	prev *Version
}

// Deleted tells whether the version is a delete.
func (v *Version) Deleted() bool { return v.Count == 0 }

// KeyValue is the version as clients see it.
func (v *Version) KeyValue(value []byte) kine.KeyValue {
	return kine.KeyValue{
		Key:            v.Key,
		Value:          value,
		CreateRevision: v.Created,
		ModRevision:    v.Pos.Revision(),
		Version:        v.Count,
		Lease:          v.Lease,
	}
}

// Write is one planned change of one key.
type Write struct {
	// Version is the key after the write.
	Version *Version
	// Value is what a put stores; nil for a delete.
	Value []byte
	// Prev is the key before the write; nil when it did not exist.
	Prev *Version
	// PrevValue is the value of Prev; nil when it was not needed for planning.
	PrevValue []byte
}

// Event is the write as watchers see it. Without a PrevValue the event has no
// previous key either.
func (w *Write) Event() kine.Event {
	e := kine.Event{Type: kine.Put}
	if w.Version.Deleted() {
		e.Type = kine.Delete
		e.KV = kine.KeyValue{Key: w.Version.Key, ModRevision: w.Version.Pos.Revision()}
	} else {
		e.KV = w.Version.KeyValue(w.Value)
	}
	if w.Prev != nil && w.PrevValue != nil {
		prev := w.Prev.KeyValue(w.PrevValue)
		e.PrevKV = &prev
	}
	return e
}
