package devicetainteviction

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	resourceapi "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
)

func TestReport(t *testing.T) {
	slice := &resourceapi.ResourceSlice{Spec: resourceapi.ResourceSliceSpec{Driver: "d", Pool: resourceapi.ResourcePool{Name: "p"}, Devices: []resourceapi.Device{{Name: "x"}, {Name: "y"}, {Name: "z"}}}}
	claim := func(namespace, device string, tolerates bool, pods ...string) *resourceapi.ResourceClaim {
		o := &resourceapi.ResourceClaim{ObjectMeta: metav1.ObjectMeta{Namespace: namespace}}
		r := resourceapi.DeviceRequestAllocationResult{Driver: "d", Pool: "p", Device: device}
		if tolerates {
			r.Tolerations = []resourceapi.DeviceToleration{{Operator: resourceapi.DeviceTolerationOpExists}}
		}
		o.Status.Allocation = &resourceapi.AllocationResult{Devices: resourceapi.DeviceAllocationResult{Results: []resourceapi.DeviceRequestAllocationResult{r}}}
		for _, p := range pods {
			o.Status.ReservedFor = append(o.Status.ReservedFor, resourceapi.ResourceClaimConsumerReference{Resource: "pods", Name: p, UID: types.UID(p)})
		}
		return o
	}
	// One pod has two of the devices, one has ended.
	claims := []*resourceapi.ResourceClaim{claim("a", "x", false, "1", "ended"), claim("a", "y", false, "1", "2"), claim("b", "z", false, "3"), claim("c", "z", true, "4"), {}}
	for _, tc := range []struct {
		name    string
		effect  resourceapi.DeviceTaintEffect
		device  *string
		evicted int
		want    metav1.Condition
	}{
		{name: "pods have to go", effect: "NoExecute", evicted: 1, want: metav1.Condition{Status: "True", Reason: "PodsPendingEviction", Message: "3 pods to be evicted in 2 namespaces. 1 pod evicted since starting the controller."}},
		{name: "of one device", effect: "NoExecute", device: ptr.To("z"), want: metav1.Condition{Status: "True", Reason: "PodsPendingEviction", Message: "1 pod to be evicted in 1 namespace. 0 pods evicted since starting the controller."}},
		{name: "they went", effect: "NoExecute", device: ptr.To("other"), evicted: 2, want: metav1.Condition{Status: "False", Reason: "Completed", Message: "2 pods evicted since starting the controller."}},
		{name: "what would be", effect: "None", want: metav1.Condition{Status: "False", Reason: "NoEffect", Message: "3 published devices selected. 3 allocated devices selected. 3 pods would be evicted in 2 namespaces if the effect was NoExecute. This information will not be updated again. Recreate the DeviceTaintRule to trigger an update."}},
		{name: "new pods alone", effect: "NoSchedule", want: metav1.Condition{Status: "False", Reason: "NotNeeded", Message: "The effect NoSchedule evicts no pods."}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			rule := &resourceapi.DeviceTaintRule{ObjectMeta: metav1.ObjectMeta{Generation: 7}}
			rule.Spec = resourceapi.DeviceTaintRuleSpec{DeviceSelector: &resourceapi.DeviceTaintSelector{Driver: ptr.To("d"), Device: tc.device}, Taint: resourceapi.DeviceTaint{Key: "k", Effect: tc.effect}}
			tc.want.Type, tc.want.ObservedGeneration = "EvictionInProgress", 7
			reach := Look(rule, []*resourceapi.ResourceSlice{slice}, claims, func(_, _ string, uid types.UID) bool { return uid != "ended" })
			if d := cmp.Diff(tc.want, Condition(rule, reach, tc.evicted)); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
			if rule.Spec.Taint.Effect != tc.effect {
				t.Error("the rule was changed")
			}
		})
	}
}
