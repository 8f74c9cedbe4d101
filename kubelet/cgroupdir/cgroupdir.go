// Package cgroupdir removes cgroups by their folders.
package cgroupdir

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
)

const (
	// The end of the processes that are left in a cgroup is looked for after endPause,
	// and ever less often, for as long as endPatience.
	endPause    = time.Millisecond
	endPatience = time.Second
)

// Remove removes cgroups, each a folder of one hierarchy, with what is below them. A
// process that is still in one is killed. One that does not end is an error.
func Remove(dirs ...string) error {
	pause := endPause
	for deadline := time.Now().Add(endPatience); ; pause = min(2*pause, endPatience/20) {
		var errs []error
		for _, dir := range dirs {
			errs = append(errs, removeTree(dir))
		}
		err := errors.Join(errs...)
		if !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
			return err
		}
		for _, dir := range dirs {
			endTree(dir)
		}
		time.Sleep(pause)
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
