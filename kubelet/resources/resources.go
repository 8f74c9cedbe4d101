// Package resources turns a pod's requests and limits into what the kernel
// and CRI understand. Everything in it is a pure function.
package resources

import (
	"slices"
	"strconv"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"
	helpers "k8s.io/component-helpers/resource"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const (
	minShares = 2
	maxShares = 262144
	minQuota  = 1000
)

// Shares converts CPU to cgroup v1 shares.
func Shares(milli int64) int64 {
	return min(max(milli*1024/1000, minShares), maxShares)
}

// Quota converts CPU to a CFS quota for the period; 0 means none.
func Quota(milli int64, period time.Duration) int64 {
	if milli == 0 {
		return 0
	}
	return max(milli*period.Microseconds()/1000, minQuota)
}

// QOS is the pod's quality of service class.
func QOS(pod *v1.Pod) v1.PodQOSClass {
	if pod.Status.QOSClass != "" {
		return pod.Status.QOSClass
	}
	return ComputeQOS(pod)
}

// ComputeQOS derives the class from the spec.
func ComputeQOS(pod *v1.Pod) v1.PodQOSClass {
	any, guaranteed := false, true
	count := func(r v1.ResourceRequirements) {
		for _, name := range []v1.ResourceName{v1.ResourceCPU, v1.ResourceMemory} {
			req, lim := r.Requests[name], r.Limits[name]
			if !req.IsZero() || !lim.IsZero() {
				any = true
			}
			if lim.IsZero() || !req.IsZero() && req.Cmp(lim) != 0 {
				guaranteed = false
			}
		}
	}
	if r := pod.Spec.Resources; r != nil && (len(r.Requests) > 0 || len(r.Limits) > 0) {
		count(*r)
	} else {
		for _, list := range [][]v1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
			for i := range list {
				count(list[i].Resources)
			}
		}
	}
	switch {
	case !any:
		return v1.PodQOSBestEffort
	case guaranteed:
		return v1.PodQOSGuaranteed
	}
	return v1.PodQOSBurstable
}

// Priorities from which a pod counts as critical.
const (
	systemCritical = 2000000000
	nodeCritical   = 2000001000
)

// IsStatic reports whether the pod comes from a file or URL.
func IsStatic(pod *v1.Pod) bool {
	source := pod.Annotations["kubernetes.io/config.source"]
	return source != "" && source != "api"
}

// IsCritical reports whether a pod is not to be evicted and may preempt.
func IsCritical(pod *v1.Pod) bool {
	if IsStatic(pod) {
		return true
	}
	if _, ok := pod.Annotations[v1.MirrorPodAnnotationKey]; ok {
		return true
	}
	return pod.Spec.Priority != nil && *pod.Spec.Priority >= systemCritical
}

// OOMScoreAdj is the kernel's out-of-memory adjustment of a container.
func OOMScoreAdj(pod *v1.Pod, c *v1.Container, memoryCapacity int64) int64 {
	const guaranteed, bestEffort = -997, 1000
	if pod.Spec.Priority != nil && *pod.Spec.Priority >= nodeCritical {
		return guaranteed
	}
	switch QOS(pod) {
	case v1.PodQOSGuaranteed:
		return guaranteed
	case v1.PodQOSBestEffort:
		return bestEffort
	}
	if memoryCapacity <= 0 {
		return 999
	}
	score := 1000 - 1000*c.Resources.Requests.Memory().Value()/memoryCapacity
	if score < 1000+guaranteed {
		return 1000 + guaranteed
	}
	if score >= bestEffort {
		return bestEffort - 1
	}
	return score
}

// Settings are the node's part in a container's resources.
type Settings struct {
	MemoryCapacity int64
	CFSQuota       bool
	CFSPeriod      time.Duration
	Swap           Swap
	// OOMGroup ends a whole container when one of its processes runs out of memory.
	OOMGroup bool
	// Exclusive tells whether a container has CPUs to itself; nil is never. A quota
	// would only throttle it on what no other may use.
	Exclusive func(pod types.UID, container string) bool
}

func (s Settings) exclusive(pod *v1.Pod, container string) bool {
	return s.Exclusive != nil && s.Exclusive(pod.UID, container)
}

// anyExclusive tells whether a container of the pod has CPUs to itself: the pod's own
// quota would throttle it too.
func (s Settings) anyExclusive(pod *v1.Pod) bool {
	for _, list := range [][]v1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			if s.exclusive(pod, list[i].Name) {
				return true
			}
		}
	}
	return false
}

