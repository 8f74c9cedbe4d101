package kubelet

import (
	"context"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/utils/ptr"

	"skiff/kubelet/critest"
)

// What a pod that has ended wrote goes before a pod that runs has to, and its status
// stays.
// Covers: node.eviction
func TestReclaim(t *testing.T) {
	rt := critest.New("img:1")
	rt.Script = func(c *runtimeapi.ContainerConfig) critest.Process {
		if c.Metadata.Name == "done" {
			return critest.Process{Exit: ptr.To[int32](1)}
		}
		return critest.Process{}
	}
	h := start(t, rt, newPod("runs"), newPod("ended", func(p *v1.Pod) {
		p.Spec.RestartPolicy, p.Spec.Containers[0].Name = v1.RestartPolicyNever, "done"
	}))
	h.wait("runs", "ready", ready)
	failed := func(p *v1.Pod) bool {
		return p != nil && p.Status.Phase == v1.PodFailed && len(p.Status.ContainerStatuses) == 1 && p.Status.ContainerStatuses[0].State.Terminated != nil
	}
	h.wait("ended", "failed", failed)
	if err := wait.PollUntilContextTimeout(t.Context(), 10*time.Millisecond, 20*time.Second, true, func(context.Context) (bool, error) {
		return h.kubelet.deletable("uid-ended"), nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := h.kubelet.reclaim(t.Context()); err != nil {
		t.Fatal(err)
	}
	if rt.ContainerNamed("done") != nil {
		t.Error("what the pod that ended wrote is still there")
	}
	if rt.ContainerNamed("c") == nil {
		t.Errorf("a container that runs was removed: %s", strings.Join(rt.Calls(), "\n"))
	}
	h.wait("ended", "its status", failed)
}
