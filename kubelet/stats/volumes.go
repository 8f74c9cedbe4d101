package stats

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	statsapi "k8s.io/kubelet/pkg/apis/stats/v1alpha1"

	"skiff/kubelet/diskusage"
	"skiff/kubelet/volumes"
)

type diskUsage struct {
	at time.Time
	of map[string]diskusage.Usage
}

// volumes adds what the pod's folders hold.
func (p *Provider) volumes(ctx context.Context, pod *v1.Pod, out *statsapi.PodStats, now metav1.Time) {
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
		if c.Rootfs != nil && c.Rootfs.InodesUsed != nil {
			inodes += *c.Rootfs.InodesUsed
		}
		u := use.of["log "+c.Name]
		b, n := u.Bytes, u.Inodes
		c.Logs = &statsapi.FsStats{Time: now, UsedBytes: &b, InodesUsed: &n}
	}
	for _, id := range ended(pod, out.Containers) {
		// What one wrote that fails again and again may fill the disk.
		if c, err := p.cfg.Runtime.ContainerStats(ctx, id); err == nil {
			total += c.GetWritableLayer().GetUsedBytes().GetValue()
			inodes += c.GetWritableLayer().GetInodesUsed().GetValue()
		}
	}
	out.EphemeralStorage = &statsapi.FsStats{Time: now, UsedBytes: &total, InodesUsed: &inodes}
}

// ended are the newest of those containers of a pod that do not run, by their ids.
func ended(pod *v1.Pod, running []statsapi.ContainerStats) []string {
	var out []string
	for _, list := range [][]v1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses, pod.Status.EphemeralContainerStatuses} {
		for i := range list {
			_, id, ok := strings.Cut(list[i].ContainerID, "://")
			if ok && !slices.ContainsFunc(running, func(c statsapi.ContainerStats) bool { return c.Name == list[i].Name }) {
				out = append(out, id)
			}
		}
	}
	return out
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