// Linux are the CRI resources of a container.
func Linux(pod *v1.Pod, c *v1.Container, s Settings) *runtimeapi.LinuxContainerResources {
	req, lim := c.Resources.Requests, c.Resources.Limits
	out := &runtimeapi.LinuxContainerResources{OomScoreAdj: OOMScoreAdj(pod, c, s.MemoryCapacity)}
	cpu := req.Cpu().MilliValue()
	if _, ok := req[v1.ResourceCPU]; !ok {
		cpu = lim.Cpu().MilliValue()
	}
	out.CpuShares = Shares(cpu)
	if s.CFSQuota && !s.exclusive(pod, c.Name) {
		period := s.CFSPeriod
		if period == 0 {
			period = 100 * time.Millisecond
		}
		limit := lim.Cpu().MilliValue()
		if limit == 0 && pod.Spec.Resources != nil {
			limit = pod.Spec.Resources.Limits.Cpu().MilliValue()
		}
		out.CpuPeriod, out.CpuQuota = period.Microseconds(), Quota(limit, period)
	}
	out.MemoryLimitInBytes = lim.Memory().Value()
	if out.MemoryLimitInBytes == 0 && pod.Spec.Resources != nil {
		out.MemoryLimitInBytes = pod.Spec.Resources.Limits.Memory().Value()
	}
	s.Swap.limit(out, pod, c, s.MemoryCapacity)
	if s.OOMGroup {
		if out.Unified == nil {
			out.Unified = map[string]string{}
		}
		out.Unified["memory.oom.group"] = "1"
	}
	for name, q := range lim {
		if size, ok := hugePageSize(name); ok {
			out.HugepageLimits = append(out.HugepageLimits, &runtimeapi.HugepageLimit{PageSize: size, Limit: uint64(q.Value())})
		}
	}
	return out
}

// hugePageSize names the page size as the kernel does: 2MB, 1GB.
func hugePageSize(name v1.ResourceName) (string, bool) {
	raw, ok := strings.CutPrefix(string(name), v1.ResourceHugePagesPrefix)
	if !ok {
		return "", false
	}
	q, err := resource.ParseQuantity(raw)
	if err != nil {
		return "", false
	}
	size, units := q.Value(), []string{"B", "KB", "MB", "GB"}
	i := 0
	for size >= 1024 && i < len(units)-1 {
		size, i = size/1024, i+1
	}
	return strconv.FormatInt(size, 10) + units[i], true
}

// Pod is what the cgroup of a whole pod is limited to; 0 means no limit.
type Pod struct {
	Shares, Quota, Period, Memory, Pids int64
}

// ForPod computes the limits of a pod's cgroup: shares from the requests, the
// others only where every container has a limit.
func ForPod(pod *v1.Pod, s Settings, pidsLimit int64) Pod {
	reqs := helpers.PodRequests(pod, helpers.PodResourcesOptions{UseStatusResources: true})
	cpuLimited, memoryLimited := true, true
	lims := helpers.PodLimits(pod, helpers.PodResourcesOptions{UseStatusResources: true})
	for i := range pod.Spec.Containers {
		limits := pod.Spec.Containers[i].Resources.Limits
		cpuLimited = cpuLimited && !limits.Cpu().IsZero()
		memoryLimited = memoryLimited && !limits.Memory().IsZero()
	}
	for i := range pod.Spec.InitContainers {
		limits := pod.Spec.InitContainers[i].Resources.Limits
		cpuLimited = cpuLimited && !limits.Cpu().IsZero()
		memoryLimited = memoryLimited && !limits.Memory().IsZero()
	}
	if pod.Spec.Resources != nil {
		cpuLimited = cpuLimited || !pod.Spec.Resources.Limits.Cpu().IsZero()
		memoryLimited = memoryLimited || !pod.Spec.Resources.Limits.Memory().IsZero()
	}
	out := Pod{Period: s.CFSPeriod.Microseconds(), Shares: minShares}
	if out.Period == 0 {
		out.Period = 100000
	}
	if pidsLimit > 0 {
		out.Pids = pidsLimit
	}
	if QOS(pod) == v1.PodQOSBestEffort {
		return out
	}
	out.Shares = Shares(reqs.Cpu().MilliValue())
	if s.CFSQuota && cpuLimited && !s.anyExclusive(pod) {
		out.Quota = Quota(lims.Cpu().MilliValue(), time.Duration(out.Period)*time.Microsecond)
	}
	if memoryLimited {
		out.Memory = lims.Memory().Value()
	}
	return out
}

// Extended tells whether a resource is one that is no part of Kubernetes.
func Extended(name v1.ResourceName) bool {
	text := string(name)
	return strings.Contains(text, "/") && !strings.Contains(text, v1.ResourceDefaultNamespacePrefix) &&
		!strings.HasPrefix(text, v1.DefaultResourceRequestsPrefix) && len(validation.IsQualifiedName(v1.DefaultResourceRequestsPrefix+text)) == 0
}

// Requests are the pod's effective requests of what the node has: without what a
// claim gives in place of a device plugin.
func Requests(pod *v1.Pod) v1.ResourceList {
	out := helpers.PodRequests(pod, helpers.PodResourcesOptions{UseStatusResources: true})
	if s := pod.Status.ExtendedResourceClaimStatus; s != nil {
		for _, m := range s.RequestMappings {
			delete(out, v1.ResourceName(m.ResourceName))
		}
	}
	return out
}

// Claimed tells whether a claim gives a container an extended resource, in place of
// a device plugin.
func Claimed(pod *v1.Pod, container string, name v1.ResourceName) bool {
	s := pod.Status.ExtendedResourceClaimStatus
	return s != nil && slices.ContainsFunc(s.RequestMappings, func(m v1.ContainerExtendedResourceRequest) bool {
		return m.ContainerName == container && m.ResourceName == string(name)
	})
}
