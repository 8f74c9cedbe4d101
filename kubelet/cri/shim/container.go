//go:build linux && cgo

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"time"

	"skiff/kubelet/cri/shimapi"

	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/specconv"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// drainTime bounds the wait for output that processes which outlive a
// container's init still hold open.
const drainTime = 2 * time.Second

// container is one container of the pod, from its start to Forget.
type container struct {
	id   string
	dir  string
	lc   *libcontainer.Container
	pid  int
	log  *logFile
	io   *stdio
	done chan struct{} // closed when the exit is on disk

	started time.Time

	// configured keeps processes from being started while limits change.
	configured sync.RWMutex

	mu   sync.Mutex
	exit *shimapi.Exit // nil while running; guarded by mu
}

func isNotRunning(err error) bool {
	return errors.Is(err, libcontainer.ErrNotRunning) || errors.Is(err, os.ErrProcessDone) || errors.Is(err, unix.ESRCH)
}

func (c *container) exited() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.exit != nil
}

func (c *container) state() shimapi.Container {
	c.mu.Lock()
	defer c.mu.Unlock()
	return shimapi.Container{ID: c.id, Pid: c.pid, StartedAt: c.started, Exit: c.exit}
}

// start runs a container. A second request for the same container finds it
// running, so that a runtime that died before it heard the answer may ask again.
func (p *pod) start(id string, req *shimapi.Start) *shimapi.Reply {
	if req == nil {
		return failure(errors.New("start without a description of the container"))
	}
	p.mu.Lock()
	if c := p.containers[id]; c != nil {
		p.mu.Unlock()
		return &shimapi.Reply{Pid: c.pid, StartedAt: c.started}
	}
	if _, busy := p.inFlight[id]; busy || p.ending.Load() {
		p.mu.Unlock()
		return failure(fmt.Errorf("container %s is being started, or the pod is ending", id))
	}
	p.inFlight[id] = struct{}{}
	p.mu.Unlock()

	defer p.settle()
	c, wait, err := p.run(id, req)

	p.mu.Lock()
	delete(p.inFlight, id)
	if err == nil {
		p.containers[id] = c
	}
	ending := p.ending.Load()
	p.mu.Unlock()
	if err != nil {
		return failure(err)
	}
	go wait()
	if ending {
		// Shutdown has looked at the containers already and missed this one.
		if err := c.kill(); err != nil {
			log.Printf("kill container %s: %v", id, err)
		}
	}
	return &shimapi.Reply{Pid: c.pid, StartedAt: c.started}
}

// run makes the container and its init. The returned function waits for its end.
func (p *pod) run(id string, req *shimapi.Start) (_ *container, _ func(), err error) {
	debug.SetGCPercent(startingGCPercent)
	spec, err := readSpec(filepath.Join(req.Dir, shimapi.ConfigFile))
	if err != nil {
		return nil, nil, err
	}
	// From here on libcontainer has children of its own: also to read the
	// mappings of a user namespace.
	p.reaper.starting.RLock()
	defer p.reaper.starting.RUnlock()
	config, err := specconv.CreateLibcontainerConfig(&specconv.CreateOpts{
		CgroupName:       id,
		UseSystemdCgroup: req.Systemd,
		Spec:             spec,
	})
	if err != nil {
		return nil, nil, fmt.Errorf("container configuration: %w", err)
	}
	process, err := newProcess(spec.Process)
	if err != nil {
		return nil, nil, err
	}
	process.Init = true
	c := &container{id: id, dir: req.Dir, done: make(chan struct{})}
	if c.log, err = openLog(req.LogPath); err != nil {
		return nil, nil, err
	}
	c.io, err = newStdio(process, req, c.log)
	if err != nil {
		c.log.close()
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			c.io.close()
			c.log.close()
		}
	}()

	// The container may fill the disk; that it has ended must be recorded then, or
	// it would never make room.
	if err := shimapi.Reserve(filepath.Join(c.dir, shimapi.ExitFile)); err != nil {
		return nil, nil, err
	}
	lc, err := libcontainer.Create(filepath.Join(p.root, shimapi.ContainerRoot), id, config)
	if err != nil {
		return nil, nil, fmt.Errorf("create container: %w", err)
	}
	c.lc = lc
	if err := lc.Run(process); err != nil {
		if derr := lc.Destroy(); derr != nil {
			log.Printf("destroy container %s after a failed start: %v", id, derr)
		}
		return nil, nil, fmt.Errorf("start container process: %w", err)
	}
	c.started = time.Now().UTC()
	if c.pid, err = process.Pid(); err != nil {
		return nil, nil, err
	}
	p.reaper.keep(c.pid)
	if err := c.io.started(); err != nil {
		// The process runs; without its terminal it is of no use.
		log.Printf("container %s: %v", id, err)
		if kerr := c.kill(); kerr != nil {
			log.Printf("kill container %s: %v", id, kerr)
		}
	}
	return c, func() { p.await(c, process) }, nil
}

