package cri

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"skiff/kubelet/cri/shimapi"
	"skiff/kubelet/cri/shimbin"
)

// shims starts shim processes from one sealed copy of the shim.
type shims struct {
	path string

	mu   sync.Mutex
	file *os.File // guarded by mu
}

func (s *shims) executable() (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file == nil {
		f, err := shimbin.Open(s.path)
		if err != nil {
			return "", err
		}
		s.file = f
	}
	return s.file.Name(), nil
}

func (s *shims) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file != nil {
		s.file.Close()
		s.file = nil
	}
}

// start runs a shim in its folder, which must exist, and returns when the pod's
// namespaces are there and the shim listens.
func (s *shims) start(ctx context.Context, dir string, sb shimapi.Sandbox) error {
	path, err := s.executable()
	if err != nil {
		return err
	}
	if err := shimapi.WriteJSON(filepath.Join(dir, shimapi.SandboxFile), sb); err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(dir, shimapi.LogFile), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	ready, theirs, err := os.Pipe()
	if err != nil {
		return err
	}
	defer ready.Close()
	// One processor and one arena of malloc: a shim's memory counts once per pod.
	cmd := &exec.Cmd{
		Path:       path,
		Args:       []string{"skiff-shim", "pod"},
		Dir:        dir,
		Env:        []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "GOMAXPROCS=1", "MALLOC_ARENA_MAX=1"},
		Stdout:     log,
		Stderr:     log,
		ExtraFiles: []*os.File{theirs},
		// The shim is not to get the signals of skiff's terminal.
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	err = cmd.Start()
	theirs.Close()
	if err != nil {
		return fmt.Errorf("start the pod's shim: %w", err)
	}
	// A shim that ends while this process lives must not stay a zombie.
	go func() { _ = cmd.Wait() }()
	stop := context.AfterFunc(ctx, func() { ready.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	var reply shimapi.Reply
	line, err := bufio.NewReader(ready).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &reply)
	}
	if err == nil {
		err = reply.Err()
	} else if ctx.Err() != nil {
		err = ctx.Err()
	} else if tail := logTail(filepath.Join(dir, shimapi.LogFile)); tail != "" {
		err = errors.New(tail)
	}
	if err != nil {
		_ = cmd.Process.Kill()
		return fmt.Errorf("start the pod's shim: %w", err)
	}
	return nil
}

func logTail(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data[max(0, len(data)-2000):]))
}

// endShim ends a pod's shim and all that it holds, whether it answers or not,
// and unmounts what is left in its folder.
func endShim(ctx context.Context, dir string) error {
	var errs []error
	quick, cancel := context.WithTimeout(ctx, 30*time.Second)
	err := shimapi.NewClient(dir).Shutdown(quick)
	cancel()
	if err != nil {
		for _, name := range []string{shimapi.PidFile, shimapi.PauseFile} {
			var p shimapi.Proc
			if rerr := shimapi.ReadJSON(filepath.Join(dir, name), &p); rerr == nil {
				errs = append(errs, p.Kill())
			}
		}
	}
	errs = append(errs, unmountBelow(dir))
	return errors.Join(errs...)
}

// unmountBelow unmounts all that is mounted at or below dir, innermost first.
func unmountBelow(dir string) error {
	points, err := mountsBelow(dir)
	if err != nil {
		return err
	}
	var errs []error
	for i := len(points) - 1; i >= 0; i-- {
		if err := unix.Unmount(points[i], unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
			errs = append(errs, fmt.Errorf("unmount %s: %w", points[i], err))
		}
	}
	return errors.Join(errs...)
}

// mountsBelow lists the mount points at or below dir in the order they were made.
func mountsBelow(dir string) ([]string, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var out []string
	s := bufio.NewScanner(f)
	s.Buffer(make([]byte, 64<<10), 1<<20)
	for s.Scan() {
		fields := strings.Fields(s.Text())
		if len(fields) < 5 {
			continue
		}
		point := unescapeMount(fields[4])
		if point == dir || strings.HasPrefix(point, dir+"/") {
			out = append(out, point)
		}
	}
	return out, s.Err()
}

func unescapeMount(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}
