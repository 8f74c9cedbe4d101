package volumerestrictions

import (
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"

	"skiff/scheduler/framework"
)

type handle struct {
	framework.Handle
	factory informers.SharedInformerFactory
}

func (h handle) Informers() informers.SharedInformerFactory { return h.factory }

// A claim that is missing is this plugin's to tell of only where the pod names it:
// that of an ephemeral volume is being made, of which the binding of volumes tells.
func TestPreFilterOfMissingClaims(t *testing.T) {
	for _, tc := range []struct {
		name   string
		source v1.VolumeSource
		want   string
	}{
		{"none", v1.VolumeSource{EmptyDir: &v1.EmptyDirVolumeSource{}}, ""},
		{"named", v1.VolumeSource{PersistentVolumeClaim: &v1.PersistentVolumeClaimVolumeSource{ClaimName: "c"}}, `persistentvolumeclaim "c" not found`},
		{"ephemeral", v1.VolumeSource{Ephemeral: &v1.EphemeralVolumeSource{}}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p, err := New(nil, handle{factory: informers.NewSharedInformerFactory(fake.NewClientset(), 0)})
			if err != nil {
				t.Fatal(err)
			}
			pod := &framework.PodInfo{Pod: &v1.Pod{Spec: v1.PodSpec{Volumes: []v1.Volume{{Name: "v", VolumeSource: tc.source}}}}}
			pod.Pod.Namespace, pod.Pod.Name = "ns", "p"
			_, status := p.(*Plugin).PreFilter(t.Context(), framework.NewCycleState(), pod, nil)
			got := ""
			if !status.IsSuccess() && !status.IsSkip() {
				got = status.Message()
			}
			if got != tc.want {
				t.Errorf("it says %q, want %q", got, tc.want)
			}
		})
	}
}
