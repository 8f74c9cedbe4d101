package cri

import (
	"context"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"skiff/kubelet/network"
)

// metricLabels are those of every metric; a metric's own come after them.
var metricLabels = [...]string{"id", "name", "image", "container", "pod", "namespace"}

// ListMetricDescriptors implements RuntimeService.
func (r *Runtime) ListMetricDescriptors(context.Context) ([]*runtimeapi.MetricDescriptor, error) {
	out := make([]*runtimeapi.MetricDescriptor, 0, len(containerMetrics)+len(networkMetrics))
	for _, m := range containerMetrics {
		out = append(out, &runtimeapi.MetricDescriptor{Name: m.name, Help: m.help, LabelKeys: append(metricLabels[:len(metricLabels):len(metricLabels)], m.labels...)})
	}
	for _, m := range networkMetrics {
		out = append(out, &runtimeapi.MetricDescriptor{Name: m.name, Help: m.help, LabelKeys: append(metricLabels[:len(metricLabels):len(metricLabels)], "interface")})
	}
	return out, nil
}

// ListPodSandboxMetrics implements RuntimeService.
func (r *Runtime) ListPodSandboxMetrics(ctx context.Context) ([]*runtimeapi.PodSandboxMetrics, error) {
	list, err := r.ListPodSandbox(ctx, &runtimeapi.PodSandboxFilter{State: &runtimeapi.PodSandboxStateValue{State: runtimeapi.PodSandboxState_SANDBOX_READY}})
	if err != nil {
		return nil, err
	}
	var out []*runtimeapi.PodSandboxMetrics
	for _, item := range list {
		sb, err := r.sandbox(item.Id)
		if err != nil {
			continue // it is gone
		}
		pod := &runtimeapi.PodSandboxMetrics{PodSandboxId: item.Id, Metrics: podNetworkMetrics(sb)}
		for _, c := range r.containersOf(item.Id) {
			if c.state() == runtimeapi.ContainerState_CONTAINER_RUNNING {
				pod.ContainerMetrics = append(pod.ContainerMetrics, &runtimeapi.ContainerMetrics{ContainerId: c.id, Metrics: r.metricsOf(c)})
			}
		}
		out = append(out, pod)
	}
	return out, nil
}

func (r *Runtime) metricsOf(c *container) []*runtimeapi.Metric {
	rd := r.newReading(c)
	meta := c.sandbox.cfg.Metadata
	labels := []string{c.record().CgroupID, c.id, c.cfg.GetImage().GetImage(), c.cfg.Metadata.Name, meta.Name, meta.Namespace}
	var out []*runtimeapi.Metric
	for _, m := range containerMetrics {
		for _, p := range m.read(rd) {
			out = append(out, &runtimeapi.Metric{
				Name: m.name, Timestamp: rd.at.UnixNano(), MetricType: m.kind, Value: value(p.value),
				LabelValues: append(labels[:len(labels):len(labels)], p.labels...),
			})
		}
	}
	return out
}

// networkMetric is one counter of each interface of a pod.
type networkMetric struct {
	name, help string
	of         func(network.Counters) uint64
}

var networkMetrics = [...]networkMetric{
	{"container_network_receive_bytes_total", "Cumulative count of bytes received", func(c network.Counters) uint64 { return c.RxBytes }},
	{"container_network_receive_packets_total", "Cumulative count of packets received", func(c network.Counters) uint64 { return c.RxPackets }},
	{"container_network_receive_packets_dropped_total", "Cumulative count of packets dropped while receiving", func(c network.Counters) uint64 { return c.RxDropped }},
	{"container_network_receive_errors_total", "Cumulative count of errors encountered while receiving", func(c network.Counters) uint64 { return c.RxErrors }},
	{"container_network_transmit_bytes_total", "Cumulative count of bytes transmitted", func(c network.Counters) uint64 { return c.TxBytes }},
	{"container_network_transmit_packets_total", "Cumulative count of packets transmitted", func(c network.Counters) uint64 { return c.TxPackets }},
	{"container_network_transmit_packets_dropped_total", "Cumulative count of packets dropped while transmitting", func(c network.Counters) uint64 { return c.TxDropped }},
	{"container_network_transmit_errors_total", "Cumulative count of errors encountered while transmitting", func(c network.Counters) uint64 { return c.TxErrors }},
}

func podNetworkMetrics(sb *sandbox) []*runtimeapi.Metric {
	if sb.hostNetwork() {
		return nil
	}
	counters, err := network.ReadCounters(sb.nsPath("net"))
	if err != nil {
		return nil // the pod is ending
	}
	at, meta := time.Now().UnixNano(), sb.cfg.Metadata
	var out []*runtimeapi.Metric
	for _, m := range networkMetrics {
		for _, c := range counters {
			out = append(out, &runtimeapi.Metric{
				Name: m.name, Timestamp: at, MetricType: runtimeapi.MetricType_COUNTER, Value: value(m.of(c)),
				LabelValues: []string{sb.cfg.GetLinux().GetCgroupParent(), sb.id, "", "", meta.Name, meta.Namespace, c.Name},
			})
		}
	}
	return out
}
