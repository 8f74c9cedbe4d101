package kubelet

import (
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clienttesting "k8s.io/client-go/testing"

	"skiff/kubelet/critest"
)

// The scheduler may know a label of the node before the kubelet's watch tells of it.
// The pod that it sends is taken nevertheless: a refusal would be for good.
func TestLabelThatTheWatchHasNotTold(t *testing.T) {
	h := start(t, critest.New("img:1"), newPod("a"))
	h.wait("a", "ready", ready)
	h.client.PrependReactor("get", "nodes", func(clienttesting.Action) (bool, runtime.Object, error) {
		node, err := h.client.Tracker().Get(v1.SchemeGroupVersion.WithResource("nodes"), "", "n1")
		if err != nil {
			return true, nil, err
		}
		node = node.DeepCopyObject()
		node.(*v1.Node).Labels["fresh"] = "yes"
		return true, node, nil
	})
	pod := newPod("b")
	pod.Spec.NodeSelector = map[string]string{"fresh": "yes"}
	h.create(pod)
	h.wait("b", "ready", ready)
}
