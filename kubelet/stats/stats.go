// Package stats measures the node and its pods, for /stats/summary, the
// resource metrics and eviction.
package stats

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	internalapi "k8s.io/cri-api/pkg/apis"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	statsapi "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
	kubelettypes "k8s.io/kubelet/pkg/types"

	"skiff/kubelet/cgroups"
	"skiff/kubelet/diskusage"
	"skiff/kubelet/nodestatus"
	"skiff/kubelet/volumes"
)

// Config configures a Provider.
type Config struct {
	Runtime  internalapi.RuntimeService
	Images   internalapi.ImageManagerService
	NodeName string
	RootDir  string
	Pods     func() []*v1.Pod
	PodDir   func(types.UID) string
	LogDir   func(*v1.Pod) string
	// Volumes tells how full volumes are that the kubelet does not walk; may be nil.
	Volumes func(types.UID) []volumes.Usage
	// Cgroups may be nil.
	Cgroups    *cgroups.Manager
	CgroupRoot string
}

// Provider measures.
type Provider struct {
	cfg     Config
	started metav1.Time

	mu    sync.Mutex // guards what follows
	rates map[string]sample
	disk  map[types.UID]diskUsage
	// imageMount is a folder of the runtime's image file system; empty until it told.
	imageMount string
}

// sample is an earlier reading of a processor counter.
type sample struct {
	at    time.Time
	usage uint64
	rate  uint64
}

type diskUsage struct {
	at time.Time
	of map[string]diskusage.Usage
}

// diskUsageAge is how old the measured use of a pod's folders may be: a walk
// through them costs more than everything else here.
const diskUsageAge = time.Minute

// New checks the configuration.
func New(cfg Config) (*Provider, error) {
	if cfg.Runtime == nil || cfg.Images == nil || cfg.Pods == nil {
		return nil, errors.New("stats: Runtime, Images and Pods are required")
	}
	return &Provider{cfg: cfg, started: metav1.Now(), rates: map[string]sample{}, disk: map[types.UID]diskUsage{}}, nil
}

// rate turns a counter of nanoseconds into nanocores since the last reading.
func (p *Provider) rate(key string, usage uint64, at time.Time) *uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	last, ok := p.rates[key]
	if !ok || usage < last.usage {
		p.rates[key] = sample{at: at, usage: usage}
		return nil
	}
	elapsed := at.Sub(last.at)
	if elapsed < time.Second {
		if last.rate == 0 {
			return nil
		}
		return &last.rate
	}
	rate := uint64(float64(usage-last.usage) / elapsed.Seconds())
	p.rates[key] = sample{at: at, usage: usage, rate: rate}
	return &rate
}

// Summary is the answer of /stats/summary.
func (p *Provider) Summary(ctx context.Context, onlyCPUAndMemory bool) (*statsapi.Summary, error) {
	out := &statsapi.Summary{Node: p.node(ctx, onlyCPUAndMemory)}
	list, err := p.cfg.Runtime.ListPodSandboxStats(ctx, nil)
	if err != nil {
		return nil, fmt.Errorf("list pod stats: %w", err)
	}
	for _, s := range list {
		out.Pods = append(out.Pods, p.pod(s, onlyCPUAndMemory))
	}
	return out, nil
}

func (p *Provider) node(ctx context.Context, short bool) statsapi.NodeStats {
	now := metav1.Now()
	out := statsapi.NodeStats{NodeName: p.cfg.NodeName, StartTime: p.started}
	if usage, err := nodeCPU(); err == nil {
		out.CPU = &statsapi.CPUStats{Time: now, UsageCoreNanoSeconds: &usage, UsageNanoCores: p.rate("node", usage, now.Time)}
	}
	if info, err := nodestatus.MemInfo(); err == nil {
		available, total := uint64(info["MemAvailable"]), uint64(info["MemTotal"])
		working := total - min(available, total)
		used := total - uint64(info["MemFree"])
		rss := uint64(info["AnonPages"])
		out.Memory = &statsapi.MemoryStats{Time: now, AvailableBytes: &available, WorkingSetBytes: &working, UsageBytes: &used, RSSBytes: &rss}
		if info["SwapTotal"] > 0 {
			free, total := uint64(info["SwapFree"]), uint64(info["SwapTotal"])
			use := total - free
			out.Swap = &statsapi.SwapStats{Time: now, SwapAvailableBytes: &free, SwapUsageBytes: &use}
		}
	}
	if short {
		return out
	}
	out.Fs = fsStats(p.cfg.RootDir, now)
	out.Runtime = &statsapi.RuntimeStats{}
	if fs := p.imageFs(ctx, now); fs != nil {
		out.Runtime.ImageFs, out.Runtime.ContainerFs = fs, fs
	}
	out.Rlimit = rlimit(now)
	out.Network = nodeNetwork(now)
	return out
}

