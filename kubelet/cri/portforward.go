package cri

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// forward copies between a client's stream and a port on a pod's loopback.
func (r *Runtime) forward(ctx context.Context, id string, port int32, stream io.ReadWriteCloser) error {
	sb, err := r.sandbox(id)
	if err != nil {
		return err
	}
	if sb.phase() != phaseReady {
		return fmt.Errorf("sandbox container %q is not running", sb.id)
	}
	if port <= 0 || port > 65535 {
		return fmt.Errorf("port %d is not a port", port)
	}
	defer stream.Close()
	ns := ""
	if !sb.hostNetwork() {
		ns = sb.nsPath("net")
	}
	conn, err := dialLoopback(ctx, ns, int(port))
	if err != nil {
		return fmt.Errorf("failed to execute portforward in network namespace %q: %w", ns, err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	toClient := make(chan struct{})
	go func() {
		defer close(toClient)
		copyQuietly(stream, conn)
		// The pod has no more to say; then nor has the client to whom.
		stream.Close()
	}()
	copyQuietly(conn, stream)
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.CloseWrite()
	}
	<-toClient
	return nil
}

// dialLoopback connects to a port of the loopback of a network namespace; an
// empty path is this process's own.
func dialLoopback(ctx context.Context, nsPath string, port int) (net.Conn, error) {
	type result struct {
		conn net.Conn
		err  error
	}
	done := make(chan result, 1)
	go func() {
		// The thread changes its namespace and ends with this goroutine.
		runtime.LockOSThread()
		conn, err := dialIn(ctx, nsPath, port)
		done <- result{conn, err}
	}()
	got := <-done
	return got.conn, got.err
}

func dialIn(ctx context.Context, nsPath string, port int) (net.Conn, error) {
	if nsPath != "" {
		ns, err := os.Open(nsPath)
		if err != nil {
			return nil, err
		}
		err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
		ns.Close()
		if err != nil {
			return nil, fmt.Errorf("enter network namespace: %w", err)
		}
	}
	d := net.Dialer{Timeout: 10 * time.Second}
	var errs []error
	for _, target := range []struct{ network, host string }{{"tcp4", "127.0.0.1"}, {"tcp6", "::1"}} {
		// With one literal address the socket is made by this thread.
		conn, err := d.DialContext(ctx, target.network, net.JoinHostPort(target.host, strconv.Itoa(port)))
		if err == nil {
			return conn, nil
		}
		errs = append(errs, err)
	}
	return nil, fmt.Errorf("failed to connect to localhost:%d inside namespace: %w", port, errors.Join(errs...))
}
