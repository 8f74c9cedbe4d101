package kubelet

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"skiff/kubelet/critest"
	"skiff/kubelet/resources"
)

// A resize is told from its start, or why there is none, to its end.
//
// Covers: node.resize
func TestResizeEvents(t *testing.T) {
	cpu := func(milli int64) v1.ResourceRequirements {
		list := v1.ResourceList{v1.ResourceCPU: *resource.NewMilliQuantity(milli, resource.DecimalSI)}
		return v1.ResourceRequirements{Requests: list, Limits: list}
	}
	h := start(t, critest.New("img:1"), newPod("a", func(p *v1.Pod) { p.Spec.Containers[0].Resources = cpu(10) }))
	pod := h.wait("a", "ready", ready)
	steps := []struct {
		milli int64
		want  []string
	}{
		{20, []string{
			`Normal ResizeStarted Pod resize started: {"containers":[{"name":"c","resources":{"limits":{"cpu":"20m"},"requests":{"cpu":"20m"}}}],"generation":2}`,
			`Normal ResizeCompleted Pod resize completed: {"containers":[{"name":"c","resources":{"limits":{"cpu":"20m"},"requests":{"cpu":"20m"}}}],"generation":2}`,
		}},
		{100_000_000, []string{
			`Warning ResizeInfeasible Pod resize Infeasible: {"containers":[{"name":"c","resources":{"limits":{"cpu":"100k"},"requests":{"cpu":"100k"}}}],"generation":3,"error":"Node didn't have enough capacity: cpu`,
		}},
	}
	for i, step := range steps {
		pod.Generation, pod.Spec.Containers[0].Resources = int64(i)+2, cpu(step.milli)
		var err error
		if pod, err = h.client.CoreV1().Pods("ns").Update(context.Background(), pod, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		for _, want := range step.want {
			h.event(want)
		}
	}
}

// A container whose memory is above the limit that it is to have keeps the one it has.
//
// Covers: node.resize
func TestResizeBelowUsage(t *testing.T) {
	memory := func(mebi int64) v1.ResourceRequirements {
		list := v1.ResourceList{v1.ResourceMemory: *resource.NewQuantity(mebi<<20, resource.BinarySI)}
		return v1.ResourceRequirements{Requests: list, Limits: list}
	}
	h := start(t, critest.New("img:1"), newPod("a", func(p *v1.Pod) { p.Spec.Containers[0].Resources = memory(100) }))
	pod := h.wait("a", "ready", ready)
	used := h.runtime.ContainerNamed("c").Status.Id
	stats, err := h.runtime.ContainerStats(t.Context(), used)
	if err != nil {
		t.Fatal(err)
	}
	usage := int64(stats.Memory.UsageBytes.Value) >> 20
	resize := func(mebi, generation int64) {
		pod.Generation, pod.Spec.Containers[0].Resources = generation, memory(mebi)
		if pod, err = h.client.CoreV1().Pods("ns").Update(context.Background(), pod, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	resize(usage-1, 2)
	why := fmt.Sprintf(`attempting to set container "c" memory limit (%d) below current usage (%d)`, (usage-1)<<20, usage<<20)
	pod = h.wait("a", "told why", func(p *v1.Pod) bool {
		return slices.ContainsFunc(p.Status.Conditions, func(c v1.PodCondition) bool {
			return c.Type == v1.PodResizeInProgress && c.Reason == v1.PodReasonError && strings.Contains(c.Message, why)
		})
	})
	if got := h.runtime.ContainerNamed("c").Status.Resources.GetLinux().GetMemoryLimitInBytes(); got != 100<<20 {
		t.Errorf("the container's limit is %d, want what it was, %d", got, 100<<20)
	}
	resize(usage+1, 3)
	h.event("Normal ResizeCompleted ")
	if got := h.runtime.ContainerNamed("c").Status.Resources.GetLinux().GetMemoryLimitInBytes(); got != (usage+1)<<20 {
		t.Errorf("the container's limit is %d, want %d", got, (usage+1)<<20)
	}
}

// The pod's own limits follow what its containers have by the kubelet's own status,
// also downwards.
//
// Covers: node.resize
func TestCounted(t *testing.T) {
	memory := func(mebi int64) *v1.ResourceRequirements {
		list := v1.ResourceList{v1.ResourceMemory: *resource.NewQuantity(mebi<<20, resource.BinarySI)}
		return &v1.ResourceRequirements{Requests: list, Limits: list}
	}
	pod := newPod("a")
	pod.Spec.Containers[0].Resources = *memory(30)
	status := func(r *v1.ResourceRequirements) v1.PodStatus {
		return v1.PodStatus{ContainerStatuses: []v1.ContainerStatus{{Name: pod.Spec.Containers[0].Name, Resources: r, AllocatedResources: r.Requests}}}
	}
	before, after := status(memory(100)), status(memory(30))
	for _, tc := range []struct {
		name        string
		told, knows *v1.PodStatus
		want        int64
	}{
		{"the container shrinks", &before, &before, 100},
		{"it has shrunk, and the API server does not know", &before, &after, 30},
		{"it has grown, and the API server does not know", &after, &before, 100},
	} {
		t.Run(tc.name, func(t *testing.T) {
			pod.Status = *tc.told
			if got := resources.ForPod(counted(pod, tc.knows), resources.Settings{}, 0).Memory >> 20; got != tc.want {
				t.Errorf("the pod is limited to %d MiB, want %d", got, tc.want)
			}
			if pod.Status.ContainerStatuses[0].Resources != tc.told.ContainerStatuses[0].Resources {
				t.Error("the pod itself was changed")
			}
		})
	}
}

// event waits for an event with a type, a reason and the start of a message.
func (h *harness) event(want string) {
	h.t.Helper()
	var seen []string
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		list, err := h.client.CoreV1().Events("ns").List(context.Background(), metav1.ListOptions{})
		if err != nil {
			h.t.Fatal(err)
		}
		seen = nil
		for _, e := range list.Items {
			line := e.Type + " " + e.Reason + " " + e.Message
			if strings.HasPrefix(line, want) {
				return
			}
			seen = append(seen, line)
		}
	}
	h.t.Fatalf("no event %q among:\n%s", want, strings.Join(seen, "\n"))
}

// The pod's own resources are told beside those of its containers.
func TestResizeMessageOfPodResources(t *testing.T) {
	cpu := v1.ResourceList{v1.ResourceCPU: resource.MustParse("2")}
	pod := &v1.Pod{Spec: v1.PodSpec{Resources: &v1.ResourceRequirements{Requests: cpu}, Containers: []v1.Container{{Name: "c"}}}}
	const want = `Pod resize started: {"resources":{"requests":{"cpu":"2"}},"containers":[{"name":"c","resources":{}}],"generation":3}`
	if got := resizeMessage("started", pod, 3, ""); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
