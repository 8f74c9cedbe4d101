package cri

import (
	"context"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// descriptors are the metrics of ListPodSandboxMetrics, by cAdvisor's names.
var descriptors = [...]*runtimeapi.MetricDescriptor{
	{Name: "container_cpu_usage_seconds_total", Help: "Cumulative cpu time consumed in seconds.", LabelKeys: metricLabels[:]},
	{Name: "container_memory_usage_bytes", Help: "Current memory usage in bytes, including all memory regardless of when it was accessed.", LabelKeys: metricLabels[:]},
	{Name: "container_memory_working_set_bytes", Help: "Current working set in bytes.", LabelKeys: metricLabels[:]},
	{Name: "container_memory_rss", Help: "Size of RSS in bytes.", LabelKeys: metricLabels[:]},
	{Name: "container_fs_usage_bytes", Help: "Number of bytes that are consumed by the container on this filesystem.", LabelKeys: metricLabels[:]},
}

var metricLabels = [...]string{"id", "name", "image", "container", "pod", "namespace"}

// ListMetricDescriptors implements RuntimeService.
func (r *Runtime) ListMetricDescriptors(context.Context) ([]*runtimeapi.MetricDescriptor, error) {
	return descriptors[:], nil
}

// ListPodSandboxMetrics implements RuntimeService.
func (r *Runtime) ListPodSandboxMetrics(ctx context.Context) ([]*runtimeapi.PodSandboxMetrics, error) {
	list, err := r.ListPodSandbox(ctx, &runtimeapi.PodSandboxFilter{State: &runtimeapi.PodSandboxStateValue{State: runtimeapi.PodSandboxState_SANDBOX_READY}})
	if err != nil {
		return nil, err
	}
	var out []*runtimeapi.PodSandboxMetrics
	for _, item := range list {
		pod := &runtimeapi.PodSandboxMetrics{PodSandboxId: item.Id}
		for _, c := range r.containersOf(item.Id) {
			if c.state() != runtimeapi.ContainerState_CONTAINER_RUNNING {
				continue
			}
			st := r.containerStats(c)
			labels := []string{c.record().CgroupID, c.id, c.cfg.GetImage().GetImage(), c.cfg.Metadata.Name, item.Metadata.Name, item.Metadata.Namespace}
			metric := func(name string, kind runtimeapi.MetricType, v uint64) *runtimeapi.Metric {
				return &runtimeapi.Metric{Name: name, Timestamp: time.Now().UnixNano(), MetricType: kind, LabelValues: labels, Value: value(v)}
			}
			pod.ContainerMetrics = append(pod.ContainerMetrics, &runtimeapi.ContainerMetrics{ContainerId: c.id, Metrics: []*runtimeapi.Metric{
				metric(descriptors[0].Name, runtimeapi.MetricType_COUNTER, st.Cpu.GetUsageCoreNanoSeconds().GetValue()/1e9),
				metric(descriptors[1].Name, runtimeapi.MetricType_GAUGE, st.Memory.GetUsageBytes().GetValue()),
				metric(descriptors[2].Name, runtimeapi.MetricType_GAUGE, st.Memory.GetWorkingSetBytes().GetValue()),
				metric(descriptors[3].Name, runtimeapi.MetricType_GAUGE, st.Memory.GetRssBytes().GetValue()),
				metric(descriptors[4].Name, runtimeapi.MetricType_GAUGE, st.WritableLayer.GetUsedBytes().GetValue()),
			}})
		}
		out = append(out, pod)
	}
	return out, nil
}
