package kubelet

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"skiff/kubelet/critest"
	"skiff/kubelet/shutdown"
)

func TestShutdownEndsPodsInOrder(t *testing.T) {
	const grace = 60 // more than the groups have
	named := func(container string, priority int32) func(*v1.Pod) {
		return func(p *v1.Pod) {
			p.Spec.Containers[0].Name, p.Spec.Priority, p.Spec.TerminationGracePeriodSeconds = container, &priority, ptr.To[int64](grace)
		}
	}
	h := start(t, critest.New("img:1"), newPod("system", named("system", 2_000_000_000)), newPod("web", named("web", 0)))
	h.wait("system", "ready", ready)
	h.wait("web", "ready", ready)
	groups := []shutdown.Group{{Priority: 0, Time: 20 * time.Second}, {Priority: 2_000_000_000, Time: 10 * time.Second}}
	h.kubelet.endForShutdown(t.Context(), groups)

	var stops []string
	for _, c := range h.runtime.Calls() {
		if strings.HasPrefix(c, "StopContainer ") {
			stops = append(stops, c)
		}
	}
	if want := []string{"StopContainer web 20", "StopContainer system 10"}; !slices.Equal(stops, want) {
		t.Errorf("calls %q, want %q", stops, want)
	}
	const message = "Pod was terminated in response to imminent node shutdown."
	for _, name := range []string{"web", "system"} {
		p := h.wait(name, "failed", func(p *v1.Pod) bool { return p != nil && p.Status.Phase == v1.PodFailed })
		if p.Status.Reason != "Terminated" || p.Status.Message != message || !conditionTrue(p, v1.DisruptionTarget) {
			t.Errorf("%s: reason %q, message %q, conditions %+v", name, p.Status.Reason, p.Status.Message, p.Status.Conditions)
		}
	}
	h.create(newPod("late"))
	p := h.wait("late", "refused", func(p *v1.Pod) bool { return p != nil && p.Status.Phase == v1.PodFailed })
	if p.Status.Reason != "NodeShutdown" || p.Status.Message != "Pod was rejected: Pod was rejected as the node is shutting down." {
		t.Errorf("late pod: reason %q, message %q", p.Status.Reason, p.Status.Message)
	}
	h.nodeReady(v1.ConditionFalse, "node is shutting down")
	// A shutdown that is called off.
	h.kubelet.setShutdown(false)
	h.nodeReady(v1.ConditionTrue, "")
	h.create(newPod("later"))
	h.wait("later", "ready", ready)
}

// nodeReady waits for the node's Ready condition and a part of its message.
func (h *harness) nodeReady(want v1.ConditionStatus, message string) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		n, err := h.client.CoreV1().Nodes().Get(ctx, "n1", metav1.GetOptions{})
		if err == nil && slices.ContainsFunc(n.Status.Conditions, func(c v1.NodeCondition) bool {
			return c.Type == v1.NodeReady && c.Status == want && strings.Contains(c.Message, message)
		}) {
			return
		}
		select {
		case <-ctx.Done():
			h.t.Fatalf("the node is not Ready=%s with %q: %v", want, message, n.Status.Conditions)
		case <-tick.C:
		}
	}
}
