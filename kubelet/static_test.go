package kubelet

import (
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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

// A mirror that was deleted does not come again at once: kubectl, which waits for its
// end, would take the next one for it.
//
// Covers: node.static
func TestNextOfMirror(t *testing.T) {
	now := time.Now()
	for name, tc := range map[string]struct {
		hash   string // of the mirror; empty for no mirror
		leaves bool
		gone   time.Time
		want   mirrorStep
	}{
		"none yet":           {want: mirrorComes},
		"as it is to be":     {hash: "new", want: mirrorStays},
		"of another content": {hash: "old", want: mirrorGoes},
		"deleted by a user":  {hash: "new", leaves: true, want: mirrorGoes},
		"gone just now":      {gone: now.Add(-mirrorPause / 2), want: mirrorStays},
		"gone for a while":   {gone: now.Add(-mirrorPause), want: mirrorComes},
	} {
		t.Run(name, func(t *testing.T) {
			r := &record{static: true, pod: newPod("a"), mirrorGone: tc.gone}
			r.pod.Annotations = map[string]string{annotationHash: "new"}
			if tc.hash != "" {
				r.mirror = newPod("a")
				r.mirror.Annotations = map[string]string{v1.MirrorPodAnnotationKey: tc.hash}
			}
			if tc.leaves {
				r.mirror.DeletionTimestamp = &metav1.Time{Time: now}
			}
			if got := nextOfMirror(r, now); got != tc.want {
				t.Errorf("got %d, want %d", got, tc.want)
			}
		})
	}
}
