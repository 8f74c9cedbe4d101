package kubelet

import (
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"skiff/kubelet/config"
	"skiff/kubelet/resources"
)

// What a static policy set aside for a pod, and the swap that goes with its memory
// request, do not change while it runs.
//
// Covers: node.resize
func TestNeverResizes(t *testing.T) {
	const (
		cpuPinned    = `Resize is infeasible for Guaranteed Pods alongside CPU Manager policy "static"`
		memoryPinned = `Resize is infeasible for Guaranteed Pods alongside Memory Manager policy "Static"`
		swaps        = "In-place resize of containers with swap is not supported."
	)
	list := func(cpu, memory string) v1.ResourceList {
		return v1.ResourceList{v1.ResourceCPU: resource.MustParse(cpu), v1.ResourceMemory: resource.MustParse(memory)}
	}
	guaranteed := func(cpu, memory string) v1.Container {
		return v1.Container{Name: "c", Resources: v1.ResourceRequirements{Requests: list(cpu, memory), Limits: list(cpu, memory)}}
	}
	burstable := func(cpu, memory string) v1.Container {
		return v1.Container{Name: "c", Resources: v1.ResourceRequirements{Requests: list(cpu, memory)}}
	}
	restarting := func(c v1.Container) v1.Container {
		c.ResizePolicy = []v1.ContainerResizePolicy{{ResourceName: v1.ResourceMemory, RestartPolicy: v1.RestartContainer}}
		return c
	}
	swap := resources.Swap{Limited: true, Capacity: 1 << 30, Unified: true, Accounted: true}
	for _, tt := range []struct {
		name        string
		cpu, memory string
		swap        resources.Swap
		has, asks   v1.Container
		want        string
	}{
		{name: "no policy", has: guaranteed("1", "1Gi"), asks: guaranteed("2", "2Gi")},
		{name: "CPUs of its own", cpu: "static", has: guaranteed("1", "1Gi"), asks: guaranteed("2", "1Gi"), want: cpuPinned},
		{name: "memory beside CPUs of its own", cpu: "static", has: guaranteed("1", "1Gi"), asks: guaranteed("1", "2Gi")},
		{name: "memory of its own", memory: "Static", has: guaranteed("1", "1Gi"), asks: guaranteed("1", "2Gi"), want: memoryPinned},
		{name: "CPUs beside memory of its own", memory: "Static", has: guaranteed("1", "1Gi"), asks: guaranteed("2", "1Gi")},
		{name: "the same in other words", cpu: "static", memory: "Static", has: guaranteed("1", "1Gi"), asks: guaranteed("1000m", "1024Mi")},
		{name: "burstable shares CPUs", cpu: "static", memory: "Static", has: burstable("1", "1Gi"), asks: burstable("2", "2Gi")},
		{name: "memory with swap", swap: swap, has: burstable("1", "1Gi"), asks: burstable("1", "2Gi"), want: swaps},
		{name: "memory with swap and a restart", swap: swap, has: restarting(burstable("1", "1Gi")), asks: restarting(burstable("1", "2Gi"))},
		{name: "CPU with swap", swap: swap, has: burstable("1", "1Gi"), asks: burstable("2", "1Gi")},
		{name: "guaranteed has no swap", swap: swap, has: guaranteed("1", "1Gi"), asks: guaranteed("1", "2Gi")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			conf := config.Default()
			conf.CPUManagerPolicy, conf.MemoryManagerPolicy = tt.cpu, tt.memory
			k := &Kubelet{cfg: Config{Kubelet: conf}, settings: resources.Settings{Swap: tt.swap}}
			pod := func(c v1.Container) *v1.Pod { return &v1.Pod{Spec: v1.PodSpec{Containers: []v1.Container{c}}} }
			if got := k.neverResizes(pod(tt.has), pod(tt.asks)); got != tt.want {
				t.Errorf("the resize is told %q, want %q", got, tt.want)
			}
		})
	}
}
