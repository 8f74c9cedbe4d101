package kubelet

import (
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"

	"skiff/kubelet/status"
)

// How a pod of the manifest as it was before ended is not how its successor is.
//
// Covers: node.static
func TestStatusOfAnotherMirror(t *testing.T) {
	statuses, err := status.NewManager(status.Config{
		Client: fake.NewClientset(), Pod: func(types.UID) *v1.Pod { return nil }, Deletable: func(types.UID) bool { return false },
	})
	if err != nil {
		t.Fatal(err)
	}
	k := &Kubelet{status: statuses}
	for hash, want := range map[string]v1.PodPhase{"old": v1.PodFailed, "new": v1.PodPending} {
		r := &record{static: true, pod: newPod("a"), mirror: newPod("a")}
		r.pod.Annotations, r.pod.Status.Phase = map[string]string{annotationHash: hash}, v1.PodPending
		r.mirror.Annotations, r.mirror.Status.Phase = map[string]string{v1.MirrorPodAnnotationKey: "old"}, v1.PodFailed
		if got := k.oldStatus(r).Phase; got != want {
			t.Errorf("a pod with the hash %q was %s, want %s", hash, got, want)
		}
	}
}
