package etcdserver

import (
	"context"
	"errors"
	"math"
	"net"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
)

// Ids of the one member of the one cluster.
const (
	clusterID = 0x736b6966660001
	memberID  = 0x736b6966660002
)

// Server serves a store.
type Server struct {
	cfg   Config
	ready chan struct{}

	mu    sync.Mutex
	addrs []net.Addr
	// stopping is closed when the server ends: open streams end with it.
	stopping chan struct{}
}

// New checks the configuration. Nothing is opened before Run.
func New(cfg Config) (*Server, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, err
	}
	return &Server{cfg: cfg, ready: make(chan struct{}), stopping: make(chan struct{})}, nil
}

// Ready is closed once the server listens.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// Addrs are the addresses it listens on, in Listen's order, once it is ready.
func (s *Server) Addrs() []net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.addrs
}

// Run serves until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	type served struct {
		l net.Listener
		g *grpc.Server
	}
	var all []served
	for _, address := range s.cfg.Listen {
		l, secure, err := listen(address)
		if err != nil {
			for _, o := range all {
				err = errors.Join(err, o.l.Close())
			}
			return err
		}
		all = append(all, served{l, s.grpcServer(secure)})
		s.addrs = append(s.addrs, l.Addr())
	}
	failed := make(chan error, len(all))
	var wg sync.WaitGroup
	for _, o := range all {
		wg.Go(func() {
			if err := o.g.Serve(o.l); err != nil {
				failed <- err
			}
		})
	}
	close(s.ready)
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	close(s.stopping)
	const grace = 2 * time.Second
	for _, o := range all {
		wg.Go(func() {
			timer := time.AfterFunc(grace, o.g.Stop)
			o.g.GracefulStop()
			timer.Stop()
		})
	}
	wg.Wait()
	return err
}

// sendChunk is the size of the parts of streamed answers.
const sendChunk = 1 << 20

const (
	// streamWorkers is how many requests are served by goroutines that stay; the
	// ones beyond get a goroutine each.
	streamWorkers = 256
	// window is how much a client may send before it is read.
	window = 1 << 20
)

func (s *Server) grpcServer(secure bool) *grpc.Server {
	options := []grpc.ServerOption{
		// Goroutines that stay: a new one for each request grows its stack anew.
		grpc.NumStreamWorkers(streamWorkers),
		// Windows of a fixed size need no estimates of the line's speed, which cost a
		// ping for every few requests.
		grpc.StaticStreamWindowSize(window), grpc.StaticConnWindowSize(window),
		// The store's own limits are narrower and tell more.
		grpc.MaxRecvMsgSize(16 << 20), grpc.MaxSendMsgSize(math.MaxInt32), grpc.MaxConcurrentStreams(math.MaxUint32),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 2 * time.Hour, Timeout: 20 * time.Second}),
	}
	if secure {
		config := s.cfg.TLS.Clone()
		config.NextProtos = []string{"h2"}
		options = append(options, grpc.Creds(credentials.NewTLS(config)))
	}
	g := grpc.NewServer(options...)
	pb.RegisterKVServer(g, &kvServer{Server: s})
	pb.RegisterWatchServer(g, &watchServer{Server: s})
	pb.RegisterLeaseServer(g, &leaseServer{Server: s})
	pb.RegisterMaintenanceServer(g, &maintenanceServer{Server: s})
	pb.RegisterClusterServer(g, &clusterServer{Server: s})
	pb.RegisterAuthServer(g, pb.UnimplementedAuthServer{})
	h := health.NewServer()
	h.SetServingStatus("", grpc_health_v1.HealthCheckResponse_SERVING)
	grpc_health_v1.RegisterHealthServer(g, h)
	return g
}

func header(revision int64) *pb.ResponseHeader {
	return &pb.ResponseHeader{ClusterId: clusterID, MemberId: memberID, Revision: revision, RaftTerm: 1}
}

// now is a header at the store's revision.
func (s *Server) now(ctx context.Context) (*pb.ResponseHeader, error) {
	revision, err := s.cfg.Store.Revision(ctx)
	if err != nil {
		return nil, err
	}
	return header(revision), nil
}
