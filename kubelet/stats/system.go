package stats

import (
	"path"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	statsapi "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
	"k8s.io/utils/ptr"
)

// self is where the kernel tells of this process.
const self = "/proc/self"

// systemContainers are the node's cgroups that are no pod's own: that of this
// process, that of the built-in runtime's shims, and that of all pods.
func (p *Provider) systemContainers(proc string) []statsapi.ContainerStats {
	if p.cfg.Cgroups == nil {
		return nil
	}
	var out []statsapi.ContainerStats
	add := func(name, cg string) {
		u, ok := p.cfg.Cgroups.Usage(cg)
		if !ok {
			return
		}
		now := metav1.Now()
		c := statsapi.ContainerStats{
			Name: name, StartTime: metav1.NewTime(u.Made),
			CPU:    &statsapi.CPUStats{Time: now, UsageCoreNanoSeconds: &u.CPU, UsageNanoCores: p.rate("system "+name, u.CPU, now.Time)},
			Memory: &statsapi.MemoryStats{Time: now, UsageBytes: &u.Memory, WorkingSetBytes: ptr.To(u.WorkingSet()), RSSBytes: &u.RSS, PageFaults: &u.Faults, MajorPageFaults: &u.MajorFaults},
		}
		out = append(out, c)
	}
	// The machine's own cgroup would tell of everybody.
	if own := p.cfg.Cgroups.Own(proc); own != "" && own != "/" {
		add(statsapi.SystemContainerKubelet, own)
	}
	add(statsapi.SystemContainerRuntime, path.Join(p.cfg.CgroupRoot, "skiff-shims"))
	add(statsapi.SystemContainerPods, path.Join(p.cfg.CgroupRoot, "kubepods"))
	return out
}
