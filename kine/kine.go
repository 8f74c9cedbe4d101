// Package kine is the contract of skiff's store: a revisioned key-value log
// with watch, the part of etcd that Kubernetes needs.
//
// The backends (kine/sqlite, kine/postgres, kine/etcd) implement Store and all
// pass the one suite in kine/kinetest. The API server and the etcd v3 gRPC face
// (kine/etcdserver) are its clients. Only the backends import a SQL driver.
//
// Life cycle: a backend's New validates its Config and opens nothing that
// loops; Run(ctx) blocks, owns every goroutine, and returns when they ended.
// Store methods may be called as soon as Run has signalled Ready.
package kine

import (
	"context"
)

// KeyValue is one key at one revision. A KeyValue that a Store hands out
// belongs to the caller, but Value is shared and must not be changed.
type KeyValue struct {
	Key string
	// Value is what was stored, byte for byte.
	Value []byte
	// CreateRevision is the revision of the Put that created the key last.
	CreateRevision int64
	// ModRevision is the revision of the last Put.
	ModRevision int64
	// Version counts the Puts since the key was created last, from 1.
	Version int64
	// Lease is the lease the key hangs on, or 0.
	Lease int64
}

// EventType says what happened to a key.
type EventType int8

const (
	// Put is a create or an update.
	Put EventType = iota
	// Delete is a delete, by a client or by the end of a lease.
	Delete
)

// Event is one change of one key. Several events share a revision when one
// transaction wrote several keys.
type Event struct {
	Type EventType
	// KV is the key after the change. For a Delete only Key and ModRevision
	// are set, as in etcd.
	KV KeyValue
	// PrevKV is the key before the change; nil when it did not exist.
	PrevKV *KeyValue
}

// IsCreate tells whether the event made a key that did not exist.
func (e *Event) IsCreate() bool {
	return e.Type == Put && e.KV.CreateRevision == e.KV.ModRevision
}

// Range names the keys [Start, End). An empty End names the one key Start.
// PrefixRange makes the range of all keys under a prefix.
type Range struct {
	Start, End string
}

// PrefixRange is the range of every key that begins with prefix. An empty
// prefix names every key.
func PrefixRange(prefix string) Range {
	end := []byte(prefix)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i] < 0xff {
			end[i]++
			return Range{Start: prefix, End: string(end[:i+1])}
		}
	}
	return Range{Start: prefix, End: Unbounded}
}

// Unbounded as a Range's End means "to the last key"; it is etcd's "\x00".
const Unbounded = "\x00"

// Contains tells whether key is in r.
func (r Range) Contains(key string) bool {
	switch r.End {
	case "":
		return key == r.Start
	case Unbounded:
		return key >= r.Start
	}
	return key >= r.Start && key < r.End
}

// ReadOptions shape Get, List and Count.
type ReadOptions struct {
	// Revision reads the state at exactly this revision. 0 reads the newest
	// state, linearizably: every write acknowledged before the call is seen,
	// by whichever server it was made.
	Revision int64
	// Limit bounds the keys that List returns; 0 means no limit.
	Limit int64
	// KeysOnly leaves the values out.
	KeysOnly bool
}

// ReadResult is what a read saw.
type ReadResult struct {
	// Revision is the store's revision at the read; never lower than the
	// ModRevision of any key returned, nor than any revision acknowledged
	// before.
	Revision int64
	// KVs are in key order.
	KVs []KeyValue
	// More tells that Limit cut the list.
	More bool
	// Count is the number of keys in the range, whatever Limit was.
	Count int64
}

// Compare is one guard of a transaction. The zero Rev for TargetMod or
// TargetCreate means "the key does not exist".
type Compare struct {
	Key string
	// RangeEnd, when set, demands the comparison of every key in [Key, RangeEnd).
	RangeEnd string
	Target   CompareTarget
	Result   CompareResult
	// Number is compared for every target but TargetValue.
	Number int64
	// Value is compared for TargetValue.
	Value []byte
}

// CompareTarget is what a Compare looks at.
type CompareTarget int8

const (
	TargetMod CompareTarget = iota
	TargetCreate
	TargetVersion
	TargetLease
	TargetValue
)

// CompareResult is how a Compare must come out.
type CompareResult int8

const (
	Equal CompareResult = iota
	NotEqual
	Greater
	Less
)

// OpType is what an Op does.
type OpType int8

const (
	OpRange OpType = iota
	OpPut
	OpDelete
	OpTxn
)

// Op is one operation of a transaction.
type Op struct {
	Type OpType
	// Range is the keys for OpRange and OpDelete; its Start is the key of OpPut.
	Range Range
	// Read shapes OpRange.
	Read ReadOptions
	// Value and Lease are for OpPut.
	Value []byte
	Lease int64
	// IgnoreValue and IgnoreLease keep what the key has; the key must exist.
	IgnoreValue, IgnoreLease bool
	// PrevKV asks for the keys as they were before the operation.
	PrevKV bool
	// Txn is the nested transaction of OpTxn.
	Txn *Txn
}

// Txn is an etcd transaction: if every compare holds Success runs, else
// Failure. All its writes carry one revision.
type Txn struct {
	Compares         []Compare
	Success, Failure []Op
}

// OpResult answers one Op.
type OpResult struct {
	// Read answers OpRange.
	Read ReadResult
	// PrevKVs answers OpPut and OpDelete when PrevKV was asked for.
	PrevKVs []KeyValue
	// Deleted is how many keys OpDelete removed.
	Deleted int64
	// Txn answers OpTxn.
	Txn *TxnResult
}

