package cri

import (
	"bufio"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"skiff/kubelet/cgroupdir"

	"golang.org/x/sys/unix"
)

// cgroupLayout is where the machine's cgroups are, of either version.
type cgroupLayout struct {
	unified bool
	// all are the folders of the hierarchies; controllers finds those of v1 by name.
	all         []string
	controllers map[string]string
}

const cgroupMount = "/sys/fs/cgroup"

func findCgroups() cgroupLayout {
	l := cgroupLayout{controllers: make(map[string]string)}
	var st unix.Statfs_t
	if err := unix.Statfs(cgroupMount, &st); err == nil && st.Type == unix.CGROUP2_SUPER_MAGIC {
		l.unified, l.all = true, []string{cgroupMount}
		return l
	}
	f, err := os.Open("/proc/self/mounts")
	if err != nil {
		return l
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		fields := strings.Fields(s.Text())
		if len(fields) < 4 || fields[2] != "cgroup" && fields[2] != "cgroup2" {
			continue
		}
		l.all = append(l.all, fields[1])
		if fields[2] == "cgroup" {
			for _, option := range strings.Split(fields[3], ",") {
				l.controllers[option] = fields[1]
			}
		}
	}
	return l
}

// file is the path of a cgroup's file of a controller; empty when there is none.
func (l cgroupLayout) file(controller, cgroup, name string) string {
	if l.unified {
		return filepath.Join(cgroupMount, cgroup, name)
	}
	if dir := l.controllers[controller]; dir != "" {
		return filepath.Join(dir, cgroup, name)
	}
	return ""
}

// has tells whether the machine has a controller.
func (l cgroupLayout) has(controller string) bool {
	if !l.unified {
		return l.controllers[controller] != ""
	}
	data, err := os.ReadFile(filepath.Join(cgroupMount, "cgroup.controllers"))
	return err == nil && slices.Contains(strings.Fields(string(data)), controller)
}

func (l cgroupLayout) exists(cgroup string) bool {
	for _, dir := range l.all {
		if _, err := os.Stat(filepath.Join(dir, cgroup)); err == nil {
			return true
		}
	}
	return false
}

// remove removes a cgroup that has no processes from every hierarchy. What is
// still in use stays.
func (l cgroupLayout) remove(cgroup string) {
	for _, dir := range l.folders(cgroup) {
		_ = unix.Rmdir(dir)
	}
}

// kill ends every process of a cgroup and removes it. What is still in use then stays.
func (l cgroupLayout) kill(cgroup string) {
	_ = cgroupdir.Remove(l.folders(cgroup)...)
}

// folders are a cgroup's in every hierarchy; none for one that is not a container's
// or a pod's own: all processes are below the root.
func (l cgroupLayout) folders(cgroup string) []string {
	if cgroup == "" || cgroup == "/" || strings.Contains(cgroup, ":") {
		return nil
	}
	dirs := make([]string, 0, len(l.all))
	for _, dir := range l.all {
		dirs = append(dirs, filepath.Join(dir, cgroup))
	}
	return dirs
}

// cgroupSample is one reading of a cgroup. What cannot be read is 0.
type cgroupSample struct {
	cpu                       uint64 // nanoseconds
	memory, inactiveFile, rss uint64
	swap, limit               uint64
	faults, majorFaults       uint64
	pids                      uint64
}

func (l cgroupLayout) read(cgroup string) cgroupSample {
	var s cgroupSample
	if l.unified {
		s.cpu = keyed(l.file("", cgroup, "cpu.stat"))["usage_usec"] * 1000
		s.memory = number(l.file("", cgroup, "memory.current"))
		s.swap = number(l.file("", cgroup, "memory.swap.current"))
		s.limit = number(l.file("", cgroup, "memory.max"))
		stat := keyed(l.file("", cgroup, "memory.stat"))
		s.inactiveFile, s.rss, s.faults, s.majorFaults = stat["inactive_file"], stat["anon"], stat["pgfault"], stat["pgmajfault"]
		s.pids = number(l.file("", cgroup, "pids.current"))
		return s
	}
	s.cpu = number(l.file("cpuacct", cgroup, "cpuacct.usage"))
	s.memory = number(l.file("memory", cgroup, "memory.usage_in_bytes"))
	s.limit = number(l.file("memory", cgroup, "memory.limit_in_bytes"))
	if s.limit > 1<<60 {
		s.limit = 0
	}
	stat := keyed(l.file("memory", cgroup, "memory.stat"))
	s.inactiveFile, s.rss, s.swap = stat["total_inactive_file"], stat["total_rss"], stat["total_swap"]
	s.faults, s.majorFaults = stat["total_pgfault"], stat["total_pgmajfault"]
	s.pids = number(l.file("pids", cgroup, "pids.current"))
	return s
}

func number(path string) uint64 {
	if path == "" {
		return 0
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(data)), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

func keyed(path string) map[string]uint64 {
	out := make(map[string]uint64)
	if path == "" {
		return out
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return out
	}
	for line := range strings.Lines(string(data)) {
		key, text, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok {
			continue
		}
		if n, err := strconv.ParseUint(text, 10, 64); err == nil {
			out[key] = n
		}
	}
	return out
}

func isMissing(err error) bool { return errors.Is(err, fs.ErrNotExist) }
