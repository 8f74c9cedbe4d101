package pluginwatch

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
)

// maxAddress is how long the path in a socket's address can be.
const maxAddress = 107

// Dial makes a client of what serves on a socket of this node. It connects
// when it is first used, and again whenever the connection is lost.
func Dial(socket string) (*grpc.ClientConn, error) {
	if !filepath.IsAbs(socket) {
		return nil, fmt.Errorf("plugin socket %q: must be an absolute path", socket)
	}
	return grpc.NewClient("passthrough:///"+socket,
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority("localhost"), grpc.WithNoProxy(),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 5 * time.Second}, MinConnectTimeout: 5 * time.Second}),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return connect(ctx, socket) }))
}

// connect reaches sockets whose path is too long for an address through their
// open folder.
func connect(ctx context.Context, socket string) (net.Conn, error) {
	var d net.Dialer
	if len(socket) <= maxAddress {
		return d.DialContext(ctx, "unix", socket)
	}
	fd, err := unix.Open(filepath.Dir(socket), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(fd) }()
	return d.DialContext(ctx, "unix", fmt.Sprintf("/proc/self/fd/%d/%s", fd, filepath.Base(socket)))
}
