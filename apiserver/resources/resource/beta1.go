package resource

import (
	v1 "k8s.io/api/resource/v1"
	beta1 "k8s.io/api/resource/v1beta1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"skiff/apiserver/resources/convert"
)

// In the first beta a request had its one exact form inline, and a device was
// wrapped in a "basic" one.

func typeMeta(version, kind string) metav1.TypeMeta {
	return metav1.TypeMeta{APIVersion: v1.GroupName + "/" + version, Kind: kind}
}

func specToHub(out *v1.ResourceClaimSpec, in *beta1.ResourceClaimSpec) error {
	if err := convert.Fields(&out.Devices.Constraints, &in.Devices.Constraints); err != nil {
		return err
	}
	if err := convert.Fields(&out.Devices.Config, &in.Devices.Config); err != nil {
		return err
	}
	for i := range in.Devices.Requests {
		r := &in.Devices.Requests[i]
		to := v1.DeviceRequest{Name: r.Name}
		if err := convert.Fields(&to.FirstAvailable, &r.FirstAvailable); err != nil {
			return err
		}
		if r.DeviceClassName != "" || r.Selectors != nil || r.AllocationMode != "" || r.Count != 0 || r.AdminAccess != nil ||
			r.Tolerations != nil || r.Capacity != nil || r.DerivedAttributes != nil {
			exact := &v1.ExactDeviceRequest{DeviceClassName: r.DeviceClassName, AllocationMode: v1.DeviceAllocationMode(r.AllocationMode), Count: r.Count, AdminAccess: r.AdminAccess}
			for _, pair := range [][2]any{{&exact.Selectors, &r.Selectors}, {&exact.Tolerations, &r.Tolerations},
				{&exact.Capacity, &r.Capacity}, {&exact.DerivedAttributes, &r.DerivedAttributes}} {
				if err := convert.Fields(pair[0], pair[1]); err != nil {
					return err
				}
			}
			to.Exactly = exact
		}
		out.Devices.Requests = append(out.Devices.Requests, to)
	}
	return nil
}

func specFromHub(out *beta1.ResourceClaimSpec, in *v1.ResourceClaimSpec) error {
	if err := convert.Fields(&out.Devices.Constraints, &in.Devices.Constraints); err != nil {
		return err
	}
	if err := convert.Fields(&out.Devices.Config, &in.Devices.Config); err != nil {
		return err
	}
	for i := range in.Devices.Requests {
		r := &in.Devices.Requests[i]
		to := beta1.DeviceRequest{Name: r.Name}
		if err := convert.Fields(&to.FirstAvailable, &r.FirstAvailable); err != nil {
			return err
		}
		if e := r.Exactly; e != nil {
			to.DeviceClassName, to.AllocationMode, to.Count, to.AdminAccess = e.DeviceClassName, beta1.DeviceAllocationMode(e.AllocationMode), e.Count, e.AdminAccess
			for _, pair := range [][2]any{{&to.Selectors, &e.Selectors}, {&to.Tolerations, &e.Tolerations},
				{&to.Capacity, &e.Capacity}, {&to.DerivedAttributes, &e.DerivedAttributes}} {
				if err := convert.Fields(pair[0], pair[1]); err != nil {
					return err
				}
			}
		}
		out.Devices.Requests = append(out.Devices.Requests, to)
	}
	return nil
}

