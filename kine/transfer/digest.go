package transfer

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash"

	"skiff/kine"
)

// digest is the number and the checksum of keys in key order.
type digest struct {
	keys      int64
	revisions bool
	hash      hash.Hash
}

// newDigest counts the revisions of keys too, where they are kept.
func newDigest(revisions bool) *digest {
	return &digest{revisions: revisions, hash: sha256.New()}
}

func (d *digest) add(kv *kine.KeyValue) {
	d.keys++
	head := make([]byte, 0, 7*8)
	for _, n := range []int64{int64(len(kv.Key)), int64(len(kv.Value)), kv.Lease} {
		head = binary.BigEndian.AppendUint64(head, uint64(n))
	}
	if d.revisions {
		for _, n := range []int64{kv.CreateRevision, kv.ModRevision, kv.Version} {
			head = binary.BigEndian.AppendUint64(head, uint64(n))
		}
	}
	// A hash's Write returns no error.
	d.hash.Write(head)
	d.hash.Write([]byte(kv.Key))
	d.hash.Write(kv.Value)
}

func (d *digest) sum() string { return hex.EncodeToString(d.hash.Sum(nil)) }
