package dynamicresources

import (
	"testing"
	"time"

	resourceapi "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
)

func TestReady(t *testing.T) {
	const timeout = 10 * time.Minute
	began := time.Unix(1700000000, 0)
	says := func(device string, share *string, conditions ...metav1.Condition) resourceapi.AllocatedDeviceStatus {
		return resourceapi.AllocatedDeviceStatus{Driver: "d", Pool: "p", Device: device, ShareID: share, Conditions: conditions}
	}
	is := func(name string, status metav1.ConditionStatus) metav1.Condition {
		return metav1.Condition{Type: name, Status: status, Reason: "Why", Message: "text"}
	}
	for _, tc := range []struct {
		name   string
		share  *string
		says   []resourceapi.AllocatedDeviceStatus
		after  time.Duration
		ready  bool
		reason string
		lost   bool
	}{
		{name: "nothing said"},
		{name: "half of it", says: []resourceapi.AllocatedDeviceStatus{says("x", nil, is("Attached", "True"))}},
		{name: "all", says: []resourceapi.AllocatedDeviceStatus{says("x", nil, is("Attached", "True"), is("Ready", "True"))}, ready: true},
		{name: "all, of another device", says: []resourceapi.AllocatedDeviceStatus{says("y", nil, is("Attached", "True"), is("Ready", "True"))}},
		{name: "all, of another share", share: ptr.To("s1"), says: []resourceapi.AllocatedDeviceStatus{says("x", ptr.To("s2"), is("Attached", "True"), is("Ready", "True"))}},
		{name: "all, of the share", share: ptr.To("s1"), says: []resourceapi.AllocatedDeviceStatus{says("x", ptr.To("s1"), is("Attached", "True"), is("Ready", "True"))}, ready: true},
		{name: "not failed", says: []resourceapi.AllocatedDeviceStatus{says("x", nil, is("Broken", "False"))}},
		{name: "failed", says: []resourceapi.AllocatedDeviceStatus{says("x", nil, is("Attached", "True"), is("Ready", "True"), is("Broken", "True"))}, reason: `claim c binding failed: reason=Why, message="text"`, lost: true},
		{name: "within its time", after: timeout},
		{name: "late", after: timeout + time.Second, lost: true},
		{name: "late, and ready", after: timeout + time.Second, says: []resourceapi.AllocatedDeviceStatus{says("x", nil, is("Attached", "True"), is("Ready", "True"))}, ready: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			claim := &resourceapi.ResourceClaim{ObjectMeta: metav1.ObjectMeta{Name: "c"}}
			claim.Status.Devices = tc.says
			claim.Status.Allocation = &resourceapi.AllocationResult{AllocationTimestamp: &metav1.Time{Time: began}}
			claim.Status.Allocation.Devices.Results = []resourceapi.DeviceRequestAllocationResult{{Driver: "d", Pool: "p", Device: "plain"}, {
				Driver: "d", Pool: "p", Device: "x", ShareID: (*types.UID)(tc.share),
				BindingConditions: []string{"Attached", "Ready"}, BindingFailureConditions: []string{"Broken"},
			}}
			got, err := ready(claim)
			reason := ""
			if err != nil {
				reason = err.Error()
			}
			if got != tc.ready || reason != tc.reason {
				t.Errorf("ready: %t, %q, want %t, %q", got, reason, tc.ready, tc.reason)
			}
			if got := lost(claim, began.Add(tc.after), timeout); got != tc.lost {
				t.Errorf("lost: %t, want %t", got, tc.lost)
			}
		})
	}
	if plain := (&resourceapi.ResourceClaim{}); awaits(plain) || lost(plain, began, timeout) {
		t.Error("a claim that has nothing is waited for")
	}
}