func sliceToHub(in *beta1.ResourceSlice) (*v1.ResourceSlice, error) {
	out := &v1.ResourceSlice{TypeMeta: typeMeta("v1", "ResourceSlice"), ObjectMeta: in.ObjectMeta}
	s := &in.Spec
	out.Spec = v1.ResourceSliceSpec{Driver: s.Driver, NodeSelector: s.NodeSelector, PerDeviceNodeSelection: s.PerDeviceNodeSelection}
	if s.NodeName != "" {
		out.Spec.NodeName = &s.NodeName
	}
	if s.AllNodes {
		out.Spec.AllNodes = &s.AllNodes
	}
	if err := convert.Fields(&out.Spec.Pool, &s.Pool); err != nil {
		return nil, err
	}
	for _, pair := range [][2]any{{&out.Spec.SharedCounters, &s.SharedCounters}, {&out.Spec.PartitionTypeAttribute, &s.PartitionTypeAttribute},
		{&out.Spec.SkipNodeOperations, &s.SkipNodeOperations}} {
		if err := convert.Fields(pair[0], pair[1]); err != nil {
			return nil, err
		}
	}
	if s.Devices != nil {
		out.Spec.Devices = make([]v1.Device, 0, len(s.Devices))
	}
	for i := range s.Devices {
		to := v1.Device{Name: s.Devices[i].Name}
		if b := s.Devices[i].Basic; b != nil {
			to.NodeName, to.NodeSelector, to.AllNodes = b.NodeName, b.NodeSelector, b.AllNodes
			to.BindsToNode, to.BindingConditions, to.BindingFailureConditions = b.BindsToNode, b.BindingConditions, b.BindingFailureConditions
			to.AllowMultipleAllocations = b.AllowMultipleAllocations
			for _, pair := range [][2]any{{&to.Attributes, &b.Attributes}, {&to.Capacity, &b.Capacity}, {&to.ConsumesCounters, &b.ConsumesCounters},
				{&to.Taints, &b.Taints}, {&to.NodeAllocatableResources, &b.NodeAllocatableResources}} {
				if err := convert.Fields(pair[0], pair[1]); err != nil {
					return nil, err
				}
			}
		}
		out.Spec.Devices = append(out.Spec.Devices, to)
	}
	return out, nil
}

func sliceFromHub(in *v1.ResourceSlice) (*beta1.ResourceSlice, error) {
	out := &beta1.ResourceSlice{TypeMeta: typeMeta("v1beta1", "ResourceSlice"), ObjectMeta: in.ObjectMeta}
	s := &in.Spec
	out.Spec = beta1.ResourceSliceSpec{Driver: s.Driver, NodeSelector: s.NodeSelector, PerDeviceNodeSelection: s.PerDeviceNodeSelection}
	if s.NodeName != nil {
		out.Spec.NodeName = *s.NodeName
	}
	if s.AllNodes != nil {
		out.Spec.AllNodes = *s.AllNodes
	}
	if err := convert.Fields(&out.Spec.Pool, &s.Pool); err != nil {
		return nil, err
	}
	for _, pair := range [][2]any{{&out.Spec.SharedCounters, &s.SharedCounters}, {&out.Spec.PartitionTypeAttribute, &s.PartitionTypeAttribute},
		{&out.Spec.SkipNodeOperations, &s.SkipNodeOperations}} {
		if err := convert.Fields(pair[0], pair[1]); err != nil {
			return nil, err
		}
	}
	if s.Devices != nil {
		out.Spec.Devices = make([]beta1.Device, 0, len(s.Devices))
	}
	for i := range s.Devices {
		d := &s.Devices[i]
		b := &beta1.BasicDevice{NodeName: d.NodeName, NodeSelector: d.NodeSelector, AllNodes: d.AllNodes, BindsToNode: d.BindsToNode,
			BindingConditions: d.BindingConditions, BindingFailureConditions: d.BindingFailureConditions, AllowMultipleAllocations: d.AllowMultipleAllocations}
		for _, pair := range [][2]any{{&b.Attributes, &d.Attributes}, {&b.Capacity, &d.Capacity}, {&b.ConsumesCounters, &d.ConsumesCounters},
			{&b.Taints, &d.Taints}, {&b.NodeAllocatableResources, &d.NodeAllocatableResources}} {
			if err := convert.Fields(pair[0], pair[1]); err != nil {
				return nil, err
			}
		}
		out.Spec.Devices = append(out.Spec.Devices, beta1.Device{Name: d.Name, Basic: b})
	}
	return out, nil
}
