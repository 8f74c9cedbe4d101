package localprovisioner

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"skiff/controllers/localvolume"
)

func TestPlan(t *testing.T) {
	now := time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
	volume := func(name string, age time.Duration, phase v1.PersistentVolumePhase, policy v1.PersistentVolumeReclaimPolicy) *v1.PersistentVolume {
		v := &v1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.Time{Time: now.Add(-age)}}}
		v.Status.Phase, v.Spec.PersistentVolumeReclaimPolicy = phase, policy
		return v
	}
	all := []*v1.PersistentVolume{
		volume("young", 20*time.Second, v1.VolumeBound, v1.PersistentVolumeReclaimDelete),
		volume("old", time.Hour, v1.VolumeBound, v1.PersistentVolumeReclaimDelete),
		volume("kept", time.Hour, v1.VolumeReleased, v1.PersistentVolumeReclaimRetain),
		volume("done", time.Hour, v1.VolumeReleased, v1.PersistentVolumeReclaimDelete),
		volume("dirty", time.Hour, v1.VolumeReleased, v1.PersistentVolumeReclaimDelete),
	}
	node := &v1.Node{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{localvolume.Reclaimed: "done"}}}
	for name, tc := range map[string]struct {
		node *v1.Node
		want Wishes
	}{
		"node":      {node, Wishes{Make: []string{"young"}, Reclaim: []string{"done", "dirty"}, Gone: []string{"done"}, Again: 40 * time.Second}},
		"node gone": {nil, Wishes{Make: []string{"young"}, Gone: []string{"done", "dirty"}, Again: 40 * time.Second}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, Plan(all, tc.node, now)); diff != "" {
				t.Error(diff)
			}
		})
	}
}
