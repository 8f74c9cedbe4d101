package etcdserver

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"path/filepath"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/version"
	"google.golang.org/grpc"

	"skiff/kine/etcdfile"
	"skiff/kine/etcdwire"
	"skiff/kine/transfer"
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

// writeSnapshot writes etcd's database file and returns the revision it is of.
func (s *maintenanceServer) writeSnapshot(ctx context.Context, path string) (revision int64, err error) {
	src, err := transfer.FromStore(ctx, s.cfg.Store, func() error { return nil })
	if err != nil {
		return 0, err
	}
	leases, err := src.Leases(ctx)
	if err != nil {
		return 0, err
	}
	return src.Revision(), etcdfile.Write(ctx, path, src.Revision(), src.Keys(ctx), leases)
}