func fsStats(dir string, now metav1.Time) *statsapi.FsStats {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return nil
	}
	size := uint64(st.Bsize)
	capacity, available := st.Blocks*size, st.Bavail*size
	used := (st.Blocks - st.Bfree) * size
	inodes, free := st.Files, st.Ffree
	inodesUsed := inodes - free
	return &statsapi.FsStats{Time: now, CapacityBytes: &capacity, AvailableBytes: &available, UsedBytes: &used, Inodes: &inodes, InodesFree: &free, InodesUsed: &inodesUsed}
}

func (p *Provider) imageFs(ctx context.Context, now metav1.Time) *statsapi.FsStats {
	info, err := p.cfg.Images.ImageFsInfo(ctx)
	if err != nil || len(info.GetImageFilesystems()) == 0 {
		return nil
	}
	fs := info.ImageFilesystems[0]
	out := fsStats(fs.GetFsId().GetMountpoint(), now)
	if out != nil {
		used := fs.GetUsedBytes().GetValue()
		out.UsedBytes = &used
		if fs.InodesUsed != nil {
			inodes := fs.InodesUsed.Value
			out.InodesUsed = &inodes
		}
	}
	return out
}

// imageSpace is what the image file system has and what is free of it, without what of
// it images use: a runtime may walk all their files to tell.
func (p *Provider) imageSpace(ctx context.Context, now metav1.Time) *statsapi.FsStats {
	p.mu.Lock()
	dir := p.imageMount
	p.mu.Unlock()
	if dir == "" {
		info, err := p.cfg.Images.ImageFsInfo(ctx)
		if err != nil || len(info.GetImageFilesystems()) == 0 {
			return nil
		}
		dir = info.ImageFilesystems[0].GetFsId().GetMountpoint()
		p.mu.Lock()
		p.imageMount = dir
		p.mu.Unlock()
	}
	return fsStats(dir, now)
}

// ImageFs is the size of the image file system and what is free of it.
func (p *Provider) ImageFs(ctx context.Context) (capacity, available uint64, err error) {
	fs := p.imageSpace(ctx, metav1.Now())
	if fs == nil {
		return 0, 0, errors.New("the container runtime names no image file system")
	}
	return *fs.CapacityBytes, *fs.AvailableBytes, nil
}

