package config

import (
	"fmt"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	kubeletv1beta1 "k8s.io/kubelet/config/v1beta1"
	"k8s.io/utils/cpuset"

	"skiff/kubelet/cpus"
	"skiff/kubelet/topology"
)

// validatePinning checks what the CPU, memory and topology managers are told.
func validatePinning(c *kubeletv1beta1.KubeletConfiguration, bad func(format string, args ...any)) {
	if policies := []string{cpus.None, cpus.Static}; !slices.Contains(policies, c.CPUManagerPolicy) {
		bad("cpuManagerPolicy (--cpu-manager-policy) %q must be one of: %q", c.CPUManagerPolicy, policies)
	}
	if _, err := cpus.ParseOptions(c.CPUManagerPolicyOptions, c.FeatureGates); err != nil {
		bad("cpuManagerPolicyOptions (--cpu-manager-policy-options): %w", err)
	}
	if c.CPUManagerReconcilePeriod.Duration <= 0 {
		bad("cpuManagerReconcilePeriod (--cpu-manager-reconcile-period) %v must be greater than zero", c.CPUManagerReconcilePeriod.Duration)
	}
	if policies := []string{topology.None, topology.BestEffort, topology.Restricted, topology.SingleNUMANode}; !slices.Contains(policies, c.TopologyManagerPolicy) {
		bad("topologyManagerPolicy (--topology-manager-policy) %q must be one of: %q", c.TopologyManagerPolicy, policies)
	}
	if c.TopologyManagerScope != topology.ContainerScope && c.TopologyManagerScope != topology.PodScope {
		bad("topologyManagerScope (--topology-manager-scope) %q must be one of: %q, or %q", c.TopologyManagerScope, topology.ContainerScope, topology.PodScope)
	}
	if _, err := topology.ParseOptions(c.TopologyManagerPolicyOptions); err != nil {
		bad("topologyManagerPolicyOptions (--topology-manager-policy-options): %w", err)
	}
	if c.ReservedSystemCPUs != "" {
		if c.SystemReservedCgroup != "" || c.KubeReservedCgroup != "" {
			bad("can't use reservedSystemCPUs (--reserved-cpus) with systemReservedCgroup (--system-reserved-cgroup) or kubeReservedCgroup (--kube-reserved-cgroup)")
		}
		if _, err := cpuset.Parse(c.ReservedSystemCPUs); err != nil {
			bad("unable to parse reservedSystemCPUs (--reserved-cpus) %v, error: %w", c.ReservedSystemCPUs, err)
		}
	}
	validateMemory(c, bad)
}

func validateMemory(c *kubeletv1beta1.KubeletConfiguration, bad func(format string, args ...any)) {
	switch c.MemoryManagerPolicy {
	case kubeletv1beta1.NoneMemoryManagerPolicy:
		if len(c.ReservedMemory) > 0 {
			bad("reservedMemory (--reserved-memory) can only be used with memoryManagerPolicy (--memory-manager-policy) %q", kubeletv1beta1.StaticMemoryManagerPolicy)
		}
		return
	case kubeletv1beta1.StaticMemoryManagerPolicy:
	default:
		bad("memoryManagerPolicy (--memory-manager-policy) %q must be one of: %q", c.MemoryManagerPolicy,
			[]string{kubeletv1beta1.NoneMemoryManagerPolicy, kubeletv1beta1.StaticMemoryManagerPolicy})
		return
	}
	if len(c.ReservedMemory) == 0 {
		bad("memoryManagerPolicy (--memory-manager-policy) %q needs reservedMemory (--reserved-memory)", c.MemoryManagerPolicy)
	}
	seen := map[string]bool{}
	for _, r := range c.ReservedMemory {
		for kind, q := range r.Limits {
			if kind != v1.ResourceMemory && !strings.HasPrefix(string(kind), v1.ResourceHugePagesPrefix) {
				bad("the limit type %q for NUMA node %d is not supported, only %v is accepted", kind, r.NumaNode, []v1.ResourceName{v1.ResourceMemory, v1.ResourceHugePagesPrefix})
			}
			if q.Sign() <= 0 {
				bad("reserved memory may not be zero for NUMA node %d and resource %q", r.NumaNode, kind)
			}
			key := fmt.Sprint(r.NumaNode, kind)
			if seen[key] {
				bad("the reserved memory has a duplicate value for NUMA node %d and resource %q", r.NumaNode, kind)
			}
			seen[key] = true
		}
	}
}
