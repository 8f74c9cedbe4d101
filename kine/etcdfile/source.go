package etcdfile

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"
	"time"

	"go.etcd.io/bbolt"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"skiff/kine"
	"skiff/kine/etcdwire"
	"skiff/kine/transfer"
)

// source is the newest state that a file holds.
type source struct {
	db       *bbolt.DB
	revision int64
	// newest is where each key's value is, in key order.
	newest []place
}

type place struct {
	key      string
	revision []byte
}

// OpenSource opens a file, and checks its checksum if it has one.
func OpenSource(path string) (_ transfer.Source, err error) {
	if err := verify(path); err != nil {
		return nil, fmt.Errorf("etcd snapshot %s: %w", path, err)
	}
	db, err := bbolt.Open(path, 0o400, &bbolt.Options{ReadOnly: true, Timeout: time.Second})
	if err != nil {
		return nil, fmt.Errorf("etcd snapshot %s: it is no database of etcd, or in use: %w", path, err)
	}
	s := &source{db: db, revision: 1}
	if err := db.View(s.index); err != nil {
		return nil, errors.Join(fmt.Errorf("etcd snapshot %s: %w", path, err), db.Close())
	}
	return s, nil
}

// verify compares the checksum that `etcdctl snapshot save` puts at the end. A
// file that was copied from a member's folder has none.
func verify(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Size()%512 != sha256.Size {
		return nil
	}
	sum := sha256.New()
	if _, err := io.CopyN(sum, f, info.Size()-sha256.Size); err != nil {
		return err
	}
	want, err := io.ReadAll(f)
	if err != nil {
		return err
	}
	if !bytes.Equal(sum.Sum(nil), want) {
		return errors.New("its checksum is wrong: the file is damaged, take another one")
	}
	return nil
}

// tombstone ends the revision of a delete.
const tombstone = 't'

// index finds the newest revision of each key.
func (s *source) index(tx *bbolt.Tx) error {
	bucket := tx.Bucket([]byte("key"))
	if bucket == nil {
		return errors.New("it has no bucket of keys: it is no database of etcd")
	}
	newest := map[string][]byte{}
	err := bucket.ForEach(func(rev, value []byte) error {
		if len(rev) < 17 {
			return fmt.Errorf("revision %x is too short", rev)
		}
		kv := mvccpb.KeyValue{}
		if err := proto.Unmarshal(value, &kv); err != nil {
			return fmt.Errorf("revision %x: %w", rev, err)
		}
		s.revision = max(s.revision, int64(binary.BigEndian.Uint64(rev)))
		if len(rev) == 18 && rev[17] == tombstone {
			delete(newest, string(kv.Key))
		} else {
			newest[string(kv.Key)] = bytes.Clone(rev)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if meta := tx.Bucket([]byte("meta")); meta != nil {
		if at := meta.Get([]byte("finishedCompactRev")); len(at) >= 8 {
			s.revision = max(s.revision, int64(binary.BigEndian.Uint64(at)))
		}
	}
	for key, rev := range newest {
		s.newest = append(s.newest, place{key, rev})
	}
	slices.SortFunc(s.newest, func(a, b place) int { return bytes.Compare([]byte(a.key), []byte(b.key)) })
	return nil
}

func (s *source) Revision() int64 { return s.revision }

// Quiet is false: the cluster that the file is of may have gone on.
func (s *source) Quiet() bool { return false }

func (s *source) Close() error { return s.db.Close() }

func (s *source) Keys(ctx context.Context) iter.Seq2[kine.KeyValue, error] {
	return func(yield func(kine.KeyValue, error) bool) {
		err := s.db.View(func(tx *bbolt.Tx) error {
			bucket := tx.Bucket([]byte("key"))
			for _, p := range s.newest {
				if err := ctx.Err(); err != nil {
					return err
				}
				kv := mvccpb.KeyValue{}
				if err := proto.Unmarshal(bucket.Get(p.revision), &kv); err != nil {
					return err
				}
				if !yield(etcdwire.FromKeyValue(&kv, false), nil) {
					return nil
				}
			}
			return nil
		})
		if err != nil {
			yield(kine.KeyValue{}, err)
		}
	}
}

func (s *source) Leases(context.Context) ([]kine.Lease, error) {
	var out []kine.Lease
	err := s.db.View(func(tx *bbolt.Tx) error {
		bucket := tx.Bucket([]byte("lease"))
		if bucket == nil {
			return nil
		}
		return bucket.ForEach(func(_, value []byte) error {
			l, err := parseLease(value)
			out = append(out, l)
			return err
		})
	})
	return out, err
}

// parseLease reads the message Lease of etcd's leasepb.
func parseLease(b []byte) (l kine.Lease, err error) {
	for len(b) > 0 {
		field, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return l, fmt.Errorf("lease: %w", protowire.ParseError(n))
		}
		b = b[n:]
		if kind != protowire.VarintType {
			if n = protowire.ConsumeFieldValue(field, kind, b); n < 0 {
				return l, fmt.Errorf("lease: %w", protowire.ParseError(n))
			}
			b = b[n:]
			continue
		}
		v, n := protowire.ConsumeVarint(b)
		if n < 0 {
			return l, fmt.Errorf("lease: %w", protowire.ParseError(n))
		}
		b = b[n:]
		switch field {
		case 1:
			l.ID = int64(v)
		case 2:
			l.TTL = int64(v)
		}
	}
	return l, nil
}
