// Package etcdfile writes and reads etcd's database file, as `etcdctl snapshot
// save` makes it and `etcdutl snapshot restore` takes it.
package etcdfile

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"time"

	"go.etcd.io/bbolt"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"skiff/kine"
	"skiff/kine/etcdwire"
)

// batch is how many keys one transaction of the file has.
const batch = 10_000

// Write makes a database file of the state at a revision: keys in any order. The
// caller syncs it.
func Write(ctx context.Context, path string, revision int64, keys iter.Seq2[kine.KeyValue, error], leases []kine.Lease) (err error) {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: time.Second, NoSync: true})
	if err != nil {
		return fmt.Errorf("snapshot file: %w", err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	err = db.Update(func(tx *bbolt.Tx) error {
		for _, name := range []string{"key", "meta", "lease", "alarm", "cluster", "members", "members_removed", "auth", "authUsers", "authRoles"} {
			if _, err := tx.CreateBucket([]byte(name)); err != nil {
				return err
			}
		}
		return writeLeases(tx.Bucket([]byte("lease")), leases)
	})
	if err != nil {
		return err
	}
	if err := writeKeys(ctx, db, keys); err != nil {
		return err
	}
	return db.Update(func(tx *bbolt.Tx) error {
		meta := tx.Bucket([]byte("meta"))
		for key, value := range map[string][]byte{
			"consistent_index": binary.BigEndian.AppendUint64(nil, uint64(revision)),
			"term":             binary.BigEndian.AppendUint64(nil, 1),
			// There is no past in it; and the revision does not go back when the
			// newest change was a delete.
			"scheduledCompactRev": revisionKey(revision, 0),
			"finishedCompactRev":  revisionKey(revision, 0),
		} {
			if err := meta.Put([]byte(key), value); err != nil {
				return err
			}
		}
		return nil
	})
}

// writeKeys writes every key as etcd does: by its revision.
func writeKeys(ctx context.Context, db *bbolt.DB, keys iter.Seq2[kine.KeyValue, error]) (err error) {
	tx, err := db.Begin(true)
	if err != nil {
		return err
	}
	defer func() {
		if tx != nil {
			err = errors.Join(err, tx.Rollback())
		}
	}()
	subs := map[int64]int64{} // keys of one transaction differ in the second part
	n := 0
	for kv, err := range keys {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		value, err := proto.Marshal(etcdwire.KeyValue(&kv))
		if err != nil {
			return err
		}
		sub := subs[kv.ModRevision]
		subs[kv.ModRevision]++
		if err := tx.Bucket([]byte("key")).Put(revisionKey(kv.ModRevision, sub), value); err != nil {
			return err
		}
		if n++; n%batch != 0 {
			continue
		}
		if err := tx.Commit(); err != nil {
			tx = nil
			return err
		}
		if tx, err = db.Begin(true); err != nil {
			return err
		}
	}
	err = tx.Commit()
	tx = nil
	return err
}

func writeLeases(bucket *bbolt.Bucket, leases []kine.Lease) error {
	for _, l := range leases {
		// The message Lease of etcd's leasepb.
		value := protowire.AppendTag(nil, 1, protowire.VarintType)
		value = protowire.AppendVarint(value, uint64(l.ID))
		value = protowire.AppendTag(value, 2, protowire.VarintType)
		value = protowire.AppendVarint(value, uint64(l.TTL))
		if err := bucket.Put(binary.BigEndian.AppendUint64(nil, uint64(l.ID)), value); err != nil {
			return err
		}
	}
	return nil
}

// revisionKey is a revision as the file has it.
func revisionKey(main, sub int64) []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, 17), uint64(main))
	return binary.BigEndian.AppendUint64(append(b, '_'), uint64(sub))
}
