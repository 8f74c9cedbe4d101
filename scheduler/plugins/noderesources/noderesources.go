// Package noderesources holds the plugins that compare what pods request with
// what nodes offer: NodeResourcesFit and NodeResourcesBalancedAllocation.
package noderesources

import (
	v1 "k8s.io/api/core/v1"
	configv1 "k8s.io/kube-scheduler/config/v1"

	"skiff/scheduler/framework"
)

// defaultResources are what scores look at unless configured.
func defaultResources() []configv1.ResourceSpec {
	return []configv1.ResourceSpec{{Name: string(v1.ResourceCPU), Weight: 1}, {Name: string(v1.ResourceMemory), Weight: 1}}
}

// load is a resource of a node with the pod counted in.
type load struct {
	weight, allocatable, requested int64
}

// loads lists the configured resources that matter for the pod on the node, with
// the pod and without it. An extended resource that the pod does not ask for
// does not take part.
func loads(specs []configv1.ResourceSpec, pod *framework.PodInfo, node *framework.NodeInfo, nonZero bool) (with, without []load) {
	with, without = make([]load, 0, len(specs)), make([]load, 0, len(specs))
	for _, s := range specs {
		name := v1.ResourceName(s.Name)
		asks, used := pod.Requests.Get(name), node.Requested.Get(name)
		basic := name == v1.ResourceCPU || name == v1.ResourceMemory || name == v1.ResourceEphemeralStorage
		if !basic && asks == 0 {
			continue
		}
		if nonZero && (name == v1.ResourceCPU || name == v1.ResourceMemory) {
			asks, used = pod.NonZeroRequests.Get(name), node.NonZeroRequested.Get(name)
		}
		if a := node.Allocatable.Get(name); a > 0 {
			with = append(with, load{weight: s.Weight, allocatable: a, requested: used + asks})
			without = append(without, load{weight: s.Weight, allocatable: a, requested: used})
		}
	}
	return with, without
}