// readSpec reads what containers here can have of a specification. A decoder is
// kept for every type that is named, for good: those of other systems would cost
// each shim some memory that nothing uses.
func readSpec(path string) (*specs.Spec, error) {
	var s struct {
		Version     string            `json:"ociVersion"`
		Process     *specs.Process    `json:"process"`
		Root        *specs.Root       `json:"root"`
		Hostname    string            `json:"hostname"`
		Domainname  string            `json:"domainname"`
		Mounts      []specs.Mount     `json:"mounts"`
		Annotations map[string]string `json:"annotations"`
		Hooks       *specs.Hooks      `json:"hooks"`
		Linux       *specs.Linux      `json:"linux"`
	}
	if err := shimapi.ReadJSON(path, &s); err != nil {
		return nil, err
	}
	return &specs.Spec{
		Version: s.Version, Process: s.Process, Root: s.Root, Hostname: s.Hostname, Domainname: s.Domainname,
		Mounts: s.Mounts, Annotations: s.Annotations, Hooks: s.Hooks, Linux: s.Linux,
	}, nil
}

// await waits for a container's end and records it: first on disk, then in memory.
func (p *pod) await(c *container, process *libcontainer.Process) {
	waitReadable(c.pid)
	state, err := process.Wait()
	p.reaper.drop(c.pid)
	exit := &shimapi.Exit{StartedAt: c.started, FinishedAt: time.Now().UTC()}
	switch {
	case state != nil:
		exit.ExitCode = exitCode(state)
	default:
		exit.ExitCode, exit.Reason, exit.Message = 255, "Unknown", fmt.Sprintf("exit status was lost: %v", err)
	}
	// Processes left in a shared or host PID namespace end with the container.
	if err := c.lc.Signal(unix.SIGKILL); err != nil && !isNotRunning(err) {
		log.Printf("container %s: end what is left: %v", c.id, err)
	}
	c.endForeign()
	c.io.drain(drainTime)
	exit.OOMKilled = oomKilled(c.lc)
	c.log.close()
	if err := c.lc.Destroy(); err != nil {
		log.Printf("destroy container %s: %v", c.id, err)
	}
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		err := shimapi.WriteReserved(filepath.Join(c.dir, shimapi.ExitFile), exit)
		if err == nil || errors.Is(err, os.ErrNotExist) {
			break
		}
		// A full disk: the exit is told when it is recorded, unless the pod ends.
		log.Printf("record exit of container %s: %v", c.id, err)
		if p.ending.Load() {
			break
		}
		time.Sleep(wait)
	}
	c.mu.Lock()
	c.exit = exit
	c.mu.Unlock()
	p.announce(c.state())
	close(c.done)
	p.settle()
}

// endForeign ends the processes that somebody has moved into the container's
// cgroup, which could not be removed with them.
func (c *container) endForeign() {
	pids, err := c.lc.Processes()
	if err != nil {
		return // the cgroup is gone
	}
	for _, pid := range pids {
		if pid > 1 && pid != os.Getpid() {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
}

// waitReadable blocks until the process has ended without holding a thread, as
// a wait for each container would.
func waitReadable(pid int) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return
	}
	f := os.NewFile(uintptr(fd), "pidfd")
	defer f.Close()
	rc, err := f.SyscallConn()
	if err != nil {
		return
	}
	// An error means that the kernel cannot poll it; then the wait that follows blocks.
	_ = rc.Read(func(fd uintptr) bool {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, 0)
		return err != nil && !errors.Is(err, unix.EINTR) || n > 0
	})
}

func exitCode(s *os.ProcessState) int {
	if ws, ok := s.Sys().(interface {
		Signaled() bool
	}); ok && ws.Signaled() {
		if sig, ok := s.Sys().(interface{ Signal() unix.Signal }); ok {
			return 128 + int(sig.Signal())
		}
	}
	return s.ExitCode()
}

func (c *container) signal(sig unix.Signal) error {
	if c.exited() {
		return libcontainer.ErrNotRunning
	}
	return c.lc.Signal(sig)
}

// kill ends every process of the container.
func (c *container) kill() error {
	if c.exited() {
		return nil
	}
	err := c.lc.Signal(unix.SIGKILL)
	if isNotRunning(err) {
		return nil
	}
	return err
}

// update changes the container's limits; what the request leaves out stays.
func (c *container) update(data json.RawMessage) error {
	if c.exited() {
		return libcontainer.ErrNotRunning
	}
	var r specs.LinuxResources
	if err := json.Unmarshal(data, &r); err != nil {
		return fmt.Errorf("resources: %w", err)
	}
	c.configured.Lock()
	defer c.configured.Unlock()
	config := c.lc.Config()
	set := config.Cgroups.Resources
	before := *set
	applyResources(set, &r)
	// The devices that a container may use never change while it runs; but no
	// process is started with this set.
	set.SkipDevices = true
	defer func() { set.SkipDevices = false }()
	if err := c.lc.Set(config); err != nil {
		*set = before
		return fmt.Errorf("set resources: %w", err)
	}
	return nil
}

func (c *container) resize(width, height uint16) error {
	if c.exited() {
		return libcontainer.ErrNotRunning
	}
	return c.io.resize(width, height)
}

// closeAfter closes each file that is not nil.
func closeAll(files ...io.Closer) {
	for _, f := range files {
		if f != nil {
			f.Close()
		}
	}
}
