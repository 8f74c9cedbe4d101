package resource

import (
	"time"

	v1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func defaultClaim(o *v1.ResourceClaim) {
	defaultRequests(o.Spec.Devices.Requests)
	if a := o.Status.Allocation; a != nil {
		for i := range a.Devices.Results {
			defaultTolerations(a.Devices.Results[i].Tolerations)
		}
	}
}

func defaultTemplate(o *v1.ResourceClaimTemplate) { defaultRequests(o.Spec.Spec.Devices.Requests) }

// defaultRequests asks for exactly one device where nothing is said.
func defaultRequests(list []v1.DeviceRequest) {
	fill := func(mode *v1.DeviceAllocationMode, count *int64, tolerations []v1.DeviceToleration) {
		if *mode == "" {
			*mode = v1.DeviceAllocationModeExactCount
		}
		if *mode == v1.DeviceAllocationModeExactCount && *count == 0 {
			*count = 1
		}
		defaultTolerations(tolerations)
	}
	for i := range list {
		if e := list[i].Exactly; e != nil {
			fill(&e.AllocationMode, &e.Count, e.Tolerations)
		}
		for j := range list[i].FirstAvailable {
			s := &list[i].FirstAvailable[j]
			fill(&s.AllocationMode, &s.Count, s.Tolerations)
		}
	}
}

func defaultTolerations(list []v1.DeviceToleration) {
	for i := range list {
		if list[i].Operator == "" {
			list[i].Operator = v1.DeviceTolerationOpEqual
		}
	}
}

func defaultSlice(o *v1.ResourceSlice) {
	for i := range o.Spec.Devices {
		for j := range o.Spec.Devices[i].Taints {
			stampTaint(&o.Spec.Devices[i].Taints[j])
		}
	}
}

func defaultTaintRule(o *v1.DeviceTaintRule) { stampTaint(&o.Spec.Taint) }

func stampTaint(t *v1.DeviceTaint) {
	if t.TimeAdded == nil {
		t.TimeAdded = &metav1.Time{Time: time.Now().Truncate(time.Second)}
	}
}
