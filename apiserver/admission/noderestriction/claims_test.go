package noderestriction

import (
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authentication/user"

	"skiff/apiserver/admission"
)

func TestClaims(t *testing.T) {
	for _, tc := range []struct {
		name, sub string
		operation admission.Operation
		change    func(*v1.PersistentVolumeClaim)
		want      string
	}{
		{"a new size", "status", admission.Update, func(c *v1.PersistentVolumeClaim) {
			c.Status.Capacity = v1.ResourceList{v1.ResourceStorage: resource.MustParse("2Gi")}
			c.Status.Conditions = []v1.PersistentVolumeClaimCondition{{Type: v1.PersistentVolumeClaimNodeResizeError}}
			c.Status.AllocatedResourceStatuses = map[v1.ResourceName]v1.ClaimResourceStatus{v1.ResourceStorage: v1.PersistentVolumeClaimNodeResizeInProgress}
			c.ResourceVersion = "2"
		}, ""},
		{"another phase", "status", admission.Update, func(c *v1.PersistentVolumeClaim) { c.Status.Phase = v1.ClaimLost },
			`node "n" is not allowed to update fields other than status.capacity and status.conditions`},
		{"another volume", "status", admission.Update, func(c *v1.PersistentVolumeClaim) { c.Spec.VolumeName = "x" },
			`node "n" is not allowed to update fields other than status.capacity and status.conditions`},
		{"the claim itself", "", admission.Update, func(*v1.PersistentVolumeClaim) {}, "may only update PVC status"},
		{"deleting it", "", admission.Delete, func(*v1.PersistentVolumeClaim) {}, "may only update PVC status"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			old, claim := &v1.PersistentVolumeClaim{}, &v1.PersistentVolumeClaim{}
			tc.change(claim)
			a := &admission.Attributes{
				Operation: tc.operation, Subresource: tc.sub, Object: claim, OldObject: old, Name: "c", Namespace: "ns",
				Resource: schema.GroupVersionResource{Version: "v1", Resource: "persistentvolumeclaims"},
				User:     &user.DefaultInfo{Name: "system:node:n", Groups: []string{user.NodesGroup}},
			}
			err := (&Plugin{}).Admit(t.Context(), a)
			if tc.want == "" {
				if err != nil {
					t.Errorf("refused: %v", err)
				}
				return
			}
			if want := `persistentvolumeclaims "c" is forbidden: ` + tc.want; err == nil || err.Error() != want {
				t.Errorf("got %v, want %s", err, want)
			}
		})
	}
}
