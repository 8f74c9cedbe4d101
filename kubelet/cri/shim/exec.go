//go:build linux && cgo

package main

import (
	"fmt"
	"log"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"skiff/kubelet/cri/shimapi"

	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// exec runs a process in a container with the files that came as its streams.
// The client hanging up ends the process.
func (p *pod) exec(conn *net.UnixConn, req *shimapi.Request, files []*os.File) {
	c, missing := p.find(req.ID)
	reply := missing
	var process *libcontainer.Process
	var console *os.File
	var pid int
	if missing == nil {
		var err error
		process, console, pid, err = p.startExec(c, req.Streams, files)
		if err != nil {
			reply = failure(err)
		}
	}
	if reply != nil {
		if err := shimapi.WriteFrame(conn, reply); err != nil {
			log.Printf("answer exec: %v", err)
		}
		return
	}
	for _, f := range files {
		f.Close() // the process holds its own; ours would keep its pipes open
	}
	first := shimapi.Reply{Pid: pid}
	var err error
	if console != nil {
		err = shimapi.WriteFrame(conn, first, console)
		console.Close()
	} else {
		err = shimapi.WriteFrame(conn, first)
	}
	gone := hangup(conn)
	ended := make(chan struct{})
	go func() {
		select {
		case <-gone:
			if err := process.Signal(os.Kill); err != nil && !isNotRunning(err) {
				log.Printf("end exec in container %s: %v", c.id, err)
			}
		case <-ended:
		}
	}()
	waitReadable(pid)
	state, werr := process.Wait()
	close(ended)
	p.reaper.drop(pid)
	if err != nil {
		return
	}
	last := shimapi.Reply{}
	if state != nil {
		code := exitCode(state)
		last.ExitCode = &code
	} else {
		last = shimapi.Reply{Code: shimapi.CodeFailed, Error: fmt.Sprintf("exit status was lost: %v", werr)}
	}
	// The client may be gone; then there is no one to tell.
	_ = shimapi.WriteFrame(conn, last)
}

func (p *pod) startExec(c *container, streams *shimapi.Streams, files []*os.File) (_ *libcontainer.Process, console *os.File, pid int, err error) {
	if streams == nil || len(streams.Args) == 0 {
		return nil, nil, 0, fmt.Errorf("exec in container %s: no command given", c.id)
	}
	if c.exited() {
		return nil, nil, 0, libcontainer.ErrNotRunning
	}
	// The rest of the configuration, a large system call filter, is not read.
	var spec struct {
		Process *specs.Process `json:"process"`
	}
	if err := shimapi.ReadJSON(filepath.Join(c.dir, shimapi.ConfigFile), &spec); err != nil {
		return nil, nil, 0, err
	}
	if spec.Process == nil {
		return nil, nil, 0, fmt.Errorf("container %s: configuration has no process", c.id)
	}
	spec.Process.Args = streams.Args
	if streams.Terminal && !slices.ContainsFunc(spec.Process.Env, func(e string) bool { return strings.HasPrefix(e, "TERM=") }) {
		spec.Process.Env = append(spec.Process.Env, "TERM=xterm")
	}
	process, err := newProcess(spec.Process)
	if err != nil {
		return nil, nil, 0, err
	}
	var ours, theirs *os.File
	if streams.Terminal {
		if ours, theirs, err = socketPair(); err != nil {
			return nil, nil, 0, err
		}
		defer closeAll(ours, theirs)
		process.ConsoleSocket = theirs
	} else {
		next := func(want bool) *os.File {
			if !want || len(files) == 0 {
				return nil
			}
			f := files[0]
			files = files[1:]
			return f
		}
		// An untyped nil must stay one: a nil *os.File in an interface is not nil.
		if f := next(streams.Stdin); f != nil {
			process.Stdin = f
		}
		if f := next(streams.Stdout); f != nil {
			process.Stdout = f
		}
		if f := next(streams.Stderr); f != nil {
			process.Stderr = f
		}
	}
	c.configured.RLock()
	defer c.configured.RUnlock()
	p.reaper.starting.RLock()
	defer p.reaper.starting.RUnlock()
	if err := c.lc.Run(process); err != nil {
		return nil, nil, 0, fmt.Errorf("exec in container %s: %w", c.id, err)
	}
	if pid, err = process.Pid(); err != nil {
		return nil, nil, 0, err
	}
	p.reaper.keep(pid)
	if streams.Terminal {
		theirs.Close()
		if console, err = receiveTerminal(ours); err != nil {
			if kerr := process.Signal(os.Kill); kerr != nil {
				log.Printf("end exec without terminal: %v", kerr)
			}
			return nil, nil, 0, fmt.Errorf("exec in container %s: terminal: %w", c.id, err)
		}
	}
	return process, console, pid, nil
}
