package resource

import (
	"testing"

	v1 "k8s.io/api/resource/v1"
	"k8s.io/utils/ptr"
)

// TestGatedFieldsAreDropped makes objects with fields of features that are off, and
// changes some that have them.
//
// Covers: api.validation
func TestGatedFieldsAreDropped(t *testing.T) {
	t.Run("slice", func(t *testing.T) {
		slice := func() *v1.ResourceSlice {
			return &v1.ResourceSlice{Spec: v1.ResourceSliceSpec{PartitionTypeAttribute: ptr.To(v1.FullyQualifiedName("a/b")), Devices: []v1.Device{{
				Attributes:       map[v1.QualifiedName]v1.DeviceAttribute{"a": {StringValue: ptr.To("s"), StringValues: []string{"s"}}},
				ConsumesCounters: []v1.DeviceCounterConsumption{{CounterSet: "c", CompatibilityGroups: []string{"g"}}},
			}}}}
		}
		made := slice()
		dropSlice(made, nil)
		if usesGated(made) || made.Spec.Devices[0].Attributes["a"].StringValue == nil {
			t.Errorf("a new slice has %+v", made.Spec)
		}
		kept := slice()
		dropSlice(kept, slice())
		if len(kept.Spec.Devices[0].ConsumesCounters[0].CompatibilityGroups) != 1 {
			t.Errorf("a slice that has them lost them: %+v", kept.Spec)
		}
	})
	t.Run("claim", func(t *testing.T) {
		claim := func() *v1.ResourceClaimSpec {
			derived := []v1.DeviceDerivedAttribute{{Name: "a/b"}}
			return &v1.ResourceClaimSpec{Devices: v1.DeviceClaim{Requests: []v1.DeviceRequest{
				{Exactly: &v1.ExactDeviceRequest{DerivedAttributes: derived}}, {FirstAvailable: []v1.DeviceSubRequest{{DerivedAttributes: derived}}},
			}}}
		}
		made := claim()
		dropClaim(made, nil)
		if derives(made) {
			t.Errorf("a new claim has %+v", made)
		}
		kept := claim()
		dropClaim(kept, claim())
		if !derives(kept) {
			t.Errorf("a claim that has them lost them: %+v", kept)
		}
	})
}
