// Package transfer moves the state of one store into another: between the
// backends, from and to the database of another kine, and into a file.
//
// A transfer makes the target equal to one consistent state of the source, which
// may be in use meanwhile. It compares the two in key order and writes what
// differs, so a transfer that was interrupted goes on where it was, and one
// whose source has changed since copies the difference alone. Only when what the
// target holds has been read back and is the same does the target become a
// store: until then no server opens it.
//
// What is moved is every key as it is now, with its revisions. The past stays
// behind: the target's revision is not below any that the source's clients have
// seen, and all before it is compacted, so that they list again and none sees
// time run back.
package transfer

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"skiff/kine"
)

// ErrNotEmpty: the target holds something already.
var ErrNotEmpty = errors.New("the target is not empty")

// Gap is how far the revision moves on by default when servers may go on writing
// to the source: more than they write until they are stopped.
const Gap = 1_000_000

// Source is one consistent state of a store.
type Source interface {
	// Revision is the store's at that state.
	Revision() int64
	// Quiet tells that no server can write to the store until Close.
	Quiet() bool
	// Keys are all keys in key order.
	Keys(ctx context.Context) iter.Seq2[kine.KeyValue, error]
	// Leases are those that keys may hang on.
	Leases(ctx context.Context) ([]kine.Lease, error)
	Close() error
}

// Target is a store that no server uses yet.
type Target interface {
	// Begin prepares the target for the state of the source named from, at a
	// revision or a later one. What holds anything but an unfinished transfer
	// from there is refused with ErrNotEmpty.
	Begin(ctx context.Context, from string, revision int64) error
	// KeepsRevisions tells whether keys have the revisions that Apply gives them.
	KeepsRevisions() bool
	// Keys are all keys that are there, in key order.
	Keys(ctx context.Context) iter.Seq2[kine.KeyValue, error]
	// Grant makes the leases that are missing.
	Grant(ctx context.Context, leases []kine.Lease) error
	// Apply writes and removes keys, durably.
	Apply(ctx context.Context, puts []kine.KeyValue, deletes []string) error
	// Finish makes a store of the target: at revision, with all before it
	// compacted.
	Finish(ctx context.Context, revision int64) error
	Close() error
}

// Options shape a transfer.
type Options struct {
	// From names the source; a transfer goes on only from the same one.
	From string
	// Gap is added to the source's revision; below 0 it is none for a source that
	// is quiet, and else the default.
	Gap int64
	// Warm copies what there is and leaves the target unfinished: a later run has
	// the less to do.
	Warm bool
	// Progress, when set, is told now and then how many keys were looked at.
	Progress func(keys int64)
}

// Report says what a transfer did.
type Report struct {
	// Keys is how many keys the target has, Written and Removed how many of them
	// this run changed.
	Keys, Written, Removed int64
	// Source is the revision of the state that was moved, Revision the target's.
	Source, Revision int64
	// Hash is the checksum of the keys and their values, the same on both sides.
	Hash string
	// KeptRevisions tells that each key has the revisions it had.
	KeptRevisions bool
}

const (
	// batchKeys and batchBytes bound what is written at once.
	batchKeys  = 500
	batchBytes = 4 << 20
)

// Run moves the source's state into the target.
func Run(ctx context.Context, src Source, dst Target, o Options) (Report, error) {
	gap := o.Gap
	if gap < 0 {
		gap = Gap
		if src.Quiet() {
			gap = 0
		}
	}
	// One more, since what happened at the source's last revision is not told
	// again: who has not seen it must find it compacted.
	r := Report{Source: src.Revision(), Revision: src.Revision() + gap + 1, KeptRevisions: dst.KeepsRevisions()}
	if err := dst.Begin(ctx, o.From, r.Revision); err != nil {
		return r, err
	}
	leases, err := src.Leases(ctx)
	if err != nil {
		return r, fmt.Errorf("read the leases: %w", err)
	}
	if err := dst.Grant(ctx, leases); err != nil {
		return r, fmt.Errorf("write the leases: %w", err)
	}
	want := newDigest(r.KeptRevisions)
	if err := merge(ctx, src, dst, want, o.Progress, &r); err != nil {
		return r, err
	}
	if o.Warm {
		r.Keys = want.keys
		return r, nil
	}
	have := newDigest(r.KeptRevisions)
	for kv, err := range dst.Keys(ctx) {
		if err != nil {
			return r, fmt.Errorf("read back what was written: %w", err)
		}
		have.add(&kv)
	}
	if have.keys != want.keys || have.sum() != want.sum() {
		return r, fmt.Errorf("the target holds %d keys with the checksum %s, and the source %d with %s: nothing was put in use; remove the target and try again",
			have.keys, have.sum(), want.keys, want.sum())
	}
	r.Keys, r.Hash = have.keys, have.sum()
	return r, dst.Finish(ctx, r.Revision)
}

// merge writes what the target lacks, and removes what the source has not.
func merge(ctx context.Context, src Source, dst Target, want *digest, progress func(int64), r *Report) error {
	next, stop := iter.Pull2(dst.Keys(ctx))
	defer stop()
	there, err, more := next()
	var puts []kine.KeyValue
	var deletes []string
	size := 0
	flush := func() error {
		if len(puts)+len(deletes) == 0 {
			return nil
		}
		if err := dst.Apply(ctx, puts, deletes); err != nil {
			return fmt.Errorf("write keys up to %q: %w", last(puts, deletes), err)
		}
		r.Written += int64(len(puts))
		r.Removed += int64(len(deletes))
		puts, deletes, size = nil, nil, 0
		return nil
	}
	drop := func(key string) error {
		deletes = append(deletes, key)
		if len(puts)+len(deletes) < batchKeys {
			return nil
		}
		return flush()
	}
	for kv, serr := range src.Keys(ctx) {
		if serr != nil {
			return fmt.Errorf("read the source: %w", serr)
		}
		for more && err == nil && there.Key < kv.Key {
			if err := drop(there.Key); err != nil {
				return err
			}
			there, err, more = next()
		}
		if err != nil {
			return fmt.Errorf("read the target: %w", err)
		}
		want.add(&kv)
		if progress != nil && want.keys%10_000 == 0 {
			progress(want.keys)
		}
		if more && there.Key == kv.Key {
			equal := same(&there, &kv, r.KeptRevisions)
			there, err, more = next()
			if equal {
				continue
			}
		}
		puts = append(puts, kv)
		if size += len(kv.Key) + len(kv.Value); size >= batchBytes || len(puts)+len(deletes) >= batchKeys {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	for ; more && err == nil; there, err, more = next() {
		if err := drop(there.Key); err != nil {
			return err
		}
	}
	if err != nil {
		return fmt.Errorf("read the target: %w", err)
	}
	return flush()
}

// same tells whether a key needs no write. A version of a key never changes, so
// where revisions are kept they tell.
func same(have, want *kine.KeyValue, revisions bool) bool {
	if revisions {
		return have.ModRevision == want.ModRevision && have.CreateRevision == want.CreateRevision && have.Version == want.Version && have.Lease == want.Lease
	}
	return string(have.Value) == string(want.Value) && have.Lease == want.Lease
}

func last(puts []kine.KeyValue, deletes []string) string {
	key := ""
	if len(puts) > 0 {
		key = puts[len(puts)-1].Key
	}
	if len(deletes) > 0 {
		key = max(key, deletes[len(deletes)-1])
	}
	return key
}
