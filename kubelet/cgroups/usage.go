package cgroups

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Usage is what the processes of a cgroup, and of those below it, use.
type Usage struct {
	Made                 time.Time
	CPU                  uint64 // nanoseconds
	Memory, InactiveFile uint64 // bytes
	RSS                  uint64
	Faults, MajorFaults  uint64
}

// WorkingSet is the memory that the kernel cannot simply take back.
func (u Usage) WorkingSet() uint64 { return u.Memory - min(u.Memory, u.InactiveFile) }

// Usage reads a cgroup; ok is false when there is none.
func (m *Manager) Usage(cg string) (u Usage, ok bool) {
	memory := m.Dir("memory", cg)
	info, err := os.Stat(memory)
	if err != nil || memory == "" {
		return u, false
	}
	u.Made = info.ModTime()
	if m.unified {
		stat := counters(filepath.Join(memory, "memory.stat"))
		u.CPU = counters(filepath.Join(memory, "cpu.stat"))["usage_usec"] * 1000
		u.Memory = counter(filepath.Join(memory, "memory.current"))
		u.InactiveFile, u.RSS, u.Faults, u.MajorFaults = stat["inactive_file"], stat["anon"], stat["pgfault"], stat["pgmajfault"]
		return u, true
	}
	stat := counters(filepath.Join(memory, "memory.stat"))
	u.CPU = counter(filepath.Join(m.Dir("cpuacct", cg), "cpuacct.usage"))
	u.Memory = counter(filepath.Join(memory, "memory.usage_in_bytes"))
	u.InactiveFile, u.RSS, u.Faults, u.MajorFaults = stat["total_inactive_file"], stat["total_rss"], stat["total_pgfault"], stat["total_pgmajfault"]
	return u, true
}

// Own is the cgroup of a process, as its file of /proc tells; empty where it
// cannot be told.
func (m *Manager) Own(proc string) string {
	data, err := os.ReadFile(filepath.Join(proc, "cgroup"))
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(data)) {
		// 4:memory:/path, or 0::/path on v2.
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) == 3 && (m.unified && parts[0] == "0" || !m.unified && parts[1] == "memory") {
			return parts[2]
		}
	}
	return ""
}

func counter(file string) uint64 {
	data, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	n, _ := strconv.ParseUint(strings.TrimSpace(string(data)), 10, 64) // 0 when it is none
	return n
}

// counters are the lines of a file, a name and a number each.
func counters(file string) map[string]uint64 {
	out := map[string]uint64{}
	data, err := os.ReadFile(file)
	if err != nil {
		return out
	}
	for line := range strings.Lines(string(data)) {
		if name, text, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			if n, err := strconv.ParseUint(text, 10, 64); err == nil {
				out[name] = n
			}
		}
	}
	return out
}
