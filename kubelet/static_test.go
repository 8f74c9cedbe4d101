package kubelet

import (
	"os"
	"path/filepath"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"

	"skiff/kubelet/critest"
	"skiff/kubelet/status"
)

// A static pod whose manifest changes ends, and another with the same name runs.
//
// Covers: node.static
func TestStaticPodChanges(t *testing.T) {
	dir := t.TempDir()
	write := func(command string) {
		t.Helper()
		manifest := "apiVersion: v1\nkind: Pod\nmetadata: {name: s, namespace: ns}\nspec: {containers: [{name: c, image: 'img:1', command: [" + command + "]}]}\n"
		if err := os.WriteFile(filepath.Join(dir, "s.yaml"), []byte(manifest), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("before")
	h := startWith(t, critest.New("img:1"), func(c *Config) { c.Paths.Manifests = dir })
	h.wait("s-n1", "running", running("before"))
	write("after")
	h.wait("s-n1", "running anew", running("after"))
}

func running(command string) func(*v1.Pod) bool {
	return func(p *v1.Pod) bool {
		return p != nil && p.Spec.Containers[0].Command[0] == command && p.Status.Phase == v1.PodRunning
	}
}

// How a pod of the manifest as it was before ended is not how its successor is.
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
