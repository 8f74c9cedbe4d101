package stats

import (
	"context"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"skiff/kubelet/eviction"
	"skiff/kubelet/nodestatus"
)

// Signals measures what eviction decides by.
func (p *Provider) Signals(ctx context.Context) map[eviction.Signal]eviction.Observation {
	out := map[eviction.Signal]eviction.Observation{}
	now := metav1.Now()
	if info, err := nodestatus.MemInfo(); err == nil {
		out[eviction.MemoryAvailable] = eviction.Observation{Available: info["MemAvailable"], Capacity: info["MemTotal"]}
	}
	if fs := fsStats(p.cfg.RootDir, now); fs != nil {
		out[eviction.NodeFsAvailable] = eviction.Observation{Available: int64(*fs.AvailableBytes), Capacity: int64(*fs.CapacityBytes)}
		if *fs.Inodes > 0 {
			out[eviction.NodeFsInodesFree] = eviction.Observation{Available: int64(*fs.InodesFree), Capacity: int64(*fs.Inodes)}
		}
	}
	if fs := p.imageSpace(ctx, now); fs != nil {
		out[eviction.ImageFsAvailable] = eviction.Observation{Available: int64(*fs.AvailableBytes), Capacity: int64(*fs.CapacityBytes)}
		if *fs.Inodes > 0 {
			out[eviction.ImageFsInodesFree] = eviction.Observation{Available: int64(*fs.InodesFree), Capacity: int64(*fs.Inodes)}
		}
	}
	if r := rlimit(now); r.MaxPID != nil && r.NumOfRunningProcesses != nil {
		out[eviction.PIDAvailable] = eviction.Observation{Available: *r.MaxPID - *r.NumOfRunningProcesses, Capacity: *r.MaxPID}
	}
	return out
}

// PodUsage measures what each pod uses, for the choice of whom to evict.
func (p *Provider) PodUsage(ctx context.Context) map[types.UID]eviction.Usage {
	out := map[types.UID]eviction.Usage{}
	summary, err := p.Summary(ctx, false)
	if err != nil {
		return out
	}
	for i := range summary.Pods {
		s := &summary.Pods[i]
		u := eviction.Usage{Volumes: map[string]int64{}, Containers: map[string]int64{}, Memories: map[string]int64{}}
		if s.Memory != nil && s.Memory.WorkingSetBytes != nil {
			u.Memory = int64(*s.Memory.WorkingSetBytes)
		}
		if s.EphemeralStorage != nil {
			if s.EphemeralStorage.UsedBytes != nil {
				u.Disk = int64(*s.EphemeralStorage.UsedBytes)
			}
			if s.EphemeralStorage.InodesUsed != nil {
				u.Inodes = int64(*s.EphemeralStorage.InodesUsed)
			}
		}
		if s.ProcessStats != nil && s.ProcessStats.ProcessCount != nil {
			u.Processes = int64(*s.ProcessStats.ProcessCount)
		}
		for _, v := range s.VolumeStats {
			if v.UsedBytes != nil {
				u.Volumes[v.Name] = int64(*v.UsedBytes)
			}
		}
		for _, c := range s.Containers {
			var sum int64
			if c.Rootfs != nil && c.Rootfs.UsedBytes != nil {
				sum += int64(*c.Rootfs.UsedBytes)
			}
			if c.Logs != nil && c.Logs.UsedBytes != nil {
				sum += int64(*c.Logs.UsedBytes)
			}
			u.Containers[c.Name] = sum
			if c.Memory != nil && c.Memory.WorkingSetBytes != nil {
				u.Memories[c.Name] = int64(*c.Memory.WorkingSetBytes)
			}
		}
		out[types.UID(s.PodRef.UID)] = u
	}
	return out
}
