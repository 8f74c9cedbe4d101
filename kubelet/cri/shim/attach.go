//go:build linux && cgo

package main

import (
	"errors"
	"io"
	"log"
	"net"
	"os"
	"time"

	"skiff/kubelet/cri/shimapi"

	"github.com/opencontainers/runc/libcontainer"
	"golang.org/x/sys/unix"
)

// attach joins the client's files to a container's streams until the container
// ends or the client hangs up. It takes over the files.
func (p *pod) attach(conn *net.UnixConn, req *shimapi.Request, files []*os.File) {
	var stdin *os.File
	a := &attachment{gone: make(chan struct{})}
	defer func() { closeAll(files2closers(files)...) }()
	c, missing := p.find(req.ID)
	if missing == nil && c.exited() {
		missing = failure(libcontainer.ErrNotRunning)
	}
	if missing != nil || req.Streams == nil {
		if missing == nil {
			missing = failure(errors.New("attach without streams"))
		}
		if err := shimapi.WriteFrame(conn, missing); err != nil {
			log.Printf("answer attach: %v", err)
		}
		return
	}
	for i, f := range files {
		ready, err := pollable(f)
		if err != nil {
			log.Printf("attach: %v", err)
			return
		}
		files[i] = ready
	}
	rest := files
	take := func(want bool) *os.File {
		if !want || len(rest) == 0 {
			return nil
		}
		f := rest[0]
		rest = rest[1:]
		return f
	}
	stdin = take(req.Streams.Stdin)
	a.stdout = take(req.Streams.Stdout)
	a.stderr = take(req.Streams.Stderr)

	c.io.mu.Lock()
	c.io.sinks[a] = struct{}{}
	c.io.mu.Unlock()
	defer c.io.remove(a)
	if err := shimapi.WriteFrame(conn, shimapi.Reply{Pid: c.pid}); err != nil {
		return
	}
	copied := make(chan struct{})
	if stdin != nil {
		go func() {
			defer close(copied)
			c.io.feed(stdin)
		}()
	} else {
		close(copied)
	}
	select {
	case <-hangup(conn):
	case <-c.done:
		tellExit(conn, c)
	case <-a.gone:
		// Either the client was too slow, or the container's streams have ended
		// and its exit is being recorded.
		timer := time.NewTimer(drainTime)
		defer timer.Stop()
		select {
		case <-c.done:
			tellExit(conn, c)
		case <-timer.C:
		}
	}
	if stdin != nil {
		stdin.SetReadDeadline(pastDeadline)
	}
	<-copied
}

func tellExit(conn *net.UnixConn, c *container) {
	exit := c.state().Exit
	// The client may be gone; then there is no one to tell.
	_ = shimapi.WriteFrame(conn, shimapi.Reply{ExitCode: &exit.ExitCode})
}

// feed copies a client's input to the container until either has no more.
func (s *stdio) feed(stdin *os.File) {
	s.mu.Lock()
	target := s.stdin
	s.mu.Unlock()
	if target == nil {
		return
	}
	_, err := io.CopyBuffer(onlyWriter{target}, onlyReader{stdin}, make([]byte, smallBuffer))
	if err == nil && s.stdinOnce && !s.terminal {
		s.mu.Lock()
		if s.stdin == target {
			s.stdin.Close()
			s.stdin = nil
		}
		s.mu.Unlock()
	}
}

// onlyReader and onlyWriter keep io.CopyBuffer from the files' own copying,
// which takes larger buffers.
type onlyReader struct{ io.Reader }
type onlyWriter struct{ io.Writer }

// pollable returns the same open file in a form whose reads and writes can be
// given a deadline.
func pollable(f *os.File) (*os.File, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f.Close()
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), "attached"), nil
}

func files2closers(files []*os.File) []io.Closer {
	out := make([]io.Closer, len(files))
	for i, f := range files {
		out[i] = f
	}
	return out
}
