package resources_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/utils/ptr"

	"skiff/kubelet/resources"
)

func TestSwap(t *testing.T) {
	const gi = 1 << 30
	memory := func(q string) v1.ResourceList { return v1.ResourceList{v1.ResourceMemory: resource.MustParse(q)} }
	quarter := v1.ResourceRequirements{Requests: memory("2Gi")}
	v2 := resources.Swap{Limited: true, Capacity: 4 * gi, Unified: true, Accounted: true}
	type limits struct {
		Unified map[string]string
		Both    int64
	}
	none := limits{Unified: map[string]string{"memory.swap.max": "0"}}
	for _, tt := range []struct {
		name     string
		swap     resources.Swap
		has      v1.ResourceRequirements
		priority int32
		want     limits
	}{
		{name: "a share as its request is of the memory", swap: v2, has: quarter, want: limits{Unified: map[string]string{"memory.swap.max": "1073741824"}}},
		{name: "a request below its limit", swap: v2, has: v1.ResourceRequirements{Requests: memory("1Gi"), Limits: memory("2Gi")}, want: limits{Unified: map[string]string{"memory.swap.max": "536870912"}}},
		{name: "more than the node has", swap: v2, has: v1.ResourceRequirements{Requests: memory("9Gi")}, want: none},
		{name: "best effort", swap: v2, want: none},
		{name: "guaranteed", swap: v2, has: v1.ResourceRequirements{
			Requests: v1.ResourceList{v1.ResourceMemory: resource.MustParse("1Gi"), v1.ResourceCPU: resource.MustParse("1")},
			Limits:   v1.ResourceList{v1.ResourceMemory: resource.MustParse("1Gi"), v1.ResourceCPU: resource.MustParse("1")},
		}, want: none},
		{name: "burstable by its CPU alone", swap: v2, has: v1.ResourceRequirements{Requests: memory("1Gi"), Limits: memory("1Gi")}, want: none},
		{name: "critical", swap: v2, has: quarter, priority: 2000000000, want: none},
		{name: "no swap is given", swap: resources.Swap{Capacity: 4 * gi, Unified: true, Accounted: true}, has: quarter, want: none},
		{name: "a kernel that does not limit swap", swap: resources.Swap{Limited: true, Capacity: 4 * gi, Unified: true}, has: quarter},
		{name: "cgroup v1 has one limit for both", swap: resources.Swap{Limited: true, Capacity: 4 * gi, Accounted: true},
			has: v1.ResourceRequirements{Requests: memory("1Gi"), Limits: memory("2Gi")}, want: limits{Both: 2 * gi}},
		{name: "cgroup v1 without a limit of memory", swap: resources.Swap{Limited: true, Capacity: 4 * gi, Accounted: true}, has: quarter},
		{name: "cgroup v1 that does not limit swap", swap: resources.Swap{Capacity: 4 * gi}, has: v1.ResourceRequirements{Limits: memory("2Gi")}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			pod := &v1.Pod{Spec: v1.PodSpec{Priority: ptr.To(tt.priority), Containers: []v1.Container{{Name: "c", Resources: tt.has}}}}
			out := resources.Linux(pod, &pod.Spec.Containers[0], resources.Settings{MemoryCapacity: 8 * gi, Swap: tt.swap})
			if diff := cmp.Diff(tt.want, limits{Unified: out.Unified, Both: out.MemorySwapLimitInBytes}); diff != "" {
				t.Errorf("limits (-want +got):\n%s", diff)
			}
		})
	}
}
