package mvcc

import (
	"fmt"

	"skiff/kine"
)

// State is what a Batch is planned over: the committed state, which must not
// change while the batch is planned. *Index with a value reader is one.
type State interface {
	// Revisions are the newest revision and the compact revision.
	Revisions() (revision, compact int64)
	// Newest is the newest version of a key, nil when it does not exist.
	Newest(key string) (*Version, error)
	// Select reads a range at a revision (0: newest); see Index.Select.
	Select(r kine.Range, revision, limit int64) (Selection, error)
	// Value is the value of a version that Newest or Select returned.
	Value(v *Version) ([]byte, error)
	// HasLease tells whether a lease is alive.
	HasLease(id int64) bool
	// LeaseKeys are the keys that hang on a lease.
	LeaseKeys(id int64) []string
}

// Limits bound what one request may ask for.
type Limits struct {
	// RequestBytes bounds the keys and values of a request; 0 means 1.5 MiB.
	RequestBytes int
	// TxnOps bounds the compares and the operations of each branch of a
	// transaction; 0 means 128.
	TxnOps int
}

// WithDefaults fills in what is 0.
func (l Limits) WithDefaults() Limits {
	if l.RequestBytes == 0 {
		l.RequestBytes = 3 << 19
	}
	if l.TxnOps == 0 {
		l.TxnOps = 128
	}
	return l
}

// Validate refuses negative limits.
func (l Limits) Validate() error {
	if l.RequestBytes < 0 {
		return fmt.Errorf("limit of %d request bytes is negative; use 0 for the default", l.RequestBytes)
	}
	if l.TxnOps < 0 {
		return fmt.Errorf("limit of %d transaction operations is negative; use 0 for the default", l.TxnOps)
	}
	return nil
}

// CheckPut refuses a put without a key or above the limits.
func (l Limits) CheckPut(key string, value []byte) error {
	if key == "" {
		return fmt.Errorf("key is empty: %w", kine.ErrInvalid)
	}
	if n := len(key) + len(value); n > l.RequestBytes {
		return fmt.Errorf("key %.80q with its value takes %d bytes, the limit is %d: %w", key, n, l.RequestBytes, kine.ErrTooLarge)
	}
	return nil
}
