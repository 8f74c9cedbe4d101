package localprovisioner

import (
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func TestGrowth(t *testing.T) {
	claim := func(phase v1.PersistentVolumeClaimPhase, want, has string) *v1.PersistentVolumeClaim {
		c := &v1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{UID: "uid"}}
		c.Spec.Resources.Requests = v1.ResourceList{v1.ResourceStorage: resource.MustParse(want)}
		c.Status = v1.PersistentVolumeClaimStatus{Phase: phase, Capacity: v1.ResourceList{v1.ResourceStorage: resource.MustParse(has)}}
		return c
	}
	of := func(uid types.UID) *v1.PersistentVolume {
		return &v1.PersistentVolume{Spec: v1.PersistentVolumeSpec{ClaimRef: &v1.ObjectReference{UID: uid}}}
	}
	for name, tc := range map[string]struct {
		claim  *v1.PersistentVolumeClaim
		volume *v1.PersistentVolume
		want   bool
	}{
		"larger":           {claim(v1.ClaimBound, "2Gi", "1Gi"), of("uid"), true},
		"as it is":         {claim(v1.ClaimBound, "1Gi", "1Gi"), of("uid"), false},
		"smaller":          {claim(v1.ClaimBound, "1Gi", "2Gi"), of("uid"), false},
		"not bound":        {claim(v1.ClaimPending, "2Gi", "1Gi"), of("uid"), false},
		"another's volume": {claim(v1.ClaimBound, "2Gi", "1Gi"), of("other"), false},
		"a free volume":    {claim(v1.ClaimBound, "2Gi", "1Gi"), &v1.PersistentVolume{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			if _, got := Growth(tc.claim, tc.volume); got != tc.want {
				t.Errorf("grows: %v, want %v", got, tc.want)
			}
		})
	}
}
