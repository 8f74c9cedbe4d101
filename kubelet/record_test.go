package kubelet

import (
	"testing"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// A step that ends a pod is begun anew, and its containers told again, only where the
// pod has less time than before.
func TestShortened(t *testing.T) {
	pod := func(grace *int64) *v1.Pod {
		p := newPod("a")
		if grace != nil {
			p.DeletionTimestamp, p.DeletionGracePeriodSeconds = ptr.To(metav1.Now()), grace
		}
		return p
	}
	for _, tc := range []struct {
		name     string
		old, now *int64
		want     bool
	}{
		{"not deleted", nil, nil, false},
		{"deleted", nil, ptr.To[int64](30), true},
		{"deleted at once", nil, ptr.To[int64](0), true},
		{"the same again", ptr.To[int64](30), ptr.To[int64](30), false},
		{"at once, again", ptr.To[int64](0), ptr.To[int64](0), false},
		{"less time", ptr.To[int64](30), ptr.To[int64](0), true},
		{"more time", ptr.To[int64](1), ptr.To[int64](30), false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := shortened(pod(tc.old), pod(tc.now)); got != tc.want {
				t.Errorf("got %v, want %v", got, tc.want)
			}
		})
	}
}
