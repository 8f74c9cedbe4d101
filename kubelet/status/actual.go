package status

import (
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"skiff/kubelet/podstate"
	"skiff/kubelet/resources"
)

// actual are the resources that the container has, as far as the runtime
// tells: the spec's where they agree, else what the kernel was given.
func actual(spec *v1.Container, c *podstate.Container) *v1.ResourceRequirements {
	out := spec.Resources.DeepCopy()
	r := c.Resources
	if r == nil {
		return out
	}
	if q, ok := spec.Resources.Limits[v1.ResourceMemory]; ok && r.MemoryLimitInBytes > 0 && q.Value() != r.MemoryLimitInBytes {
		out.Limits[v1.ResourceMemory] = *resource.NewQuantity(r.MemoryLimitInBytes, resource.BinarySI)
	}
	if q, ok := spec.Resources.Limits[v1.ResourceCPU]; ok && r.CpuQuota > 0 && r.CpuPeriod > 0 {
		if resources.Quota(q.MilliValue(), time.Duration(r.CpuPeriod)*time.Microsecond) != r.CpuQuota {
			out.Limits[v1.ResourceCPU] = *resource.NewMilliQuantity(r.CpuQuota*1000/r.CpuPeriod, resource.DecimalSI)
		}
	}
	if q, ok := spec.Resources.Requests[v1.ResourceCPU]; ok && r.CpuShares > 0 && resources.Shares(q.MilliValue()) != r.CpuShares {
		out.Requests[v1.ResourceCPU] = *resource.NewMilliQuantity(r.CpuShares*1000/1024, resource.DecimalSI)
	}
	return out
}