func nodeCPU() (uint64, error) {
	data, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	line, _, _ := strings.Cut(string(data), "\n")
	fields := strings.Fields(line)
	var ticks uint64
	for i, f := range fields {
		// user nice system idle iowait irq softirq steal
		if i == 0 || i == 4 || i == 5 || i > 8 {
			continue
		}
		n, err := strconv.ParseUint(f, 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	const perTick = uint64(time.Second) / 100
	return ticks * perTick, nil
}

func rlimit(now metav1.Time) *statsapi.RlimitStats {
	out := &statsapi.RlimitStats{Time: now}
	if b, err := os.ReadFile("/proc/sys/kernel/pid_max"); err == nil {
		if n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64); err == nil {
			out.MaxPID = &n
		}
	}
	var info syscall.Sysinfo_t
	if err := syscall.Sysinfo(&info); err == nil {
		n := int64(info.Procs)
		out.NumOfRunningProcesses = &n
	}
	return out
}

func nodeNetwork(now metav1.Time) *statsapi.NetworkStats {
	data, err := os.ReadFile("/proc/net/dev")
	if err != nil {
		return nil
	}
	out := &statsapi.NetworkStats{Time: now}
	for _, line := range strings.Split(string(data), "\n") {
		name, rest, ok := strings.Cut(line, ":")
		fields := strings.Fields(rest)
		if !ok || len(fields) < 11 {
			continue
		}
		name = strings.TrimSpace(name)
		if name == "lo" || strings.HasPrefix(name, "veth") {
			continue
		}
		number := func(i int) *uint64 {
			n, err := strconv.ParseUint(fields[i], 10, 64)
			if err != nil {
				return nil
			}
			return &n
		}
		i := statsapi.InterfaceStats{Name: name, RxBytes: number(0), RxErrors: number(2), TxBytes: number(8), TxErrors: number(10)}
		out.Interfaces = append(out.Interfaces, i)
		if out.Name == "" || name == "eth0" {
			out.InterfaceStats = i
		}
	}
	return out
}

func value(v *runtimeapi.UInt64Value) *uint64 {
	if v == nil {
		return nil
	}
	n := v.Value
	return &n
}

func at(nanos int64) metav1.Time {
	if nanos == 0 {
		return metav1.Now()
	}
	return metav1.NewTime(time.Unix(0, nanos))
}

func (p *Provider) pod(s *runtimeapi.PodSandboxStats, short bool) statsapi.PodStats {
	meta := s.GetAttributes().GetMetadata()
	out := statsapi.PodStats{PodRef: statsapi.PodReference{Name: meta.GetName(), Namespace: meta.GetNamespace(), UID: meta.GetUid()}}
	pod := p.find(types.UID(meta.GetUid()))
	if pod != nil && pod.Status.StartTime != nil {
		out.StartTime = *pod.Status.StartTime
	}
	linux := s.GetLinux()
	var cpu, nano, working, rss, usage uint64
	for _, c := range linux.GetContainers() {
		cs := p.container(c, short)
		out.Containers = append(out.Containers, cs)
		add(&cpu, cs.CPU, func(x *statsapi.CPUStats) *uint64 { return x.UsageCoreNanoSeconds })
		add(&nano, cs.CPU, func(x *statsapi.CPUStats) *uint64 { return x.UsageNanoCores })
		add(&working, cs.Memory, func(x *statsapi.MemoryStats) *uint64 { return x.WorkingSetBytes })
		add(&rss, cs.Memory, func(x *statsapi.MemoryStats) *uint64 { return x.RSSBytes })
		add(&usage, cs.Memory, func(x *statsapi.MemoryStats) *uint64 { return x.UsageBytes })
	}
	now := metav1.Now()
	if c := linux.GetCpu(); c != nil {
		cpu = c.GetUsageCoreNanoSeconds().GetValue()
		if n := value(c.GetUsageNanoCores()); n != nil {
			nano = *n
		} else if r := p.rate("pod "+meta.GetUid(), cpu, at(c.Timestamp).Time); r != nil {
			nano = *r
		}
	}
	if m := linux.GetMemory(); m != nil {
		working, rss, usage = m.GetWorkingSetBytes().GetValue(), m.GetRssBytes().GetValue(), m.GetUsageBytes().GetValue()
	}
	out.CPU = &statsapi.CPUStats{Time: now, UsageCoreNanoSeconds: &cpu, UsageNanoCores: &nano}
	out.Memory = &statsapi.MemoryStats{Time: now, WorkingSetBytes: &working, RSSBytes: &rss, UsageBytes: &usage}
	if short {
		return out
	}
	if n := linux.GetNetwork(); n != nil {
		out.Network = &statsapi.NetworkStats{Time: at(n.Timestamp)}
		if d := n.GetDefaultInterface(); d != nil {
			out.Network.InterfaceStats = iface(d)
			out.Network.Interfaces = append(out.Network.Interfaces, iface(d))
		}
		for _, i := range n.GetInterfaces() {
			out.Network.Interfaces = append(out.Network.Interfaces, iface(i))
		}
	}
	if n := linux.GetProcess().GetProcessCount(); n != nil {
		out.ProcessStats = &statsapi.ProcessStats{ProcessCount: value(n)}
	}
	if pod != nil {
		p.volumes(pod, &out, now)
	}
	return out
}

func add[T any](sum *uint64, from *T, get func(*T) *uint64) {
	if from == nil {
		return
	}
	if n := get(from); n != nil {
		*sum += *n
	}
}

func iface(i *runtimeapi.NetworkInterfaceUsage) statsapi.InterfaceStats {
	return statsapi.InterfaceStats{Name: i.Name, RxBytes: value(i.RxBytes), RxErrors: value(i.RxErrors), TxBytes: value(i.TxBytes), TxErrors: value(i.TxErrors)}
}

func (p *Provider) find(uid types.UID) *v1.Pod {
	for _, pod := range p.cfg.Pods() {
		if pod.UID == uid {
			return pod
		}
	}
	return nil
}

func (p *Provider) container(c *runtimeapi.ContainerStats, short bool) statsapi.ContainerStats {
	out := statsapi.ContainerStats{Name: c.GetAttributes().GetLabels()[kubelettypes.KubernetesContainerNameLabel]}
	if out.Name == "" {
		out.Name = c.GetAttributes().GetMetadata().GetName()
	}
	if cpu := c.GetCpu(); cpu != nil {
		out.CPU = &statsapi.CPUStats{Time: at(cpu.Timestamp), UsageCoreNanoSeconds: value(cpu.UsageCoreNanoSeconds), UsageNanoCores: value(cpu.UsageNanoCores)}
		if out.CPU.UsageNanoCores == nil && out.CPU.UsageCoreNanoSeconds != nil {
			out.CPU.UsageNanoCores = p.rate("container "+c.GetAttributes().GetId(), *out.CPU.UsageCoreNanoSeconds, out.CPU.Time.Time)
		}
	}
	if m := c.GetMemory(); m != nil {
		out.Memory = &statsapi.MemoryStats{Time: at(m.Timestamp), AvailableBytes: value(m.AvailableBytes), UsageBytes: value(m.UsageBytes),
			WorkingSetBytes: value(m.WorkingSetBytes), RSSBytes: value(m.RssBytes), PageFaults: value(m.PageFaults), MajorPageFaults: value(m.MajorPageFaults)}
	}
	if short {
		return out
	}
	if w := c.GetWritableLayer(); w != nil {
		out.Rootfs = &statsapi.FsStats{Time: at(w.Timestamp), UsedBytes: value(w.UsedBytes), InodesUsed: value(w.InodesUsed)}
	}
	return out
}

// volumes adds what the pod's folders hold.
func (p *Provider) volumes(pod *v1.Pod, out *statsapi.PodStats, now metav1.Time) {
	use := p.diskUse(pod)
	var total, inodes uint64
	for name, u := range use.of {
		total += u.Bytes
		inodes += u.Inodes
		if volume, ok := strings.CutPrefix(name, "volume "); ok {
			b, n := u.Bytes, u.Inodes
			vs := statsapi.VolumeStats{Name: volume, FsStats: statsapi.FsStats{Time: now, UsedBytes: &b, InodesUsed: &n}}
			if fs := fsStats(p.cfg.PodDir(pod.UID), now); fs != nil {
				vs.CapacityBytes, vs.AvailableBytes, vs.Inodes, vs.InodesFree = fs.CapacityBytes, fs.AvailableBytes, fs.Inodes, fs.InodesFree
			}
			out.VolumeStats = append(out.VolumeStats, vs)
		}
	}
	for _, u := range p.claims(pod.UID) {
		vs := statsapi.VolumeStats{Name: u.Volume, FsStats: statsapi.FsStats{
			Time: now, AvailableBytes: u.Available, CapacityBytes: u.Capacity, UsedBytes: u.Used, InodesFree: u.InodesFree, Inodes: u.Inodes, InodesUsed: u.InodesUsed,
		}}
		if u.Claim != "" {
			vs.PVCRef = &statsapi.PVCReference{Name: u.Claim, Namespace: pod.Namespace}
		}
		out.VolumeStats = append(out.VolumeStats, vs)
	}
	for i := range out.Containers {
		c := &out.Containers[i]
		if c.Rootfs != nil && c.Rootfs.UsedBytes != nil {
			total += *c.Rootfs.UsedBytes
		}
		u := use.of["log "+c.Name]
		b, n := u.Bytes, u.Inodes
		c.Logs = &statsapi.FsStats{Time: now, UsedBytes: &b, InodesUsed: &n}
	}
	out.EphemeralStorage = &statsapi.FsStats{Time: now, UsedBytes: &total, InodesUsed: &inodes}
}

func (p *Provider) claims(uid types.UID) []volumes.Usage {
	if p.cfg.Volumes == nil {
		return nil
	}
	return p.cfg.Volumes(uid)
}

// diskUse walks the pod's emptyDirs, logs and what else it may write to, seldom.
func (p *Provider) diskUse(pod *v1.Pod) diskUsage {
	p.mu.Lock()
	use, ok := p.disk[pod.UID]
	p.mu.Unlock()
	if ok && time.Since(use.at) < diskUsageAge {
		return use
	}
	use = diskUsage{at: time.Now(), of: map[string]diskusage.Usage{}}
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		kind := ""
		switch {
		case v.EmptyDir != nil && v.EmptyDir.Medium == v1.StorageMediumDefault:
			kind = "kubernetes.io~empty-dir"
		case v.ConfigMap != nil:
			kind = "kubernetes.io~configmap"
		default:
			continue
		}
		use.of["volume "+v.Name] = diskusage.Of(filepath.Join(p.cfg.PodDir(pod.UID), "volumes", kind, v.Name))
	}
	// What the kubelet made for containers to write to: else a pod could fill
	// the disk through its /etc/hosts.
	for _, name := range []string{"etc-hosts", "containers"} {
		use.of["node "+name] = diskusage.Of(filepath.Join(p.cfg.PodDir(pod.UID), name))
	}
	entries, err := os.ReadDir(p.cfg.LogDir(pod))
	if err == nil {
		for _, e := range entries {
			use.of["log "+e.Name()] = diskusage.Of(filepath.Join(p.cfg.LogDir(pod), e.Name()))
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for uid, old := range p.disk {
		if time.Since(old.at) > 10*diskUsageAge {
			delete(p.disk, uid)
		}
	}
	if len(p.rates) > 10000 {
		p.rates = map[string]sample{}
	}
	p.disk[pod.UID] = use
	return use
}
