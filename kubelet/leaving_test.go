package kubelet

import (
	"context"
	"slices"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	ktesting "k8s.io/client-go/testing"

	"skiff/kubelet/critest"
	"skiff/kubelet/podstate"
)

// held is a runtime whose containers end when they are let.
type held struct {
	*critest.Runtime
	stopping chan struct{}
	end      chan struct{}
}

func (r held) StopContainer(ctx context.Context, id string, timeout int64) error {
	select {
	case r.stopping <- struct{}{}:
	case <-r.end:
	}
	<-r.end
	return r.Runtime.StopContainer(ctx, id, timeout)
}

// watches waits until the kubelet watches its pods: the fake API server tells a watch
// nothing of what happened since the list before it.
func (h *harness) watches() {
	h.t.Helper()
	err := wait.PollUntilContextTimeout(h.t.Context(), 5*time.Millisecond, 20*time.Second, true, func(context.Context) (bool, error) {
		return slices.ContainsFunc(h.client.Actions(), func(a ktesting.Action) bool {
			w, ok := a.(ktesting.WatchAction)
			return ok && w.GetResource().Resource == "pods" && !w.GetWatchRestrictions().Fields.Empty()
		}), nil
	})
	if err != nil {
		h.t.Fatal("the kubelet watches no pods")
	}
}

// Who takes the place of a pod that was deleted without grace waits until that has
// ended; beside one that stays it is refused.
//
// Covers: node.lifecycle
func TestPlaceOfAForceDeletedPod(t *testing.T) {
	port := func(p *v1.Pod) { p.Spec.Containers[0].Ports = []v1.ContainerPort{{HostPort: 8080, ContainerPort: 80}} }
	rt := held{Runtime: critest.New("img:1"), stopping: make(chan struct{}), end: make(chan struct{})}
	h := startWith(t, rt.Runtime, func(c *Config) { c.Runtime = rt }, newPod("a", port))
	h.wait("a", "ready", ready)
	h.watches()
	next := func() verdict { return h.kubelet.admit(t.Context(), &record{pod: newPod("b", port)}, &podstate.Pod{}) }
	if got := next(); got != refused {
		t.Errorf("a pod without room beside one that stays: %v", got)
	}
	if err := h.client.CoreV1().Pods("ns").Delete(t.Context(), "a", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-rt.stopping:
	case <-time.After(20 * time.Second):
		t.Fatal("the deleted pod does not end")
	}
	if got := next(); got != waits {
		t.Errorf("a pod that takes the place of one that ends: %v", got)
	}
	close(rt.end)
	h.create(newPod("b", port))
	h.wait("b", "ready", ready)
}
