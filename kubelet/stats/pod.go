package stats

import (
	"context"
	"slices"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	statsapi "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
	kubelettypes "k8s.io/kubelet/pkg/types"
)

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

func (p *Provider) pod(ctx context.Context, s *runtimeapi.PodSandboxStats, short bool) statsapi.PodStats {
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
		cs.StartTime = startOf(pod, c.GetAttributes().GetId())
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
		for _, i := range n.GetInterfaces() {
			out.Network.Interfaces = append(out.Network.Interfaces, iface(i))
		}
		if d := n.GetDefaultInterface(); d != nil {
			out.Network.InterfaceStats = iface(d)
			// Some runtimes list it with the others, and some do not.
			if !slices.ContainsFunc(out.Network.Interfaces, func(i statsapi.InterfaceStats) bool { return i.Name == d.Name }) {
				out.Network.Interfaces = append(out.Network.Interfaces, iface(d))
			}
		}
	}
	if n := linux.GetProcess().GetProcessCount(); n != nil {
		out.ProcessStats = &statsapi.ProcessStats{ProcessCount: value(n)}
	}
	if pod != nil {
		p.volumes(ctx, pod, &out, now)
	}
	return out
}

// startOf is when a running container of the pod started, as the pod's status has it.
func startOf(pod *v1.Pod, id string) metav1.Time {
	if pod == nil {
		return metav1.Time{}
	}
	for _, list := range [][]v1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses, pod.Status.EphemeralContainerStatuses} {
		for i := range list {
			if _, has, _ := strings.Cut(list[i].ContainerID, "://"); has == id && list[i].State.Running != nil {
				return list[i].State.Running.StartedAt
			}
		}
	}
	return metav1.Time{}
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
