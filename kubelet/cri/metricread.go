package cri

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// reading is what is known of a running container at one moment. What cannot be
// read is 0, and what the kernel does not count has no values.
type reading struct {
	at        time.Time
	layout    cgroupLayout
	cgroup    string
	pid       int
	stats     *runtimeapi.ContainerStats
	resources *runtimeapi.LinuxContainerResources
	started   int64
	device    string
	fs        unix.Statfs_t

	cpu struct {
		user, system, throttled   uint64 // nanoseconds
		periods, throttledPeriods uint64
	}
	memory struct {
		cache, mapped, kernel, peak uint64
		limitHits, oomKills         uint64
	}
	processes           struct{ count, files, sockets uint64 }
	threads, threadsMax uint64
	// moved is what each block device has read and written.
	moved []transfer
}

// transfer counts the operations of one kind on a block device.
type transfer struct {
	device, operation string // MAJOR:MINOR; Read or Write
	bytes, count      uint64
}

func (r *Runtime) newReading(c *container) *reading {
	rd := &reading{at: time.Now(), layout: r.layout, cgroup: c.record().CgroupID, stats: r.containerStats(c), device: r.cfg.StateDir}
	c.mu.Lock()
	rd.pid, rd.resources = c.pid, c.resourcesLocked()
	c.mu.Unlock()
	rd.started = c.status().StartedAt
	_ = unix.Statfs(r.cfg.StateDir, &rd.fs)
	if rd.layout.unified {
		rd.readUnified()
	} else {
		rd.readV1()
	}
	rd.readProcesses()
	return rd
}

func (rd *reading) file(controller, name string) string {
	return rd.layout.file(controller, rd.cgroup, name)
}

func (rd *reading) readUnified() {
	cpu := keyed(rd.file("", "cpu.stat"))
	rd.cpu.user, rd.cpu.system, rd.cpu.throttled = cpu["user_usec"]*1000, cpu["system_usec"]*1000, cpu["throttled_usec"]*1000
	rd.cpu.periods, rd.cpu.throttledPeriods = cpu["nr_periods"], cpu["nr_throttled"]
	stat, events := keyed(rd.file("", "memory.stat")), keyed(rd.file("", "memory.events"))
	rd.memory.cache, rd.memory.mapped, rd.memory.kernel = stat["file"], stat["file_mapped"], stat["kernel"]
	rd.memory.peak = number(rd.file("", "memory.peak"))
	rd.memory.limitHits, rd.memory.oomKills = events["max"], events["oom_kill"]
	rd.threads, rd.threadsMax = number(rd.file("", "pids.current")), number(rd.file("", "pids.max"))
	rd.moved = parseIOStat(text(rd.file("", "io.stat")))
}

func (rd *reading) readV1() {
	rd.cpu.user, rd.cpu.system = number(rd.file("cpuacct", "cpuacct.usage_user")), number(rd.file("cpuacct", "cpuacct.usage_sys"))
	cpu := keyed(rd.file("cpu", "cpu.stat"))
	rd.cpu.periods, rd.cpu.throttledPeriods, rd.cpu.throttled = cpu["nr_periods"], cpu["nr_throttled"], cpu["throttled_time"]
	stat := keyed(rd.file("memory", "memory.stat"))
	rd.memory.cache, rd.memory.mapped = stat["total_cache"], stat["total_mapped_file"]
	rd.memory.kernel = number(rd.file("memory", "memory.kmem.usage_in_bytes"))
	rd.memory.peak, rd.memory.limitHits = number(rd.file("memory", "memory.max_usage_in_bytes")), number(rd.file("memory", "memory.failcnt"))
	rd.memory.oomKills = keyed(rd.file("memory", "memory.oom_control"))["oom_kill"]
	rd.threads, rd.threadsMax = number(rd.file("pids", "pids.current")), number(rd.file("pids", "pids.max"))
	rd.moved = parseBlkio(text(rd.file("blkio", "blkio.throttle.io_service_bytes")), text(rd.file("blkio", "blkio.throttle.io_serviced")))
}

