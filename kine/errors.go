package kine

import (
	"errors"
	"fmt"
)

// Errors of reads and watches.
var (
	// ErrCompacted: the revision asked for is no longer kept. Errors that match
	// it are *CompactedError.
	ErrCompacted = errors.New("required revision has been compacted")
	// ErrFutureRevision: the revision asked for does not exist yet.
	ErrFutureRevision = errors.New("required revision is a future revision")
	// ErrSlowWatcher: the watcher did not take its events in time. Errors that
	// match it are *SlowWatcherError.
	ErrSlowWatcher = errors.New("watcher was too slow")
)

// Errors of writes. None of them changed anything, but ErrUnknownOutcome.
var (
	ErrKeyExists   = errors.New("key already exists")
	ErrKeyNotFound = errors.New("key not found")
	// ErrConflict: the key's revision is not the expected one. Errors that match
	// it are *ConflictError.
	ErrConflict      = errors.New("key was modified")
	ErrLeaseNotFound = errors.New("lease not found")
	ErrLeaseExists   = errors.New("lease already exists")
	// ErrNoSpace: the quota is used up; reads, deletes and Compact still work.
	ErrNoSpace = errors.New("database space exceeded")
	// ErrInvalid: the request makes no sense, such as an empty key or one key
	// put twice in a transaction.
	ErrInvalid = errors.New("invalid request")
	// ErrTooLarge: the key, value or transaction exceeds the limits.
	ErrTooLarge = errors.New("request is too large")
	// ErrUnknownOutcome: the write may or may not have happened.
	ErrUnknownOutcome = errors.New("outcome of the write is unknown")
)

// Errors of the store itself.
var (
	// ErrStopped: the store is closing or closed.
	ErrStopped = errors.New("store is stopped")
	// ErrUnavailable: the database cannot be reached or does not answer. It
	// wraps the cause; nothing was written.
	ErrUnavailable = errors.New("store is unavailable")
)

// CompactedError tells how far the log is compacted.
type CompactedError struct{ Revision, CompactRevision int64 }

func (e *CompactedError) Error() string {
	return fmt.Sprintf("revision %d: %v up to %d", e.Revision, ErrCompacted, e.CompactRevision)
}

// Is makes it match ErrCompacted.
func (e *CompactedError) Is(target error) bool { return target == ErrCompacted }

// ConflictError carries the state that a conditional write found.
type ConflictError struct {
	// Revision is the store's revision at the comparison.
	Revision int64
	// Current is the key as it is; nil when it does not exist.
	Current *KeyValue
}

func (e *ConflictError) Error() string {
	if e.Current == nil {
		return fmt.Sprintf("%v: it does not exist at revision %d", ErrConflict, e.Revision)
	}
	return fmt.Sprintf("%v: key %q is at revision %d", ErrConflict, e.Current.Key, e.Current.ModRevision)
}

// Is makes it match ErrConflict.
func (e *ConflictError) Is(target error) bool { return target == ErrConflict }

// SlowWatcherError tells where a cancelled watch can go on.
type SlowWatcherError struct{ ResumeRevision int64 }

func (e *SlowWatcherError) Error() string {
	return fmt.Sprintf("%v; resume from revision %d", ErrSlowWatcher, e.ResumeRevision)
}

// Is makes it match ErrSlowWatcher.
func (e *SlowWatcherError) Is(target error) bool { return target == ErrSlowWatcher }
