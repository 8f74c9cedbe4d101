package allocation

import (
	v1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Change is how the resources of a running container differ from those it is to
// have.
type Change struct{ CPU, Memory bool }

// Compare tells what has to change: by what the kernel was given, and, where it
// is known, by what the container was last set to, since requests need not show
// in the kernel.
func Compare(have, want *runtimeapi.LinuxContainerResources, was *v1.ResourceRequirements, is *v1.ResourceRequirements) Change {
	var out Change
	// A runtime that tells nothing is taken at its word that nothing is off.
	if have != nil && (have.CpuShares != 0 || have.MemoryLimitInBytes != 0) {
		out.CPU = have.CpuShares != want.CpuShares || max(have.CpuQuota, 0) != max(want.CpuQuota, 0)
		out.Memory = max(have.MemoryLimitInBytes, 0) != max(want.MemoryLimitInBytes, 0)
	}
	if was != nil {
		out.CPU = out.CPU || differs(was, is, v1.ResourceCPU)
		out.Memory = out.Memory || differs(was, is, v1.ResourceMemory)
	}
	return out
}

func differs(was, is *v1.ResourceRequirements, name v1.ResourceName) bool {
	before, now := was.Requests[name], is.Requests[name]
	limitBefore, limitNow := was.Limits[name], is.Limits[name]
	return before.Cmp(now) != 0 || limitBefore.Cmp(limitNow) != 0
}

// Any tells whether there is a change.
func (c Change) Any() bool { return c.CPU || c.Memory }

// Restarts tells whether a container has to be started again for a change, by its
// own resize policy.
func (c Change) Restarts(spec *v1.Container) bool {
	for _, p := range spec.ResizePolicy {
		if p.RestartPolicy == v1.RestartContainer && (p.ResourceName == v1.ResourceCPU && c.CPU || p.ResourceName == v1.ResourceMemory && c.Memory) {
			return true
		}
	}
	return false
}