// parseIOStat reads lines such as `8:0 rbytes=4096 wbytes=0 rios=1 wios=0`.
func parseIOStat(data string) []transfer {
	var out []transfer
	for line := range strings.Lines(data) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		counts := make(map[string]uint64)
		for _, f := range fields[1:] {
			if key, v, ok := strings.Cut(f, "="); ok {
				counts[key], _ = strconv.ParseUint(v, 10, 64)
			}
		}
		out = append(out, transfer{fields[0], "Read", counts["rbytes"], counts["rios"]}, transfer{fields[0], "Write", counts["wbytes"], counts["wios"]})
	}
	return out
}

// parseBlkio reads lines such as `8:0 Read 4096` of bytes and of operations.
func parseBlkio(bytes, operations string) []transfer {
	counts := make(map[[2]string]uint64)
	for line := range strings.Lines(operations) {
		if f := strings.Fields(line); len(f) == 3 {
			counts[[2]string{f[0], f[1]}], _ = strconv.ParseUint(f[2], 10, 64)
		}
	}
	var out []transfer
	for line := range strings.Lines(bytes) {
		f := strings.Fields(line)
		if len(f) != 3 || f[1] != "Read" && f[1] != "Write" {
			continue
		}
		n, _ := strconv.ParseUint(f[2], 10, 64)
		out = append(out, transfer{f[0], f[1], n, counts[[2]string{f[0], f[1]}]})
	}
	return out
}

func (rd *reading) readProcesses() {
	path := rd.file("pids", "cgroup.procs")
	if path == "" {
		path = rd.file("memory", "cgroup.procs")
	}
	for pid := range strings.FieldsSeq(text(path)) {
		rd.processes.count++
		dir := filepath.Join("/proc", pid, "fd")
		names, err := readNames(dir)
		if err != nil {
			continue // it has ended
		}
		rd.processes.files += uint64(len(names))
		for _, name := range names {
			if to, err := os.Readlink(filepath.Join(dir, name)); err == nil && strings.HasPrefix(to, "socket:") {
				rd.processes.sockets++
			}
		}
	}
}

func readNames(dir string) ([]string, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Readdirnames(-1)
}

// transfers are the bytes or the number of one operation, by device.
func (rd *reading) transfers(operation string, bytes bool) []point {
	var out []point
	for _, t := range rd.moved {
		if t.operation != operation {
			continue
		}
		v := t.count
		if bytes {
			v = t.bytes
		}
		out = append(out, point{v, []string{t.device}})
	}
	return out
}

func (rd *reading) blockDevices() []point {
	var out []point
	for _, t := range rd.moved {
		major, minor, _ := strings.Cut(t.device, ":")
		out = append(out, point{t.bytes, []string{t.device, major, minor, t.operation}})
	}
	return out
}

func (rd *reading) hugePages() []point {
	suffix := ".usage_in_bytes"
	if rd.layout.unified {
		suffix = ".current"
	}
	files, _ := filepath.Glob(rd.file("hugetlb", "hugetlb.*"+suffix))
	var out []point
	for _, f := range files {
		size := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(f), "hugetlb."), suffix)
		if !strings.HasSuffix(size, ".rsvd") {
			out = append(out, point{number(f), []string{size}})
		}
	}
	return out
}

// limits tells how many files the container's first process may open.
func (rd *reading) limits() []point {
	for line := range strings.Lines(text(filepath.Join("/proc", strconv.Itoa(rd.pid), "limits"))) {
		rest, ok := strings.CutPrefix(line, "Max open files")
		if f := strings.Fields(rest); ok && len(f) > 0 {
			if n, err := strconv.ParseUint(f[0], 10, 64); err == nil {
				return []point{{n, []string{"max_open_files"}}}
			}
		}
	}
	return nil
}

// pressure is how long, in seconds, some or all tasks have waited for a resource.
// cgroup v1 does not count it.
func (rd *reading) pressure(resource, kind string) uint64 {
	if !rd.layout.unified {
		return 0
	}
	for line := range strings.Lines(text(rd.file("", resource+".pressure"))) {
		if !strings.HasPrefix(line, kind+" ") {
			continue
		}
		if _, total, ok := strings.Cut(strings.TrimSpace(line), "total="); ok {
			n, _ := strconv.ParseUint(total, 10, 64)
			return n / 1_000_000
		}
	}
	return 0
}

func text(path string) string {
	if path == "" {
		return ""
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return string(data)
}
