// Package process starts, finds and stops the `skiff run` of a node that is not
// under a service manager.
package process

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"skiff/cluster/layout"
)

// record is the PID file. Start tells a process from a later one with the same id.
type record struct {
	PID   int    `json:"pid"`
	Start string `json:"start"`
}

// Record writes the calling process into the PID file.
func Record(l layout.Layout) error {
	start, err := startTime(os.Getpid())
	if err != nil {
		return err
	}
	data, err := json.Marshal(record{PID: os.Getpid(), Start: start})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(l.Run(), 0o700); err != nil {
		return err
	}
	tmp := l.PIDFile() + ".new"
	if err := os.WriteFile(tmp, data, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, l.PIDFile())
}

// Find returns the id of the running process of l, or 0.
func Find(l layout.Layout) (int, error) {
	data, err := os.ReadFile(l.PIDFile())
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	var r record
	if err := json.Unmarshal(data, &r); err != nil {
		return 0, nil // a file cut short by a crash names nobody
	}
	start, err := startTime(r.PID)
	if err != nil || start != r.Start {
		return 0, nil
	}
	return r.PID, nil
}

// Start runs executable with args in the background, in the network namespace
// netns (a name below /run/netns; empty for the caller's own), with its output
// appended to the node's log. It returns once the process was started. exited
// is closed when it ends, for as long as the caller lives.
func Start(l layout.Layout, netns, executable string, args ...string) (pid int, exited <-chan struct{}, err error) {
	if err := os.MkdirAll(filepath.Dir(l.ProcessLog()), 0o755); err != nil {
		return 0, nil, err
	}
	log, err := os.OpenFile(l.ProcessLog(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, nil, err
	}
	defer log.Close()
	cmd := exec.Command(executable, args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := startIn(netns, cmd); err != nil {
		return 0, nil, fmt.Errorf("start %s: %w", executable, err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = cmd.Wait() // its end is what matters; the log says why
	}()
	return cmd.Process.Pid, done, nil
}

// startIn starts cmd from a thread that is in the namespace. The thread is
// thrown away after: it may not serve other goroutines.
func startIn(netns string, cmd *exec.Cmd) error {
	if netns == "" {
		return cmd.Start()
	}
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		fd, err := unix.Open(filepath.Join("/run/netns", netns), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			result <- fmt.Errorf("network namespace %s: %w", netns, err)
			return
		}
		defer unix.Close(fd)
		if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
			result <- fmt.Errorf("enter network namespace %s: %w", netns, err)
			return
		}
		result <- cmd.Start()
	}()
	return <-result
}

// Stop ends the process of l with SIGTERM, and with SIGKILL after grace. It
// returns whether there was one.
func Stop(ctx context.Context, l layout.Layout, grace time.Duration) (bool, error) {
	pid, err := Find(l)
	if err != nil || pid == 0 {
		return false, err
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("open process %d: %w", pid, err)
	}
	defer unix.Close(fd)
	if err := unix.PidfdSendSignal(fd, unix.SIGTERM, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return true, fmt.Errorf("stop process %d: %w", pid, err)
	}
	if waitGone(ctx, fd, grace) {
		return true, nil
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return true, fmt.Errorf("kill process %d: %w", pid, err)
	}
	if !waitGone(ctx, fd, grace) {
		return true, fmt.Errorf("process %d did not end", pid)
	}
	return true, nil
}

// waitGone waits until the process behind a pidfd has ended: the descriptor
// becomes readable then.
func waitGone(ctx context.Context, fd int, limit time.Duration) bool {
	deadline := time.Now().Add(limit)
	for ctx.Err() == nil {
		left := time.Until(deadline)
		if left <= 0 {
			return false
		}
		// Wake up now and then to see whether ctx has ended.
		timeout := min(left, 200*time.Millisecond)
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(timeout.Milliseconds())+1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return false
		}
		if n > 0 {
			return true
		}
	}
	return false
}

// startTime is field 22 of /proc/PID/stat (proc_pid_stat(5)); the second field
// may hold spaces, so count from its closing parenthesis.
func startTime(pid int) (string, error) {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return "", err
	}
	fields := bytes.Fields(data[bytes.LastIndexByte(data, ')')+1:])
	if len(fields) < 20 {
		return "", fmt.Errorf("/proc/%d/stat is too short", pid)
	}
	if string(fields[0]) == "Z" {
		return "", fmt.Errorf("process %d has ended", pid)
	}
	return string(fields[19]), nil
}
