package framework

import (
	"maps"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	resourcehelper "k8s.io/component-helpers/resource"
)

const (
	// DefaultMilliCPURequest is what a container without a CPU request counts for in scores (0.1 core).
	DefaultMilliCPURequest int64 = 100
	// DefaultMemoryRequest is what a container without a memory request counts for in scores (200 MB).
	DefaultMemoryRequest int64 = 200 * 1024 * 1024
)

// Resource is a resource list in the units that the scheduler computes with:
// millicores for CPU, and whole units for the rest.
type Resource struct {
	MilliCPU         int64
	Memory           int64
	EphemeralStorage int64
	// AllowedPodNumber is set for allocatable resources only.
	AllowedPodNumber int
	// Scalar holds extended resources, huge pages and attachable volumes.
	Scalar map[v1.ResourceName]int64
}

// NewResource converts a list.
func NewResource(rl v1.ResourceList) Resource {
	var r Resource
	for name, q := range rl {
		switch name {
		case v1.ResourceCPU:
			r.MilliCPU += q.MilliValue()
		case v1.ResourceMemory:
			r.Memory += q.Value()
		case v1.ResourcePods:
			r.AllowedPodNumber += int(q.Value())
		case v1.ResourceEphemeralStorage:
			r.EphemeralStorage += q.Value()
		default:
			if r.Scalar == nil {
				r.Scalar = map[v1.ResourceName]int64{}
			}
			r.Scalar[name] += q.Value()
		}
	}
	return r
}

// Get reads one resource by name.
func (r *Resource) Get(name v1.ResourceName) int64 {
	switch name {
	case v1.ResourceCPU:
		return r.MilliCPU
	case v1.ResourceMemory:
		return r.Memory
	case v1.ResourceEphemeralStorage:
		return r.EphemeralStorage
	}
	return r.Scalar[name]
}

// addScaled adds o times sign (1 or -1).
func (r *Resource) addScaled(o *Resource, sign int64) {
	r.MilliCPU += sign * o.MilliCPU
	r.Memory += sign * o.Memory
	r.EphemeralStorage += sign * o.EphemeralStorage
	if len(o.Scalar) > 0 && r.Scalar == nil {
		r.Scalar = make(map[v1.ResourceName]int64, len(o.Scalar))
	}
	for name, q := range o.Scalar {
		r.Scalar[name] += sign * q
	}
}

func (r *Resource) clone() Resource {
	c := *r
	c.Scalar = maps.Clone(r.Scalar)
	return c
}

// PodRequests is what the pod takes from a node: containers, sidecars, init
// containers, pod-level resources, overhead, and what an in-place resize holds.
// What a claim gives in place of a device plugin is not taken from the node's own.
func PodRequests(pod *v1.Pod) v1.ResourceList {
	out := resourcehelper.PodRequests(pod, resourcehelper.PodResourcesOptions{
		UseStatusResources: true,
		InPlacePodLevelResourcesVerticalScalingEnabled: true,
	})
	if s := pod.Status.ExtendedResourceClaimStatus; s != nil && pod.Spec.NodeName != "" {
		for _, m := range s.RequestMappings {
			delete(out, v1.ResourceName(m.ResourceName))
		}
	}
	return out
}

// podNonZeroRequests counts containers that request no CPU or memory with the defaults, for scores.
func podNonZeroRequests(pod *v1.Pod) v1.ResourceList {
	missing := v1.ResourceList{
		v1.ResourceCPU:    *resource.NewMilliQuantity(DefaultMilliCPURequest, resource.DecimalSI),
		v1.ResourceMemory: *resource.NewQuantity(DefaultMemoryRequest, resource.DecimalSI),
	}
	return resourcehelper.PodRequests(pod, resourcehelper.PodResourcesOptions{
		UseStatusResources: true,
		InPlacePodLevelResourcesVerticalScalingEnabled: true,
		NonMissingContainerRequests:                    missing,
	})
}
