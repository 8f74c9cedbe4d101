package etcdserver

import (
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"os"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/version"

	"skiff/kine"
	"skiff/kine/etcdwire"
	"skiff/kine/transfer"
)

type maintenanceServer struct {
	pb.UnimplementedMaintenanceServer
	*Server
}

func (s *maintenanceServer) Status(ctx context.Context, _ *pb.StatusRequest) (*pb.StatusResponse, error) {
	st, err := s.cfg.Store.Status(ctx)
	if err != nil {
		return nil, etcdwire.Error(err)
	}
	resp := &pb.StatusResponse{
		Header: header(st.Revision), Version: version.Version, StorageVersion: version.Version,
		DbSize: st.SizeBytes, DbSizeInUse: st.SizeBytes - st.FreeBytes, DbSizeQuota: st.QuotaBytes,
		Leader: memberID, RaftTerm: 1, RaftIndex: uint64(st.Revision), RaftAppliedIndex: uint64(st.Revision),
	}
	if s.full(ctx, st) {
		resp.Errors = []string{"memberID:" + pb.AlarmType_NOSPACE.String()}
	}
	return resp, nil
}

// full tells whether the quota is used up, or the disk.
func (s *maintenanceServer) full(ctx context.Context, st kine.Status) bool {
	if st.QuotaBytes > 0 && st.SizeBytes-st.FreeBytes >= st.QuotaBytes {
		return true
	}
	p, ok := s.cfg.Store.(kine.Prober)
	return ok && errors.Is(p.Probe(ctx), kine.ErrNoSpace)
}

// Alarm tells whether there is no space. The alarm goes by itself when there
// is space again.
func (s *maintenanceServer) Alarm(ctx context.Context, r *pb.AlarmRequest) (*pb.AlarmResponse, error) {
	st, err := s.cfg.Store.Status(ctx)
	if err != nil {
		return nil, etcdwire.Error(err)
	}
	resp := &pb.AlarmResponse{Header: header(st.Revision)}
	if r.Action == pb.AlarmRequest_GET && s.full(ctx, st) {
		resp.Alarms = []*pb.AlarmMember{{MemberID: memberID, Alarm: pb.AlarmType_NOSPACE}}
	}
	return resp, nil
}

// Defragment has nothing to do: the store returns space by itself.
func (s *maintenanceServer) Defragment(ctx context.Context, _ *pb.DefragmentRequest) (*pb.DefragmentResponse, error) {
	h, err := s.now(ctx)
	if err != nil {
		return nil, etcdwire.Error(err)
	}
	return &pb.DefragmentResponse{Header: h}, nil
}

func (s *maintenanceServer) Hash(ctx context.Context, _ *pb.HashRequest) (*pb.HashResponse, error) {
	hash, revision, err := s.hash(ctx, 0)
	if err != nil {
		return nil, etcdwire.Error(err)
	}
	return &pb.HashResponse{Header: header(revision), Hash: hash}, nil
}

func (s *maintenanceServer) HashKV(ctx context.Context, r *pb.HashKVRequest) (*pb.HashKVResponse, error) {
	hash, revision, err := s.hash(ctx, r.Revision)
	if err != nil {
		return nil, etcdwire.Error(err)
	}
	st, err := s.cfg.Store.Status(ctx)
	if err != nil {
		return nil, etcdwire.Error(err)
	}
	at := r.Revision
	if at == 0 {
		at = revision
	}
	return &pb.HashKVResponse{Header: header(revision), Hash: hash, CompactRevision: st.CompactRevision, HashRevision: at}, nil
}

// hash is a checksum of the state at a revision.
func (s *maintenanceServer) hash(ctx context.Context, at int64) (hash uint32, revision int64, err error) {
	if revision, err = s.cfg.Store.Revision(ctx); err != nil {
		return 0, 0, err
	}
	if at == 0 {
		at = revision
	}
	sum := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	var n [32]byte
	for kv, err := range transfer.Keys(ctx, s.cfg.Store, at) {
		if err != nil {
			return 0, 0, err
		}
		binary.BigEndian.PutUint64(n[0:], uint64(kv.CreateRevision))
		binary.BigEndian.PutUint64(n[8:], uint64(kv.ModRevision))
		binary.BigEndian.PutUint64(n[16:], uint64(kv.Version))
		binary.BigEndian.PutUint64(n[24:], uint64(len(kv.Value)))
		for _, b := range [][]byte{[]byte(kv.Key), {0}, n[:], kv.Value} {
			if _, err := sum.Write(b); err != nil {
				return 0, 0, err
			}
		}
	}
	return sum.Sum32(), revision, nil
}

type clusterServer struct {
	pb.UnimplementedClusterServer
	*Server
}

// MemberList names this server as the one member.
func (s *clusterServer) MemberList(ctx context.Context, _ *pb.MemberListRequest) (*pb.MemberListResponse, error) {
	h, err := s.now(ctx)
	if err != nil {
		return nil, etcdwire.Error(err)
	}
	name, err := os.Hostname()
	if err != nil {
		name = "skiff"
	}
	return &pb.MemberListResponse{Header: h, Members: []*pb.Member{{
		ID: memberID, Name: name, ClientURLs: s.cfg.Advertise, PeerURLs: s.cfg.Advertise,
	}}}, nil
}
