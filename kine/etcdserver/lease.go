package etcdserver

import (
	"context"
	"errors"
	"io"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"

	"skiff/kine"
	"skiff/kine/etcdwire"
)

type leaseServer struct {
	pb.UnimplementedLeaseServer
	*Server
}

func (s *leaseServer) LeaseGrant(ctx context.Context, r *pb.LeaseGrantRequest) (*pb.LeaseGrantResponse, error) {
	if r.TTL > kine.MaxLeaseTTL {
		return nil, rpctypes.ErrGRPCLeaseTTLTooLarge
	}
	l, err := s.cfg.Store.Grant(ctx, r.ID, max(r.TTL, 1))
	if err != nil {
		return nil, etcdwire.Error(err)
	}
	h, err := s.now(ctx)
	if err != nil {
		return nil, etcdwire.Error(err)
	}
	return &pb.LeaseGrantResponse{Header: h, ID: l.ID, TTL: l.TTL}, nil
}

func (s *leaseServer) LeaseRevoke(ctx context.Context, r *pb.LeaseRevokeRequest) (*pb.LeaseRevokeResponse, error) {
	if err := s.cfg.Store.Revoke(ctx, r.ID); err != nil {
		return nil, etcdwire.Error(err)
	}
	h, err := s.now(ctx)
	if err != nil {
		return nil, etcdwire.Error(err)
	}
	return &pb.LeaseRevokeResponse{Header: h}, nil
}

func (s *leaseServer) LeaseKeepAlive(stream grpc.BidiStreamingServer[pb.LeaseKeepAliveRequest, pb.LeaseKeepAliveResponse]) error {
	ctx := stream.Context()
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		resp := &pb.LeaseKeepAliveResponse{ID: r.ID}
		l, err := s.cfg.Store.KeepAlive(ctx, r.ID)
		switch {
		case err == nil:
			resp.TTL = l.TTL
		case !errors.Is(err, kine.ErrLeaseNotFound): // a TTL of 0 says that it is gone
			return etcdwire.Error(err)
		}
		if resp.Header, err = s.now(ctx); err != nil {
			return etcdwire.Error(err)
		}
		if err := stream.Send(resp); err != nil {
			return err
		}
	}
}

func (s *leaseServer) LeaseTimeToLive(ctx context.Context, r *pb.LeaseTimeToLiveRequest) (*pb.LeaseTimeToLiveResponse, error) {
	resp := &pb.LeaseTimeToLiveResponse{ID: r.ID, TTL: -1}
	l, err := s.cfg.Store.TimeToLive(ctx, r.ID, r.Keys)
	switch {
	case err == nil:
		resp.TTL, resp.GrantedTTL = l.Remaining, l.TTL
		for _, key := range l.Keys {
			resp.Keys = append(resp.Keys, []byte(key))
		}
	case !errors.Is(err, kine.ErrLeaseNotFound): // a TTL of -1 says that it is gone
		return nil, etcdwire.Error(err)
	}
	if resp.Header, err = s.now(ctx); err != nil {
		return nil, etcdwire.Error(err)
	}
	return resp, nil
}

func (s *leaseServer) LeaseLeases(ctx context.Context, _ *pb.LeaseLeasesRequest) (*pb.LeaseLeasesResponse, error) {
	ids, err := s.cfg.Store.Leases(ctx)
	if err != nil {
		return nil, etcdwire.Error(err)
	}
	h, err := s.now(ctx)
	if err != nil {
		return nil, etcdwire.Error(err)
	}
	resp := &pb.LeaseLeasesResponse{Header: h}
	for _, id := range ids {
		resp.Leases = append(resp.Leases, &pb.LeaseStatus{ID: id})
	}
	return resp, nil
}
