//go:build linux && cgo

package main

import (
	"errors"
	"log"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"skiff/kubelet/cri/shimapi"

	"golang.org/x/sys/unix"
)

// pod is the state of the shim: one sandbox and its containers.
type pod struct {
	sandbox  shimapi.Sandbox
	root     string // absolute run directory
	pause    shimapi.Proc
	reaper   *reaper
	listener *net.UnixListener
	ending   atomic.Bool

	mu         sync.Mutex
	containers map[string]*container // guarded by mu
	watchers   map[*watcher]struct{} // guarded by mu
	inFlight   map[string]struct{}   // ids being started; guarded by mu
	tidy       *time.Timer           // runs giveBack; nil before a container was started; guarded by mu
}

// watcher is a connection that is told of exits.
type watcher struct {
	conn *net.UnixConn
	next chan struct{} // signalled when queue has grown
	// queue holds exits not yet sent; guarded by pod.mu.
	queue []shimapi.Container
}

func newPod(sb shimapi.Sandbox) *pod {
	root, err := os.Getwd()
	if err != nil {
		root = "."
	}
	return &pod{
		sandbox:    sb,
		root:       root,
		reaper:     newReaper(),
		containers: make(map[string]*container),
		watchers:   make(map[*watcher]struct{}),
		inFlight:   make(map[string]struct{}),
	}
}

const (
	startingGCPercent = 400
	idleGCPercent     = 25
)

// giveBack gives memory back to the system, and lets less of it grow until the
// next container is started.
func giveBack() {
	debug.SetGCPercent(idleGCPercent)
	debug.FreeOSMemory()
}

// settle gives memory back to the system a moment after a container has started
// or ended. What else a shim does leaves little, and each collection costs more
// for its own tables than that is.
func (p *pod) settle() {
	const quiet = 500 * time.Millisecond
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.tidy == nil {
		p.tidy = time.AfterFunc(quiet, giveBack)
		return
	}
	p.tidy.Reset(quiet)
}

func (p *pod) listen() error {
	// The path is relative: an absolute one may be longer than an address can be.
	if err := os.Remove(shimapi.SocketFile); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	old := unix.Umask(0o177)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: shimapi.SocketFile, Net: "unix"})
	unix.Umask(old)
	if err != nil {
		return err
	}
	p.listener = l
	return nil
}

// serve answers until the pod is shut down.
func (p *pod) serve() {
	go p.reaper.run()
	for {
		conn, err := p.listener.AcceptUnix()
		if err != nil {
			if p.ending.Load() {
				// The last answer is being written; exit comes from shutdown.
				select {}
			}
			log.Printf("accept: %v", err)
			time.Sleep(10 * time.Millisecond)
			continue
		}
		go p.answer(conn)
	}
}

func (p *pod) find(id string) (*container, *shimapi.Reply) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.containers[id]
	if c == nil {
		return nil, &shimapi.Reply{Code: shimapi.CodeNotFound, Error: "container " + id + " is not of this pod"}
	}
	return c, nil
}

// announce tells the watchers of an exit that is on disk.
func (p *pod) announce(c shimapi.Container) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for w := range p.watchers {
		w.queue = append(w.queue, c)
		select {
		case w.next <- struct{}{}:
		default:
		}
	}
}

// shutdown ends every container of the pod and waits for their records.
func (p *pod) shutdown() {
	p.ending.Store(true)
	p.listener.Close()
	p.mu.Lock()
	all := make([]*container, 0, len(p.containers))
	for _, c := range p.containers {
		all = append(all, c)
	}
	p.mu.Unlock()
	for _, c := range all {
		if err := c.kill(); err != nil {
			log.Printf("kill container %s: %v", c.id, err)
		}
	}
	for _, c := range all {
		<-c.done
	}
	p.release()
}

// release ends the pause process and lets go of the namespaces.
func (p *pod) release() {
	p.ending.Store(true)
	if err := p.pause.Kill(); err != nil {
		log.Print(err)
	}
	names, err := filepath.Glob(filepath.Join(shimapi.NamespaceDir, "*"))
	if err != nil {
		return
	}
	for _, name := range names {
		if err := unix.Unmount(name, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
			log.Printf("unmount %s: %v", name, err)
		}
	}
}
