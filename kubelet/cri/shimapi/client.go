package shimapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Client talks to the shim of one pod. Its methods may run at the same time.
type Client struct {
	dir string
}

// NewClient makes a client for the shim whose run directory is dir.
func NewClient(dir string) *Client { return &Client{dir: dir} }

// dial goes through a descriptor of the directory, since a socket's path may
// have 107 bytes and a directory's may not fit.
func (c *Client) dial(ctx context.Context) (*net.UnixConn, error) {
	fd, err := unix.Open(c.dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrGone, c.dir, err)
	}
	defer unix.Close(fd)
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", "/proc/self/fd/"+strconv.Itoa(fd)+"/"+SocketFile)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("%w: %w", ErrGone, err)
	}
	return conn.(*net.UnixConn), nil
}

// call sends a request and reads its first reply. The connection is the
// caller's; it is closed when ctx ends.
func (c *Client) call(ctx context.Context, req *Request, want int, files ...*os.File) (*net.UnixConn, *Reply, []*os.File, error) {
	conn, err := c.dial(ctx)
	if err != nil {
		return nil, nil, nil, err
	}
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	fail := func(err error) (*net.UnixConn, *Reply, []*os.File, error) {
		conn.Close()
		if ctx.Err() != nil {
			return nil, nil, nil, ctx.Err()
		}
		return nil, nil, nil, err
	}
	if err := WriteFrame(conn, req, files...); err != nil {
		return fail(fmt.Errorf("%w: %s: %w", ErrGone, req.Op, err))
	}
	reply := new(Reply)
	got, err := ReadFrame(conn, reply, want)
	if err != nil {
		return fail(fmt.Errorf("%w: %s: %w", ErrGone, req.Op, err))
	}
	if err := reply.Err(); err != nil {
		for _, f := range got {
			f.Close()
		}
		return fail(err)
	}
	return conn, reply, got, nil
}

func (c *Client) simple(ctx context.Context, req *Request) (*Reply, error) {
	conn, reply, _, err := c.call(ctx, req, 0)
	if err != nil {
		return nil, err
	}
	conn.Close()
	return reply, nil
}

// Start runs a container and returns its init's pid.
func (c *Client) Start(ctx context.Context, id string, s Start) (Container, error) {
	r, err := c.simple(ctx, &Request{Op: OpStart, ID: id, Start: &s})
	if err != nil {
		return Container{}, err
	}
	return Container{ID: id, Pid: r.Pid, StartedAt: r.StartedAt}, nil
}

// Signal signals a container's init, or with all each of its processes.
func (c *Client) Signal(ctx context.Context, id string, sig unix.Signal, all bool) error {
	_, err := c.simple(ctx, &Request{Op: OpSignal, ID: id, Signal: int(sig), All: all})
	return err
}

// Update changes a container's resources, given as OCI LinuxResources.
func (c *Client) Update(ctx context.Context, id string, resources any) error {
	data, err := json.Marshal(resources)
	if err != nil {
		return fmt.Errorf("encode resources: %w", err)
	}
	_, err = c.simple(ctx, &Request{Op: OpUpdate, ID: id, Resources: data})
	return err
}

// ReopenLog makes the shim open a container's log file anew.
func (c *Client) ReopenLog(ctx context.Context, id string) error {
	_, err := c.simple(ctx, &Request{Op: OpReopen, ID: id})
	return err
}

// Resize sets the size of a container's terminal.
func (c *Client) Resize(ctx context.Context, id string, width, height uint16) error {
	_, err := c.simple(ctx, &Request{Op: OpResize, ID: id, Width: width, Height: height})
	return err
}

// Forget drops an exited container from the shim.
func (c *Client) Forget(ctx context.Context, id string) error {
	_, err := c.simple(ctx, &Request{Op: OpForget, ID: id})
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// Shutdown ends the pod's containers and then the shim.
func (c *Client) Shutdown(ctx context.Context) error {
	_, err := c.simple(ctx, &Request{Op: OpShutdown})
	return err
}

// Session is a running exec or an attachment.
type Session struct {
	conn *net.UnixConn
	// Console is the terminal of an exec that asked for one; the caller owns it.
	Console *os.File
}

// Exec runs a process in a container. The files become its streams; the
// caller's copies may be closed at once.
func (c *Client) Exec(ctx context.Context, id string, s Streams, files ...*os.File) (*Session, error) {
	return c.session(ctx, &Request{Op: OpExec, ID: id, Streams: &s}, files)
}

// Attach joins a container's streams.
func (c *Client) Attach(ctx context.Context, id string, s Streams, files ...*os.File) (*Session, error) {
	return c.session(ctx, &Request{Op: OpAttach, ID: id, Streams: &s}, files)
}

func (c *Client) session(ctx context.Context, req *Request, files []*os.File) (*Session, error) {
	conn, _, got, err := c.call(ctx, req, 1, files...)
	if err != nil {
		return nil, err
	}
	s := &Session{conn: conn}
	if len(got) > 0 {
		s.Console = got[0]
	}
	return s, nil
}

// Wait blocks until the session has ended and returns its exit code. When ctx
// ends first the shim kills the exec, or lets go of the attachment.
func (s *Session) Wait(ctx context.Context) (int, error) {
	stop := context.AfterFunc(ctx, func() { s.conn.Close() })
	defer stop()
	defer s.conn.Close()
	var r Reply
	if _, err := ReadFrame(s.conn, &r, 0); err != nil {
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		return 0, fmt.Errorf("%w: %w", ErrGone, err)
	}
	if err := r.Err(); err != nil {
		return 0, err
	}
	if r.ExitCode == nil {
		return 0, nil
	}
	return *r.ExitCode, nil
}

// Close ends the session.
func (s *Session) Close() error { return s.conn.Close() }

// Watch calls now with all containers of the pod, and then exited for each
// that ends. It returns when ctx ends (nil) or the shim is gone (ErrGone).
func (c *Client) Watch(ctx context.Context, now func([]Container), exited func(Container)) error {
	conn, reply, _, err := c.call(ctx, &Request{Op: OpWatch}, 0)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	now(reply.Containers)
	for {
		var r Reply
		if _, err := ReadFrame(conn, &r, 0); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("%w: %w", ErrGone, err)
		}
		for _, ct := range r.Containers {
			exited(ct)
		}
	}
}