// TxnResult answers a Txn.
type TxnResult struct {
	// Revision is the transaction's revision when it wrote, else the store's.
	Revision  int64
	Succeeded bool
	Results   []OpResult
}

// WatchOptions shape a Watch.
type WatchOptions struct {
	// Revision is the first revision to deliver; 0 means from now on.
	Revision int64
	// PrevKV fills Event.PrevKV.
	PrevKV bool
	// NoPut and NoDelete leave out events of that type.
	NoPut, NoDelete bool
	// ProgressNotify asks for a progress notification (a WatchResponse without
	// events) whenever the watch was idle for the backend's progress interval.
	ProgressNotify bool
}

// WatchResponse is a batch of events in revision order. A revision is never
// split over two responses.
type WatchResponse struct {
	// Events is empty for a progress notification.
	Events []*Event
	// Revision is the watermark: everything in the watched range up to and
	// including it has been delivered.
	Revision int64
}

// Watcher is an open watch.
type Watcher interface {
	// Responses delivers until the watch ends, then is closed. Err then says why.
	Responses() <-chan WatchResponse
	// Err is the reason of the end: ErrCompacted (a *CompactedError), ErrSlowWatcher (a
	// *SlowWatcherError with the revision to resume from), ErrStopped, or the context's.
	Err() error
	// RequestProgress makes the watch send a progress notification at the
	// store's current revision as soon as all before it is delivered.
	RequestProgress(ctx context.Context) error
}

// Lease is a lease's state. TTL and Remaining are seconds.
type Lease struct {
	ID             int64
	TTL, Remaining int64
	Keys           []string
}

// Status describes the store for operators, metrics and the quota alarm.
type Status struct {
	// Revision is the newest revision, CompactRevision the newest that the
	// protocol cannot read any more, OldestRevision the oldest kept for history.
	Revision, CompactRevision, OldestRevision int64
	// PendingRevisions is how many compacted revisions are still to be cleaned.
	PendingRevisions int64
	// Keys is the number of live keys.
	Keys int64
	// SizeBytes is what the store takes on disk, FreeBytes the part of it that
	// can be reused or returned.
	SizeBytes, FreeBytes int64
	// QuotaBytes is the size at which writes are refused; 0 for none.
	QuotaBytes int64
	// Backend names the store: sqlite, postgres, etcd.
	Backend string
}

// Store is a revisioned key-value log with watch. All methods are safe for
// concurrent use.
//
// Every error is one of errors.go's or wraps one; an error that is none of
// them and no context error means the outcome of a write is unknown
// (ErrUnknownOutcome), never that it conflicted.
type Store interface {
	// Get reads one key. ReadResult.KVs has one element or none.
	Get(ctx context.Context, key string, opts ReadOptions) (ReadResult, error)
	// List reads a range in key order.
	List(ctx context.Context, r Range, opts ReadOptions) (ReadResult, error)
	// Count counts a range: ReadResult.Count without KVs.
	Count(ctx context.Context, r Range, opts ReadOptions) (ReadResult, error)

	// Create puts a key that must not exist; ErrKeyExists otherwise. The
	// result's Revision is the new ModRevision.
	Create(ctx context.Context, key string, value []byte, lease int64) (revision int64, err error)
	// Update puts a key whose ModRevision must be expected. Otherwise the error
	// is a *ConflictError that holds the current state, read in the same step.
	Update(ctx context.Context, key string, value []byte, expected, lease int64) (revision int64, err error)
	// Delete removes a key whose ModRevision must be expected (0: whatever it
	// is). It returns the key as it was. Otherwise as Update; ErrKeyNotFound when
	// there is none.
	Delete(ctx context.Context, key string, expected int64) (prev KeyValue, revision int64, err error)
	// Txn is the general form of all of these.
	Txn(ctx context.Context, txn Txn) (TxnResult, error)

	// Watch opens a watch. It ends with ctx.
	Watch(ctx context.Context, r Range, opts WatchOptions) (Watcher, error)
	// Revision is the newest revision, linearizable: one cheap read shared by
	// all that wait for it.
	Revision(ctx context.Context) (int64, error)

	// Compact makes revisions below rev unreadable. The space is returned
	// later, in the background, in small steps.
	Compact(ctx context.Context, rev int64) error

	// Grant makes a lease of ttl seconds; id 0 picks one.
	Grant(ctx context.Context, id, ttl int64) (Lease, error)
	// Revoke ends a lease and deletes its keys in one revision.
	Revoke(ctx context.Context, id int64) error
	// KeepAlive starts a lease's time anew.
	KeepAlive(ctx context.Context, id int64) (Lease, error)
	// TimeToLive describes a lease, with its keys when asked.
	TimeToLive(ctx context.Context, id int64, keys bool) (Lease, error)
	// Leases lists the lease ids.
	Leases(ctx context.Context) ([]int64, error)

	// Status describes the store.
	Status(ctx context.Context) (Status, error)
}

// Runner is a Store with its life cycle.
type Runner interface {
	Store
	// Run opens the store, serves it until ctx ends, and returns after all of
	// its goroutines have ended and everything acknowledged is on disk.
	Run(ctx context.Context) error
	// Ready is closed once the store can serve.
	Ready() <-chan struct{}
}

// Prober is a Store whose reads can go on while its writes fail.
type Prober interface {
	// Probe is why writes fail at the moment; nil when they do not.
	Probe(ctx context.Context) error
}
