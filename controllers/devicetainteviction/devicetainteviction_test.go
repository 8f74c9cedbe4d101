package devicetainteviction

import (
	"testing"
	"time"

	resourceapi "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

func TestEnd(t *testing.T) {
	began := time.Unix(1700000000, 0)
	taint := func(effect resourceapi.DeviceTaintEffect) resourceapi.DeviceTaint {
		return resourceapi.DeviceTaint{Key: "broken", Value: "v", Effect: effect, TimeAdded: &metav1.Time{Time: began}}
	}
	slice := func(taints ...resourceapi.DeviceTaint) *resourceapi.ResourceSlice {
		return &resourceapi.ResourceSlice{Spec: resourceapi.ResourceSliceSpec{Driver: "d", Pool: resourceapi.ResourcePool{Name: "p"}, Devices: []resourceapi.Device{{Name: "x", Taints: taints}, {Name: "y"}}}}
	}
	rule := func(device string) *resourceapi.DeviceTaintRule {
		return &resourceapi.DeviceTaintRule{Spec: resourceapi.DeviceTaintRuleSpec{DeviceSelector: &resourceapi.DeviceTaintSelector{Device: &device}, Taint: taint(resourceapi.DeviceTaintEffectNoExecute)}}
	}
	exists := func(seconds *int64) resourceapi.DeviceToleration {
		return resourceapi.DeviceToleration{Operator: resourceapi.DeviceTolerationOpExists, Key: "broken", TolerationSeconds: seconds}
	}
	for _, tc := range []struct {
		name        string
		slice       *resourceapi.ResourceSlice
		rules       []*resourceapi.DeviceTaintRule
		tolerations []resourceapi.DeviceToleration
		after       time.Duration // negative: never
	}{
		{"no taint", slice(), nil, nil, -1},
		{"a taint of the driver", slice(taint(resourceapi.DeviceTaintEffectNoExecute)), nil, nil, 0},
		{"a taint that keeps new ones off", slice(taint(resourceapi.DeviceTaintEffectNoSchedule)), nil, nil, -1},
		{"a rule", slice(), []*resourceapi.DeviceTaintRule{rule("x")}, nil, 0},
		{"a rule for another device", slice(), []*resourceapi.DeviceTaintRule{rule("y")}, nil, -1},
		{"tolerated", slice(taint(resourceapi.DeviceTaintEffectNoExecute)), nil, []resourceapi.DeviceToleration{exists(nil)}, -1},
		{"tolerated for a minute", slice(taint(resourceapi.DeviceTaintEffectNoExecute)), nil, []resourceapi.DeviceToleration{exists(ptr.To[int64](60))}, time.Minute},
		{"another value tolerated", slice(taint(resourceapi.DeviceTaintEffectNoExecute)), nil, []resourceapi.DeviceToleration{{Operator: resourceapi.DeviceTolerationOpEqual, Key: "broken", Value: "w"}}, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := &resourceapi.AllocationResult{}
			a.Devices.Results = []resourceapi.DeviceRequestAllocationResult{{Driver: "d", Pool: "p", Device: "x", Tolerations: tc.tolerations}}
			end, evicts := End(a, []*resourceapi.ResourceSlice{tc.slice}, tc.rules)
			if evicts != (tc.after >= 0) || evicts && !end.Equal(began.Add(tc.after)) {
				t.Errorf("got %v, %t, want %v after %v", end, evicts, tc.after, began)
			}
		})
	}
}
