package metricsapi

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	statsv1 "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"
)

// window is the time that the kubelet's rates are over.
const window = 15 * time.Second

// usage is what is used; nil when it is not known yet.
func usage(cpu *statsv1.CPUStats, memory *statsv1.MemoryStats) (corev1.ResourceList, metav1.Time) {
	if cpu == nil || memory == nil || cpu.UsageNanoCores == nil || memory.WorkingSetBytes == nil {
		return nil, metav1.Time{}
	}
	c := resource.NewScaledQuantity(int64(*cpu.UsageNanoCores), resource.Nano)
	c.Format = resource.DecimalSI
	return corev1.ResourceList{
		corev1.ResourceCPU: *c, corev1.ResourceMemory: *resource.NewQuantity(int64(*memory.WorkingSetBytes), resource.BinarySI),
	}, memory.Time
}

func nodeMetrics(n *corev1.Node, s *statsv1.Summary) *metricsv1beta1.NodeMetrics {
	if s == nil {
		return nil
	}
	u, at := usage(s.Node.CPU, s.Node.Memory)
	if u == nil {
		return nil
	}
	return &metricsv1beta1.NodeMetrics{ObjectMeta: metaOf(n), Timestamp: at, Window: metav1.Duration{Duration: window}, Usage: u}
}

func podMetrics(p *corev1.Pod, s *statsv1.Summary) *metricsv1beta1.PodMetrics {
	if s == nil {
		return nil
	}
	for i := range s.Pods {
		ps := &s.Pods[i]
		if ps.PodRef.Name != p.Name || ps.PodRef.Namespace != p.Namespace || ps.PodRef.UID != "" && ps.PodRef.UID != string(p.UID) {
			continue
		}
		out := &metricsv1beta1.PodMetrics{ObjectMeta: metaOf(p), Window: metav1.Duration{Duration: window}, Containers: []metricsv1beta1.ContainerMetrics{}}
		for j := range ps.Containers {
			c := &ps.Containers[j]
			u, at := usage(c.CPU, c.Memory)
			if u == nil {
				continue
			}
			out.Containers = append(out.Containers, metricsv1beta1.ContainerMetrics{Name: c.Name, Usage: u})
			if out.Timestamp.IsZero() || at.Before(&out.Timestamp) {
				out.Timestamp = at
			}
		}
		if len(out.Containers) == 0 {
			return nil
		}
		return out
	}
	return nil
}
