package kubelet

import (
	"context"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"skiff/kubelet/critest"
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
