package conformance

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
)

// A container whose policy wants it is started again for new resources, whether
// the kernel knows of them or not, and another is not.
//
// Covers: node.resize
func TestNodeResizeRestarts(t *testing.T) {
	from := []nodeAmounts{{"20m/35Mi", "30m/45Mi"}}
	tests := map[string]struct {
		to       nodeAmounts
		restarts int32
	}{
		"cpu":            {nodeAmounts{"25m/35Mi", "35m/45Mi"}, 0},
		"memory limit":   {nodeAmounts{"20m/35Mi", "30m/50Mi"}, 1},
		"memory request": {nodeAmounts{"20m/40Mi", "30m/45Mi"}, 1},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := parallel(t)
			s.ready(nodeResizePod(from, corev1.RestartContainer))
			nodeResized(s, from, 0)
			to := []nodeAmounts{tt.to}
			nodeResize(s, from, to, corev1.RestartContainer)
			nodeResized(s, to, tt.restarts)
			if tt.restarts > 0 {
				nodeHasEvent(s, "pod", "Killing", "Container c1 resize requires restart")
			}
			nodeResize(s, to, from, corev1.RestartContainer)
			nodeResized(s, from, 2*tt.restarts)
		})
	}
}

func TestNodeResizeSidecar(t *testing.T) {
	s := parallel(t)
	amounts := []nodeAmounts{{"20m/35Mi", "30m/45Mi"}}
	p := nodeResizePod(amounts, "")
	side := p.Spec.Containers[0]
	side.Name, side.RestartPolicy = "side", ptr.To(corev1.ContainerRestartPolicyAlways)
	p.Spec.InitContainers = []corev1.Container{side}
	s.ready(p)
	_, err := s.client.CoreV1().Pods(s.name).Patch(s.ctx, "pod", types.StrategicMergePatchType,
		[]byte(`{"spec":{"initContainers":[{"name":"side","resources":{"requests":{"cpu":"25m"},"limits":{"cpu":"40m","memory":"50Mi"}}}]}}`), metav1.PatchOptions{}, "resize")
	s.must(err)
	want := nodeAmounts{"25m/35Mi", "40m/50Mi"}
	s.podIs("pod", "resized", func(p *corev1.Pod) bool {
		c := nodeStatus(p, "side")
		return c.Resources != nil && nodeSame(*c.Resources, want.resources()) && c.RestartCount == 0
	})
	if out := strings.TrimSpace(s.mustExec("pod", "side", "sh", "-c", "cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us || cut -d' ' -f1 /sys/fs/cgroup/cpu.max")); out != "4000" {
		t.Errorf("the side-car's quota is %s", out)
	}
}

// nodePending waits until the node does not resize a pod, and checks that the
// pod keeps what it has.
func nodePending(s *space, reason, message string, has nodeAmounts) {
	s.t.Helper()
	s.podIs("pod", "waiting to be resized: "+reason, func(p *corev1.Pod) bool {
		for _, c := range p.Status.Conditions {
			if c.Type == corev1.PodResizePending && c.Status == corev1.ConditionTrue && c.Reason == reason && strings.HasPrefix(c.Message, message) {
				return p.Status.ObservedGeneration == p.Generation
			}
		}
		return false
	})
	p, err := s.client.CoreV1().Pods(s.name).Get(s.ctx, "pod", metav1.GetOptions{})
	s.must(err)
	c := p.Status.ContainerStatuses[0]
	if r := has.resources(); !nodeSame(*c.Resources, r) || c.AllocatedResources.Cpu().Cmp(*r.Requests.Cpu()) != 0 {
		s.t.Errorf("the pod has %+v and is given %v, want %+v", c.Resources, c.AllocatedResources, has)
	}
	nodeCgroup(s, p, 0, has)
}

// A resize that the node has no room for waits until it has, and one that it can
// never have is told so; the pod runs on with what it has.
//
// Covers: node.resize
func TestNodeResizeWaits(t *testing.T) {
	s := alone(t)
	node, err := s.client.CoreV1().Nodes().Get(s.ctx, nodeName(s), metav1.GetOptions{})
	s.must(err)
	cpu := node.Status.Allocatable.Cpu().MilliValue()
	of := func(percent int64) nodeAmounts { return nodeAmounts{requests: fmt.Sprintf("%dm", cpu*percent/100)} }
	other := nodeResizePod([]nodeAmounts{of(50)}, "")
	other.Name, other.Spec.NodeName = "other", node.Name
	s.ready(other)
	small, large, huge := of(10), of(70), of(1000)
	p := nodeResizePod([]nodeAmounts{small}, "")
	p.Spec.NodeName = node.Name
	s.ready(p)
	nodeResize(s, []nodeAmounts{small}, []nodeAmounts{huge}, "")
	nodePending(s, corev1.PodReasonInfeasible, "Node didn't have enough capacity: cpu, requested: ", small)
	nodeResize(s, []nodeAmounts{huge}, []nodeAmounts{large}, "")
	nodePending(s, corev1.PodReasonDeferred, "Node didn't have enough resource: cpu, requested: ", small)
	nodeRemove(s, "other")
	nodeResized(s, []nodeAmounts{large}, 0)
}
