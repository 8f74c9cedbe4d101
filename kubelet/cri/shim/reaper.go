//go:build linux && cgo

package main

import (
	"bytes"
	"os"
	"os/signal"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// reaper collects the orphans that come to the shim as subreaper, and leaves
// alone the processes that something waits for.
type reaper struct {
	// starting is held for reading while libcontainer has children of its own
	// that it will wait for, and for writing while orphans are collected.
	starting sync.RWMutex

	mu   sync.Mutex
	kept map[int]bool // pids that something waits for; guarded by mu
}

func newReaper() *reaper { return &reaper{kept: make(map[int]bool)} }

func (r *reaper) keep(pid int) {
	r.mu.Lock()
	r.kept[pid] = true
	r.mu.Unlock()
}

func (r *reaper) drop(pid int) {
	r.mu.Lock()
	delete(r.kept, pid)
	r.mu.Unlock()
}

// run collects orphans for as long as the shim lives.
func (r *reaper) run() {
	ch := make(chan os.Signal, 1)
	signal.Notify(ch, unix.SIGCHLD)
	for range ch {
		r.starting.Lock()
		r.collect()
		r.starting.Unlock()
	}
}

func (r *reaper) collect() {
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return
	}
	for _, t := range tasks {
		children, err := os.ReadFile("/proc/self/task/" + t.Name() + "/children")
		if err != nil {
			continue
		}
		for _, field := range bytes.Fields(children) {
			pid, err := strconv.Atoi(string(field))
			if err != nil {
				continue
			}
			r.mu.Lock()
			kept := r.kept[pid]
			r.mu.Unlock()
			if !kept {
				// WNOHANG: a live orphan is left for the next signal.
				_, _ = unix.Wait4(pid, nil, unix.WNOHANG, nil)
			}
		}
	}
}
