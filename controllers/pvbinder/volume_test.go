package pvbinder

import (
	"testing"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	volumes "k8s.io/component-helpers/storage/volume"
)

func TestJudge(t *testing.T) {
	free := &v1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "v"}}
	of := func(uid types.UID, dynamic bool) *v1.PersistentVolume {
		v := free.DeepCopy()
		v.Spec.ClaimRef = &v1.ObjectReference{Namespace: "ns", Name: "c", UID: uid}
		if dynamic {
			v.Annotations = map[string]string{volumes.AnnDynamicallyProvisioned: "p"}
			v.Spec.PersistentVolumeReclaimPolicy = v1.PersistentVolumeReclaimDelete
		}
		return v
	}
	claim := func(uid types.UID, volume string) *v1.PersistentVolumeClaim {
		return &v1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{UID: uid}, Spec: v1.PersistentVolumeClaimSpec{VolumeName: volume}}
	}
	for name, tc := range map[string]struct {
		pv    *v1.PersistentVolume
		claim *v1.PersistentVolumeClaim
		want  Fate
	}{
		"free":                          {free, nil, Available},
		"reserved":                      {of("", false), nil, Available},
		"claim gone":                    {of("uid", false), nil, Released},
		"claim made anew":               {of("uid", false), claim("another", "v"), Released},
		"claim does not know yet":       {of("uid", false), claim("uid", ""), Waiting},
		"bound":                         {of("uid", false), claim("uid", "v"), Bound},
		"claim took another":            {of("uid", false), claim("uid", "w"), Unbind},
		"claim took another; its own":   {of("uid", true), claim("uid", "w"), Released},
		"made for a claim that is gone": {of("uid", true), nil, Released},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Judge(tc.pv, tc.claim); got != tc.want {
				t.Errorf("fate %d, want %d", got, tc.want)
			}
		})
	}
}
