//go:build linux && cgo

package main

import (
	"log"
	"net"
	"os"
	"time"

	"skiff/kubelet/cri/shimapi"

	"golang.org/x/sys/unix"
)

// answer serves the one request of a connection.
func (p *pod) answer(conn *net.UnixConn) {
	defer conn.Close()
	var req shimapi.Request
	files, err := shimapi.ReadFrame(conn, &req, 3)
	if err != nil {
		return
	}
	closeAll := func() {
		for _, f := range files {
			f.Close()
		}
	}
	switch req.Op {
	case shimapi.OpExec:
		p.exec(conn, &req, files)
		closeAll()
		return
	case shimapi.OpAttach:
		p.attach(conn, &req, files)
		return
	case shimapi.OpWatch:
		closeAll()
		p.watch(conn)
		return
	case shimapi.OpShutdown:
		closeAll()
		p.shutdown()
		if err := shimapi.WriteFrame(conn, shimapi.Reply{}); err != nil {
			log.Printf("answer %s: %v", req.Op, err)
		}
		os.Exit(0)
	}
	closeAll()
	reply := p.do(&req)
	if err := shimapi.WriteFrame(conn, reply); err != nil {
		log.Printf("answer %s: %v", req.Op, err)
	}
}

func (p *pod) do(req *shimapi.Request) *shimapi.Reply {
	if req.Op == shimapi.OpStart {
		return p.start(req.ID, req.Start)
	}
	c, missing := p.find(req.ID)
	if missing != nil {
		return missing
	}
	switch req.Op {
	case shimapi.OpSignal:
		if req.All {
			return failure(c.kill())
		}
		return failure(c.signal(unix.Signal(req.Signal)))
	case shimapi.OpResize:
		return failure(c.resize(req.Width, req.Height))
	case shimapi.OpUpdate:
		return failure(c.update(req.Resources))
	case shimapi.OpReopen:
		return failure(c.log.reopen())
	case shimapi.OpForget:
		if !c.exited() {
			return &shimapi.Reply{Code: shimapi.CodeFailed, Error: "container " + c.id + " is running"}
		}
		p.mu.Lock()
		delete(p.containers, c.id)
		p.mu.Unlock()
		return &shimapi.Reply{}
	}
	return &shimapi.Reply{Code: shimapi.CodeFailed, Error: "no such operation: " + string(req.Op)}
}

func failure(err error) *shimapi.Reply {
	if err == nil {
		return &shimapi.Reply{}
	}
	r := &shimapi.Reply{Code: shimapi.CodeFailed, Error: err.Error()}
	if isNotRunning(err) {
		r.Code = shimapi.CodeNotRunning
	}
	return r
}

// watch tells all containers, then each exit, until the client hangs up.
func (p *pod) watch(conn *net.UnixConn) {
	w := &watcher{conn: conn, next: make(chan struct{}, 1)}
	p.mu.Lock()
	var now []shimapi.Container
	for _, c := range p.containers {
		now = append(now, c.state())
	}
	p.watchers[w] = struct{}{}
	p.mu.Unlock()
	gone := hangup(conn)
	defer func() {
		p.mu.Lock()
		delete(p.watchers, w)
		p.mu.Unlock()
	}()
	send := func(list []shimapi.Container) bool {
		conn.SetWriteDeadline(time.Now().Add(30 * time.Second))
		return shimapi.WriteFrame(conn, shimapi.Reply{Containers: list}) == nil
	}
	if !send(now) {
		return
	}
	for {
		select {
		case <-gone:
			return
		case <-w.next:
		}
		p.mu.Lock()
		list := w.queue
		w.queue = nil
		p.mu.Unlock()
		if len(list) > 0 && !send(list) {
			return
		}
	}
}

// hangup is closed when the peer closes its end; the client sends nothing more
// after its request.
func hangup(conn *net.UnixConn) <-chan struct{} {
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		var b [1]byte
		for {
			if _, err := conn.Read(b[:]); err != nil {
				return
			}
		}
	}()
	return gone
}
