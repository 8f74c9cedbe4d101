package noderestriction

import (
	"fmt"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"skiff/apiserver/admission"
)

// claimStatus lets a node say how large a claim's volume is, and how growing
// it goes, and nothing else.
func claimStatus(a *admission.Attributes, node string) error {
	if a.Operation != admission.Update {
		return fmt.Errorf("unexpected operation %q", a.Operation)
	}
	old, ok := a.OldObject.(*v1.PersistentVolumeClaim)
	claim, ok2 := a.Object.(*v1.PersistentVolumeClaim)
	if !ok || !ok2 {
		return fmt.Errorf("unexpected type %T", a.Object)
	}
	before, after := old.DeepCopy(), claim.DeepCopy()
	for _, c := range []*v1.PersistentVolumeClaim{before, after} {
		c.ResourceVersion, c.ManagedFields = "", nil
		c.Status.Capacity, c.Status.Conditions = nil, nil
		c.Status.AllocatedResources, c.Status.AllocatedResourceStatuses = nil, nil
	}
	if !equality.Semantic.DeepEqual(before, after) {
		return fmt.Errorf("node %q is not allowed to update fields other than status.capacity and status.conditions", node)
	}
	return nil
}
