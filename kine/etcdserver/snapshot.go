package etcdserver

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/version"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"skiff/kine"
	"skiff/kine/etcdwire"
)

// Snapshot sends the state at one revision as an etcd database file: `etcdutl
// snapshot restore` makes an etcd of it, at the same revision.
func (s *maintenanceServer) Snapshot(_ *pb.SnapshotRequest, stream grpc.ServerStreamingServer[pb.SnapshotResponse]) (err error) {
	dir, err := os.MkdirTemp("", "skiff-snapshot-")
	if err != nil {
		return etcdwire.Error(err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	path := filepath.Join(dir, "db")
	revision, err := s.writeSnapshot(stream.Context(), path)
	if err != nil {
		return etcdwire.Error(err)
	}
	f, err := os.Open(path)
	if err != nil {
		return etcdwire.Error(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return etcdwire.Error(err)
	}
	sum := sha256.New()
	left := info.Size()
	for left > 0 {
		chunk := make([]byte, min(left, sendChunk))
		if _, err := io.ReadFull(f, chunk); err != nil {
			return etcdwire.Error(err)
		}
		sum.Write(chunk)
		left -= int64(len(chunk))
		if err := stream.Send(&pb.SnapshotResponse{Header: header(revision), RemainingBytes: uint64(left), Blob: chunk, Version: version.Version}); err != nil {
			return err
		}
	}
	// The checksum is part of the file that the client writes.
	return stream.Send(&pb.SnapshotResponse{Header: header(revision), Blob: sum.Sum(nil), Version: version.Version})
}

// snapshotBatch is how many keys one transaction of the snapshot's file has.
const snapshotBatch = 10_000

// writeSnapshot writes etcd's database file and returns the revision it is of.
func (s *maintenanceServer) writeSnapshot(ctx context.Context, path string) (revision int64, err error) {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: time.Second, NoSync: true})
	if err != nil {
		return 0, fmt.Errorf("snapshot file: %w", err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	err = db.Update(func(tx *bbolt.Tx) error {
		for _, name := range []string{"key", "meta", "lease", "alarm", "cluster", "members", "members_removed", "auth", "authUsers", "authRoles"} {
			if _, err := tx.CreateBucket([]byte(name)); err != nil {
				return err
			}
		}
		return s.writeLeases(ctx, tx.Bucket([]byte("lease")))
	})
	if err != nil {
		return 0, err
	}
	if revision, err = s.writeKeys(ctx, db); err != nil {
		return 0, err
	}
	return revision, db.Update(func(tx *bbolt.Tx) error {
		meta := tx.Bucket([]byte("meta"))
		for key, value := range map[string][]byte{
			"consistent_index": binary.BigEndian.AppendUint64(nil, uint64(revision)),
			"term":             binary.BigEndian.AppendUint64(nil, 1),
			// There is no past in it; and the revision does not go back when the
			// newest change was a delete.
			"scheduledCompactRev": etcdRevision(revision, 0),
			"finishedCompactRev":  etcdRevision(revision, 0),
		} {
			if err := meta.Put([]byte(key), value); err != nil {
				return err
			}
		}
		return nil
	})
}

// writeKeys writes every key as etcd does: by its revision.
func (s *maintenanceServer) writeKeys(ctx context.Context, db *bbolt.DB) (revision int64, err error) {
	tx, err := db.Begin(true)
	if err != nil {
		return 0, err
	}
	defer func() {
		if tx != nil {
			err = errors.Join(err, tx.Rollback())
		}
	}()
	subs := map[int64]int64{} // keys of one transaction differ in the second part
	n := 0
	revision, err = s.each(ctx, 0, func(kv *kine.KeyValue) error {
		value, err := proto.Marshal(etcdwire.KeyValue(kv))
		if err != nil {
			return err
		}
		sub := subs[kv.ModRevision]
		subs[kv.ModRevision]++
		if err := tx.Bucket([]byte("key")).Put(etcdRevision(kv.ModRevision, sub), value); err != nil {
			return err
		}
		if n++; n%snapshotBatch != 0 {
			return nil
		}
		if err := tx.Commit(); err != nil {
			tx = nil
			return err
		}
		tx, err = db.Begin(true)
		return err
	})
	if err != nil {
		return 0, err
	}
	err = tx.Commit()
	tx = nil
	return revision, err
}

func (s *maintenanceServer) writeLeases(ctx context.Context, bucket *bbolt.Bucket) error {
	ids, err := s.cfg.Store.Leases(ctx)
	if err != nil {
		return err
	}
	for _, id := range ids {
		l, err := s.cfg.Store.TimeToLive(ctx, id, false)
		if errors.Is(err, kine.ErrLeaseNotFound) {
			continue // it ended meanwhile
		}
		if err != nil {
			return err
		}
		// The message Lease of etcd's leasepb.
		value := protowire.AppendTag(nil, 1, protowire.VarintType)
		value = protowire.AppendVarint(value, uint64(l.ID))
		value = protowire.AppendTag(value, 2, protowire.VarintType)
		value = protowire.AppendVarint(value, uint64(l.TTL))
		if err := bucket.Put(binary.BigEndian.AppendUint64(nil, uint64(id)), value); err != nil {
			return err
		}
	}
	return nil
}

// etcdRevision is a revision as etcd's file has it.
func etcdRevision(main, sub int64) []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, 17), uint64(main))
	return binary.BigEndian.AppendUint64(append(b, '_'), uint64(sub))
}
