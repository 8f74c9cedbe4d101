package core

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A gated pod says since when it is: since it was made.
func TestGatedPodSaysSinceWhen(t *testing.T) {
	made := metav1.NewTime(time.Unix(1_700_000_000, 0))
	pod := testPod(func(p *corev1.Pod) {
		p.CreationTimestamp = made
		p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "a"}}
	})
	preparePodCreate(t.Context(), pod)
	if c := pod.Status.Conditions; len(c) != 1 || c[0].Type != corev1.PodScheduled || !c[0].LastTransitionTime.Equal(&made) {
		t.Errorf("conditions %+v", c)
	}
}
