package kubelet

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	apiresource "k8s.io/apimachinery/pkg/api/resource"
	kubeletv1beta1 "k8s.io/kubelet/config/v1beta1"

	"skiff/kubelet/config"
	"skiff/kubelet/critest"
	memorystate "skiff/kubelet/memory/state"
	"skiff/kubelet/topology"
)

// sixCPUs is a machine of two NUMA nodes with three CPUs each.
func sixCPUs() *topology.Machine {
	const gib = 1 << 30
	out := &topology.Machine{Nodes: []topology.Node{{ID: 0, Memory: 8 * gib}, {ID: 1, Memory: 8 * gib}}}
	for id := range 6 {
		out.CPUs = append(out.CPUs, topology.CPU{ID: id, Core: id, Node: id / 3, Socket: id / 3, Cache: id / 3 * 3})
	}
	return out
}

func withCPUs(name, n string) func(*v1.Pod) {
	return func(p *v1.Pod) {
		list := v1.ResourceList{v1.ResourceCPU: apiresource.MustParse(n), v1.ResourceMemory: apiresource.MustParse("1Gi")}
		p.Spec.Containers[0].Name, p.Spec.Containers[0].Resources = name, v1.ResourceRequirements{Limits: list, Requests: list}
	}
}

func TestPinning(t *testing.T) {
	c := config.Default()
	c.CPUManagerPolicy, c.ReservedSystemCPUs = "static", "0"
	c.MemoryManagerPolicy, c.EvictionHard = "Static", map[string]string{"memory.available": "1Gi"}
	c.ReservedMemory = []kubeletv1beta1.MemoryReservation{{NumaNode: 0, Limits: v1.ResourceList{v1.ResourceMemory: apiresource.MustParse("1Gi")}}}
	c.TopologyManagerPolicy = topology.SingleNUMANode
	h := startWith(t, critest.New("img:1"), func(cfg *Config) { cfg.Kubelet, cfg.Machine = c, sixCPUs() })
	cpusOf := func(name string) string {
		c := h.runtime.ContainerNamed(name)
		if c == nil {
			return ""
		}
		if r := c.Status.Resources.GetLinux(); r.GetCpusetCpus() != "" {
			return r.CpusetCpus
		}
		return c.Config.Linux.Resources.CpusetCpus
	}
	h.create(newPod("shared", func(p *v1.Pod) { p.Spec.Containers[0].Name = "shared" }))
	h.wait("shared", "ready", ready)
	if got := cpusOf("shared"); got != "0-5" {
		t.Errorf("the first pod has the CPUs %q, want 0-5", got)
	}
	h.create(newPod("own", withCPUs("own", "1")))
	h.wait("own", "ready", ready)
	own := h.runtime.ContainerNamed("own").Config.Linux.Resources
	if own.CpusetCpus != "1" || own.CpusetMems != "0" {
		t.Errorf("the second pod has CPUs %q of nodes %q, want 1 of 0", own.CpusetCpus, own.CpusetMems)
	}
	h.until("the first pod off the CPU of the second", func() bool { return cpusOf("shared") == "0,2-5" })

	h.create(newPod("two", withCPUs("two", "2")))
	h.wait("two", "ready", ready)
	if got := cpusOf("two"); got != "3-4" {
		t.Errorf("the third pod has the CPUs %q, want 3-4", got)
	}
	// Two CPUs are left, one on each node.
	h.create(newPod("wide", withCPUs("wide", "2")))
	wide := h.wait("wide", "refused", func(p *v1.Pod) bool { return p != nil && p.Status.Phase == v1.PodFailed })
	if want := "Pod was rejected: Resources cannot be allocated with Topology locality"; wide.Status.Reason != "TopologyAffinityError" || wide.Status.Message != want {
		t.Errorf("refused: %s: %s; want TopologyAffinityError: %s", wide.Status.Reason, wide.Status.Message, want)
	}
	h.stop()
	// Pods that run get theirs again where nobody knows any more what they had.
	for _, name := range []string{"cpu_manager_state", "memory_manager_state"} {
		if err := os.Remove(filepath.Join(h.root, "kubelet", name)); err != nil {
			t.Fatal(err)
		}
	}
	h.runWith(func(cfg *Config) { cfg.Kubelet, cfg.Machine = c, sixCPUs() })
	two := h.wait("two", "ready", ready)
	h.until("memory kept for the third pod", func() bool { return len(h.kubelet.memory.Blocks(two.UID, "two")) == 1 })
	want := []memorystate.Block{{NUMAAffinity: []int{1}, Type: v1.ResourceMemory, Size: 1 << 30}}
	if d := cmp.Diff(want, h.kubelet.memory.Blocks(two.UID, "two")); d != "" {
		t.Errorf("memory of the third pod (-want +got):\n%s", d)
	}
	h.until("CPUs of their own again", func() bool { return cpusOf("two") == "3-4" && cpusOf("own") == "1" && cpusOf("shared") == "0,2,5" })
	h.delete("own")
	h.wait("own", "gone", func(p *v1.Pod) bool { return p == nil })
	h.until("its CPU shared again", func() bool { return cpusOf("shared") == "0-2,5" })
}

// until asks until check is content.
func (h *harness) until(what string, check func() bool) {
	h.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(20 * time.Second); !check(); <-tick.C {
		if time.Now().After(end) {
			h.t.Fatalf("waited for %s; calls %v", what, h.runtime.Calls())
		}
	}
}
