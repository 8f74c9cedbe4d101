package cri

import (
	"context"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"skiff/kubelet/diskusage"
	"skiff/kubelet/network"
)

// usageAge is how old a walk of a container's files may be when it is reported.
const usageAge = 20 * time.Second

// usageCache remembers what is costly or needs two readings.
type usageCache struct {
	mu   sync.Mutex
	disk map[string]*diskUsage // by container; guarded by mu
	cpu  map[string]cpuReading // by container or sandbox; guarded by mu
}

type diskUsage struct {
	diskusage.Usage
	at   time.Time
	took time.Duration
}

// readingAge is how long a reading that took so long is used again: what costs little is
// read anew soon, so that who fills the disk fast is known when a pod has to go for it.
func readingAge(took time.Duration) time.Duration {
	return min(max(20*took, time.Second), usageAge)
}

type cpuReading struct {
	at          time.Time
	used, nanos uint64
	known       bool
}

func newUsageCache() *usageCache {
	return &usageCache{disk: make(map[string]*diskUsage), cpu: make(map[string]cpuReading)}
}

func (u *usageCache) forget(id string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.disk, id)
	delete(u.cpu, id)
}

// rate turns a counter of used CPU time into the use since the last reading.
func (u *usageCache) rate(id string, now time.Time, used uint64) (uint64, bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	last, ok := u.cpu[id]
	next := cpuReading{at: now, used: used, nanos: last.nanos, known: last.known}
	if span := now.Sub(last.at); ok && span < time.Second {
		return last.nanos, last.known // too short to say anything new
	} else if ok && used >= last.used {
		next.nanos, next.known = uint64(float64(used-last.used)/span.Seconds()), true
	}
	u.cpu[id] = next
	return next.nanos, next.known
}

// diskOf is the use of a folder, of now or a little earlier. The id names it.
func (u *usageCache) diskOf(id, dir string, now time.Time) diskUsage {
	u.mu.Lock()
	if d := u.disk[id]; d != nil && now.Sub(d.at) < readingAge(d.took) {
		u.mu.Unlock()
		return *d
	}
	u.mu.Unlock()
	start := time.Now()
	d := diskUsage{Usage: diskusage.Of(dir), at: now}
	d.took = time.Since(start)
	u.mu.Lock()
	u.disk[id] = &d
	u.mu.Unlock()
	return d
}

func value(v uint64) *runtimeapi.UInt64Value { return &runtimeapi.UInt64Value{Value: v} }

// sample reads a cgroup as CRI's CPU and memory usage.
func (r *Runtime) sample(id, cgroup string) (*runtimeapi.CpuUsage, *runtimeapi.MemoryUsage, *runtimeapi.SwapUsage, cgroupSample) {
	now := time.Now()
	s := r.layout.read(cgroup)
	at := now.UnixNano()
	cpu := &runtimeapi.CpuUsage{Timestamp: at, UsageCoreNanoSeconds: value(s.cpu)}
	if nanos, ok := r.usage.rate(id, now, s.cpu); ok {
		cpu.UsageNanoCores = value(nanos)
	}
	mem := &runtimeapi.MemoryUsage{
		Timestamp: at, UsageBytes: value(s.memory), WorkingSetBytes: value(s.memory - min(s.memory, s.inactiveFile)),
		RssBytes: value(s.rss), PageFaults: value(s.faults), MajorPageFaults: value(s.majorFaults),
	}
	if s.limit > 0 {
		mem.AvailableBytes = value(s.limit - min(s.limit, mem.WorkingSetBytes.Value))
	}
	swap := &runtimeapi.SwapUsage{Timestamp: at, SwapUsageBytes: value(s.swap)}
	return cpu, mem, swap, s
}

func (r *Runtime) containerStats(c *container) *runtimeapi.ContainerStats {
	out := &runtimeapi.ContainerStats{Attributes: &runtimeapi.ContainerAttributes{
		Id: c.id, Metadata: c.cfg.Metadata, Labels: c.cfg.Labels, Annotations: c.cfg.Annotations,
	}}
	if c.state() == runtimeapi.ContainerState_CONTAINER_RUNNING {
		out.Cpu, out.Memory, out.Swap, _ = r.sample(c.id, c.record().CgroupID)
	}
	disk := r.usage.diskOf(c.id, filepath.Join(c.dir, upperDir), time.Now())
	disk.Bytes += r.sharedUsage(c)
	out.WritableLayer = &runtimeapi.FilesystemUsage{
		Timestamp: disk.at.UnixNano(), FsId: &runtimeapi.FilesystemIdentifier{Mountpoint: r.cfg.StateDir},
		UsedBytes: value(disk.Bytes), InodesUsed: value(disk.Inodes),
	}
	return out
}

// sharedUsage is what the sandbox's files take on the disk, when its containers
// have made them large. The first of those that run is charged with it.
func (r *Runtime) sharedUsage(c *container) uint64 {
	const asMade = 64 << 10 // as much as the runtime itself writes, and more
	var sum uint64
	for _, name := range []string{resolvFile, hostnameFile, hostsFile} {
		var st syscall.Stat_t
		if err := syscall.Lstat(c.sandbox.sharedFile(name), &st); err == nil {
			sum += uint64(st.Blocks) * 512
		}
	}
	if sum <= asMade {
		return 0
	}
	for _, other := range r.containersOf(c.sandbox.id) {
		if other.state() == runtimeapi.ContainerState_CONTAINER_RUNNING {
			if other == c {
				return sum
			}
			break
		}
	}
	return 0
}

