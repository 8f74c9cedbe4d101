package kine

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
)

// MaxLeaseTTL is etcd's bound of a lease, in seconds.
const MaxLeaseTTL = 9_000_000_000

// LeaseID is the id of a lease to be made: id itself, or a random positive one where it
// is 0. A ttl beyond the bounds is ErrInvalid.
func LeaseID(id, ttl int64) (int64, error) {
	if ttl < 1 || ttl > MaxLeaseTTL {
		return 0, fmt.Errorf("lease of %d seconds: want 1 to %d: %w", ttl, int64(MaxLeaseTTL), ErrInvalid)
	}
	if id != 0 {
		return id, nil
	}
	var b [8]byte
	if _, err := rand.Read(b[:]); err != nil {
		return 0, err
	}
	return int64(binary.BigEndian.Uint64(b[:])>>1) | 1, nil
}
