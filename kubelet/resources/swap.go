package resources

import (
	"strconv"

	v1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Swap is what a node lets its containers have of its swap.
type Swap struct {
	// Limited gives containers of Burstable pods a share of Capacity; no other has any.
	Limited  bool
	Capacity int64
	// Unified says that limits are written as cgroup v2 has them.
	Unified bool
	// Accounted says that the kernel keeps limits of swap at all.
	Accounted bool
}

// WithMemory tells whether the limit is one of memory and swap together.
func (s Swap) WithMemory() bool { return s.Accounted && !s.Unified }

// limit writes how much a container may swap out. Where memory and swap have one
// limit there is no share to give, and a container without a limit of memory has
// none of swap either.
func (s Swap) limit(out *runtimeapi.LinuxContainerResources, pod *v1.Pod, c *v1.Container, memory int64) {
	switch {
	case s.WithMemory():
		out.MemorySwapLimitInBytes = out.MemoryLimitInBytes
	case s.Accounted:
		out.Unified = map[string]string{"memory.swap.max": strconv.FormatInt(s.share(pod, c, memory), 10)}
	}
}

// Shares tells whether a container may have a part of the node's swap.
func (s Swap) Shares(pod *v1.Pod, c *v1.Container) bool {
	return s.Limited && s.Accounted && s.Unified && QOS(pod) == v1.PodQOSBurstable && !IsCritical(pod) &&
		c.Resources.Requests.Memory().Cmp(*c.Resources.Limits.Memory()) != 0
}

// share is a container's part of the node's swap, as its memory request is of
// the node's memory.
func (s Swap) share(pod *v1.Pod, c *v1.Container, memory int64) int64 {
	request := c.Resources.Requests.Memory()
	if !s.Shares(pod, c) || request.Value() > memory || memory <= 0 {
		return 0
	}
	return int64(float64(request.Value()) / float64(memory) * float64(s.Capacity))
}
