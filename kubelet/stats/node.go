package stats

import (
	"context"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	statsapi "k8s.io/kubelet/pkg/apis/stats/v1alpha1"

	"skiff/kubelet/nodestatus"
)

func (p *Provider) node(ctx context.Context, short bool) statsapi.NodeStats {
	now := metav1.Now()
	out := statsapi.NodeStats{NodeName: p.cfg.NodeName, StartTime: p.started, SystemContainers: p.systemContainers(self)}
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