// ContainerStats implements RuntimeService.
func (r *Runtime) ContainerStats(_ context.Context, id string) (*runtimeapi.ContainerStats, error) {
	c, err := r.container(id)
	if err != nil {
		return nil, err
	}
	return r.containerStats(c), nil
}

// ListContainerStats implements RuntimeService.
func (r *Runtime) ListContainerStats(ctx context.Context, f *runtimeapi.ContainerStatsFilter) ([]*runtimeapi.ContainerStats, error) {
	list, err := r.ListContainers(ctx, &runtimeapi.ContainerFilter{
		Id: f.GetId(), PodSandboxId: f.GetPodSandboxId(), LabelSelector: f.GetLabelSelector(),
		State: &runtimeapi.ContainerStateValue{State: runtimeapi.ContainerState_CONTAINER_RUNNING},
	})
	if err != nil {
		return nil, err
	}
	out := make([]*runtimeapi.ContainerStats, 0, len(list))
	for _, item := range list {
		if c, err := r.container(item.Id); err == nil {
			out = append(out, r.containerStats(c))
		}
	}
	return out, nil
}

// PodSandboxStats implements RuntimeService.
func (r *Runtime) PodSandboxStats(_ context.Context, id string) (*runtimeapi.PodSandboxStats, error) {
	sb, err := r.sandbox(id)
	if err != nil {
		return nil, err
	}
	return r.sandboxStats(sb), nil
}

func (r *Runtime) sandboxStats(sb *sandbox) *runtimeapi.PodSandboxStats {
	linux := &runtimeapi.LinuxPodSandboxStats{}
	pids := uint64(0)
	var cpu, memory, working, rss uint64
	for _, c := range r.containersOf(sb.id) {
		if c.state() != runtimeapi.ContainerState_CONTAINER_RUNNING {
			continue
		}
		st := r.containerStats(c)
		linux.Containers = append(linux.Containers, st)
		cpu += st.Cpu.GetUsageCoreNanoSeconds().GetValue()
		memory += st.Memory.GetUsageBytes().GetValue()
		working += st.Memory.GetWorkingSetBytes().GetValue()
		rss += st.Memory.GetRssBytes().GetValue()
		pids += r.layout.read(c.record().CgroupID).pids
	}
	now := time.Now()
	if parent := sb.cfg.GetLinux().GetCgroupParent(); parent != "" && r.layout.exists(parent) && !r.cfg.SystemdCgroups {
		var s cgroupSample
		linux.Cpu, linux.Memory, _, s = r.sample(sb.id, parent)
		pids = max(pids, s.pids)
	} else {
		linux.Cpu = &runtimeapi.CpuUsage{Timestamp: now.UnixNano(), UsageCoreNanoSeconds: value(cpu)}
		if nanos, ok := r.usage.rate(sb.id, now, cpu); ok {
			linux.Cpu.UsageNanoCores = value(nanos)
		}
		linux.Memory = &runtimeapi.MemoryUsage{Timestamp: now.UnixNano(), UsageBytes: value(memory), WorkingSetBytes: value(working), RssBytes: value(rss)}
	}
	linux.Process = &runtimeapi.ProcessUsage{Timestamp: now.UnixNano(), ProcessCount: value(pids)}
	if !sb.hostNetwork() && sb.phase() == phaseReady {
		if counters, err := network.ReadCounters(sb.nsPath("net")); err == nil {
			linux.Network = &runtimeapi.NetworkUsage{Timestamp: now.UnixNano()}
			for _, c := range counters {
				u := &runtimeapi.NetworkInterfaceUsage{Name: c.Name, RxBytes: value(c.RxBytes), RxErrors: value(c.RxErrors), TxBytes: value(c.TxBytes), TxErrors: value(c.TxErrors)}
				if c.Name == "eth0" || linux.Network.DefaultInterface == nil {
					linux.Network.DefaultInterface = u
				}
				linux.Network.Interfaces = append(linux.Network.Interfaces, u)
			}
		}
	}
	return &runtimeapi.PodSandboxStats{
		Attributes: &runtimeapi.PodSandboxAttributes{Id: sb.id, Metadata: sb.cfg.Metadata, Labels: sb.cfg.Labels, Annotations: sb.cfg.Annotations},
		Linux:      linux,
	}
}

// ListPodSandboxStats implements RuntimeService.
func (r *Runtime) ListPodSandboxStats(ctx context.Context, f *runtimeapi.PodSandboxStatsFilter) ([]*runtimeapi.PodSandboxStats, error) {
	list, err := r.ListPodSandbox(ctx, &runtimeapi.PodSandboxFilter{
		Id: f.GetId(), LabelSelector: f.GetLabelSelector(),
		State: &runtimeapi.PodSandboxStateValue{State: runtimeapi.PodSandboxState_SANDBOX_READY},
	})
	if err != nil {
		return nil, err
	}
	out := make([]*runtimeapi.PodSandboxStats, 0, len(list))
	for _, item := range list {
		if sb, err := r.sandbox(item.Id); err == nil {
			out = append(out, r.sandboxStats(sb))
		}
	}
	return out, nil
}

// fsUsage is the use of a file system by the folder dir of it.
func fsUsage(dir string, use diskusage.Usage) *runtimeapi.FilesystemUsage {
	return &runtimeapi.FilesystemUsage{
		Timestamp: time.Now().UnixNano(), FsId: &runtimeapi.FilesystemIdentifier{Mountpoint: dir},
		UsedBytes: value(use.Bytes), InodesUsed: value(use.Inodes),
	}
}
