package etcdserver_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/lease"
	"go.etcd.io/etcd/server/v3/storage/backend"
	"go.etcd.io/etcd/server/v3/storage/mvcc"
	"go.uber.org/zap"
)

// etcd's own storage reads the snapshot, at the revision it was taken.
func TestSnapshotIsEtcds(t *testing.T) {
	c := client(t, serve(t))
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	ops := []clientv3.Op{clientv3.OpPut("a", "1"), clientv3.OpPut("b", "2")}
	if _, err := c.Txn(ctx).Then(ops...).Commit(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Put(ctx, "gone", "x"); err != nil {
		t.Fatal(err)
	}
	last, err := c.Delete(ctx, "gone")
	if err != nil {
		t.Fatal(err)
	}
	r, err := c.Snapshot(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	file, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	n := len(file) - sha256.Size
	if n%512 != 0 {
		t.Fatalf("%d bytes are no database and checksum", len(file))
	}
	if sum := sha256.Sum256(file[:n]); !bytes.Equal(sum[:], file[n:]) {
		t.Fatal("the checksum is wrong")
	}
	path := filepath.Join(t.TempDir(), "db")
	if err := os.WriteFile(path, file[:n], 0o600); err != nil {
		t.Fatal(err)
	}
	be := backend.NewDefaultBackend(zap.NewNop(), path)
	defer be.Close()
	store := mvcc.NewStore(zap.NewNop(), be, &lease.FakeLessor{}, mvcc.StoreConfig{})
	defer store.Close()
	if store.Rev() != last.Header.Revision {
		t.Errorf("etcd reads revision %d, want %d", store.Rev(), last.Header.Revision)
	}
	res, err := store.Range(ctx, []byte("a"), []byte("z"), mvcc.RangeOptions{})
	if err != nil || len(res.KVs) != 2 || string(res.KVs[0].Value) != "1" || string(res.KVs[1].Value) != "2" || res.KVs[1].ModRevision != 2 {
		t.Errorf("etcd reads %v, %v", res, err)
	}
}
