package cgroups

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/types"
)

const (
	// endTries and endWait bound how long the end of the processes that are left
	// in a pod's cgroup is waited for.
	endTries = 25
	endWait  = 20 * time.Millisecond
)

// RemovePod removes the pod's cgroup, whatever its class was. A process that is
// still in it, which only someone else can have moved there, is killed: without
// that the pod would never be gone. One that does not end is an error.
func (m *Manager) RemovePod(uid types.UID) error {
	var dirs []string
	for _, h := range m.allHierarchies() {
		for _, c := range []string{"", "burstable", "besteffort"} {
			dir := filepath.Join(h, m.cfg.Root, "kubepods", c, "pod"+string(uid))
			if _, err := os.Stat(dir); err == nil {
				dirs = append(dirs, dir)
			}
		}
	}
	for try := 0; ; try++ {
		var errs []error
		for _, dir := range dirs {
			errs = append(errs, removeTree(dir))
		}
		err := errors.Join(errs...)
		if try == endTries || !errors.Is(err, unix.EBUSY) {
			return err
		}
		for _, dir := range dirs {
			endTree(dir)
		}
		time.Sleep(endWait)
	}
}

// removeTree removes a cgroup and those below it, leaves first.
func removeTree(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeTree(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	err = unix.Rmdir(dir)
	if err == nil || errors.Is(err, unix.ENOENT) {
		return nil
	}
	if pids := processes(dir); len(pids) > 0 {
		return fmt.Errorf("remove cgroup %s, which has the processes %v: %w", dir, pids, err)
	}
	return fmt.Errorf("remove cgroup %s: %w", dir, err)
}

// endTree kills what is in a cgroup and those below it. On v1 a frozen process
// ends only when it is thawed.
func endTree(dir string) {
	_ = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.IsDir() {
			return nil // it goes away meanwhile
		}
		for _, pid := range processes(path) {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
		_ = os.WriteFile(filepath.Join(path, "freezer.state"), []byte("THAWED"), 0)
		return nil
	})
}

// processes are those of a cgroup, without this one and the machine's first.
func processes(dir string) []int {
	data, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		return nil
	}
	var out []int
	for _, field := range strings.Fields(string(data)) {
		if pid, err := strconv.Atoi(field); err == nil && pid > 1 && pid != os.Getpid() {
			out = append(out, pid)
		}
	}
	return out
}
