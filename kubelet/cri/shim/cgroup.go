//go:build linux && cgo

package main

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// leaveCgroup moves this process to the group path of every hierarchy, so that
// stopping the unit that skiff runs in does not end the shim. Hierarchies where
// the group cannot be made (a controller that is not delegated) are left alone:
// the one that a service manager kills by is always writable to root.
func leaveCgroup(path string) error {
	if path == "" {
		return nil
	}
	mounts, err := cgroupMounts()
	if err != nil {
		return err
	}
	pid := []byte(strconv.Itoa(os.Getpid()))
	for _, m := range mounts {
		dir := filepath.Join(m.dir, path)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			continue
		}
		if m.cpuset {
			inheritCpuset(m.dir, path)
		}
		err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), pid, 0)
		if err != nil && m.essential {
			return fmt.Errorf("move the shim to cgroup %s: %w", dir, err)
		}
	}
	return nil
}

type cgroupMount struct {
	dir string
	// essential marks the hierarchy that a service manager tracks units by.
	essential bool
	cpuset    bool
}

func cgroupMounts() ([]cgroupMount, error) {
	f, err := os.Open("/proc/self/mounts")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var mounts []cgroupMount
	s := bufio.NewScanner(f)
	for s.Scan() {
		fields := strings.Fields(s.Text())
		if len(fields) < 4 {
			continue
		}
		switch fields[2] {
		case "cgroup2":
			mounts = append(mounts, cgroupMount{dir: fields[1], essential: fields[1] == "/sys/fs/cgroup"})
		case "cgroup":
			mounts = append(mounts, cgroupMount{
				dir:       fields[1],
				essential: strings.Contains(fields[3], "name=systemd"),
				cpuset:    strings.Contains(","+fields[3]+",", ",cpuset,"),
			})
		}
	}
	return mounts, s.Err()
}

// inheritCpuset fills the empty cpuset of a new v1 group from its parent, since
// the kernel takes no process in a group without CPUs.
func inheritCpuset(root, path string) {
	dir := root
	for _, part := range strings.Split(strings.Trim(path, "/"), "/") {
		parent := dir
		dir = filepath.Join(dir, part)
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
			now, err := os.ReadFile(filepath.Join(dir, file))
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return
			}
			if strings.TrimSpace(string(now)) != "" {
				continue
			}
			if above, err := os.ReadFile(filepath.Join(parent, file)); err == nil {
				// A failure shows when the process is moved.
				_ = os.WriteFile(filepath.Join(dir, file), above, 0)
			}
		}
	}
}
