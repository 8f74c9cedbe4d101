//go:build linux && cgo

package main

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"skiff/kubelet/cri/shimapi"

	"github.com/opencontainers/runc/libcontainer"
	"golang.org/x/sys/unix"
)

// sinkPatience is how long an attached client may hold up a container's output
// before it is dropped.
const sinkPatience = 10 * time.Second

const (
	smallBuffer = 4 << 10
	largeBuffer = 64 << 10
)

// stdio holds a container's streams: pipes, or a terminal.
type stdio struct {
	terminal  bool
	stdinOnce bool
	log       *logFile
	child     []*os.File // the process's ends, closed once it has them
	console   *os.File   // receives the terminal; nil without one

	pumps sync.WaitGroup

	mu      sync.Mutex
	stdin   *os.File                 // writing end, nil without or when closed; guarded by mu
	outputs map[string]*os.File      // reading ends by stream; guarded by mu
	sinks   map[*attachment]struct{} // guarded by mu
}

// attachment is a client that reads a container's output.
type attachment struct {
	stdout, stderr *os.File
	gone           chan struct{} // closed when the client was dropped
	once           sync.Once
}

func (a *attachment) drop() { a.once.Do(func() { close(a.gone) }) }

// pipe makes a pipe of which our end can be waited for, and the other one,
// which a program gets as it expects it, blocks.
func pipe(weRead bool) (ours, theirs *os.File, err error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return nil, nil, fmt.Errorf("make pipe: %w", err)
	}
	our, their := fds[1], fds[0]
	if weRead {
		our, their = fds[0], fds[1]
	}
	if err := unix.SetNonblock(our, true); err != nil {
		unix.Close(our)
		unix.Close(their)
		return nil, nil, fmt.Errorf("make pipe: %w", err)
	}
	return os.NewFile(uintptr(our), "pipe"), os.NewFile(uintptr(their), "pipe"), nil
}

func newStdio(process *libcontainer.Process, req *shimapi.Start, log *logFile) (_ *stdio, err error) {
	s := &stdio{
		terminal:  req.Terminal,
		stdinOnce: req.StdinOnce,
		log:       log,
		outputs:   make(map[string]*os.File),
		sinks:     make(map[*attachment]struct{}),
	}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if req.Terminal {
		ours, theirs, err := socketPair()
		if err != nil {
			return nil, err
		}
		s.console, process.ConsoleSocket = ours, theirs
		s.child = append(s.child, theirs)
		return s, nil
	}
	if req.Stdin {
		ours, theirs, err := pipe(false)
		if err != nil {
			return nil, err
		}
		s.stdin, process.Stdin = ours, theirs
		s.child = append(s.child, theirs)
	}
	for _, name := range []string{"stdout", "stderr"} {
		ours, theirs, err := pipe(true)
		if err != nil {
			return nil, err
		}
		s.outputs[name] = ours
		s.child = append(s.child, theirs)
		if name == "stdout" {
			process.Stdout = theirs
		} else {
			process.Stderr = theirs
		}
	}
	return s, nil
}

// started takes the terminal where there is one and begins to read output.
func (s *stdio) started() error {
	for _, f := range s.child {
		f.Close()
	}
	s.child = nil
	if s.terminal {
		master, err := receiveTerminal(s.console)
		s.console.Close()
		s.console = nil
		if err != nil {
			return fmt.Errorf("terminal: %w", err)
		}
		s.mu.Lock()
		s.stdin = master
		s.outputs["stdout"] = master
		s.mu.Unlock()
	}
	for name, f := range s.outputs {
		s.pumps.Add(1)
		go s.pump(name, f)
	}
	return nil
}

// pump reads one stream to its end, for the log and for who is attached. Its
// buffer is small until output comes fast.
func (s *stdio) pump(name string, src *os.File) {
	defer s.pumps.Done()
	lines := liner{stream: name}
	buf := make([]byte, smallBuffer)
	var out []byte
	for {
		n, err := src.Read(buf)
		if s.log.path != "" {
			out = lines.records(out[:0], buf[:n], time.Now().UTC(), err != nil)
			if len(out) > 0 {
				s.log.write(out)
			}
		}
		if n > 0 {
			s.spread(name, buf[:n])
		}
		if err != nil {
			return
		}
		switch {
		case n == len(buf) && n < largeBuffer:
			buf = make([]byte, largeBuffer)
		case n < smallBuffer && len(buf) > smallBuffer:
			buf, out = make([]byte, smallBuffer), nil
		}
	}
}

// spread writes output to the attached clients.
func (s *stdio) spread(name string, data []byte) {
	s.mu.Lock()
	targets := make([]*attachment, 0, len(s.sinks))
	for a := range s.sinks {
		targets = append(targets, a)
	}
	s.mu.Unlock()
	for _, a := range targets {
		f := a.stdout
		if name == "stderr" {
			f = a.stderr
		}
		if f == nil {
			continue
		}
		f.SetWriteDeadline(time.Now().Add(sinkPatience))
		if _, err := f.Write(data); err != nil {
			s.remove(a)
			a.drop()
		}
	}
}

func (s *stdio) remove(a *attachment) {
	s.mu.Lock()
	delete(s.sinks, a)
	s.mu.Unlock()
}

// drain waits until the streams have ended, and no longer than limit, then
// closes them.
func (s *stdio) drain(limit time.Duration) {
	done := make(chan struct{})
	go func() {
		s.pumps.Wait()
		close(done)
	}()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		s.mu.Lock()
		for _, f := range s.outputs {
			f.SetReadDeadline(time.Unix(1, 0))
		}
		s.mu.Unlock()
		<-done
	}
	s.close()
}

func (s *stdio) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.child {
		f.Close()
	}
	s.child = nil
	if s.console != nil {
		s.console.Close()
		s.console = nil
	}
	for _, f := range s.outputs {
		f.Close()
	}
	if s.stdin != nil {
		s.stdin.Close()
		s.stdin = nil
	}
	for a := range s.sinks {
		a.drop()
	}
}

func (s *stdio) resize(width, height uint16) error {
	s.mu.Lock()
	f := s.outputs["stdout"]
	s.mu.Unlock()
	if !s.terminal || f == nil {
		return errors.New("container has no terminal")
	}
	return setWindow(f, width, height)
}

func setWindow(f *os.File, width, height uint16) error {
	rc, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var ioctlErr error
	err = rc.Control(func(fd uintptr) {
		ioctlErr = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: height, Col: width})
	})
	return errors.Join(err, ioctlErr)
}

// pastDeadline ends a blocked read or write at once.
var pastDeadline = time.Unix(1, 0)
