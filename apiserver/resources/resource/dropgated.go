package resource

import v1 "k8s.io/api/resource/v1"

// dropSlice drops the fields of features that are off, as unknown ones would be. A
// slice that has any of them keeps what it is given.
func dropSlice(o, old *v1.ResourceSlice) {
	if old != nil && usesGated(old) {
		return
	}
	o.Spec.PartitionTypeAttribute = nil
	for i := range o.Spec.Devices {
		d := &o.Spec.Devices[i]
		for j := range d.ConsumesCounters {
			d.ConsumesCounters[j].CompatibilityGroups = nil
		}
		for name, a := range d.Attributes {
			a.IntValues, a.BoolValues, a.StringValues, a.VersionValues = nil, nil, nil, nil
			d.Attributes[name] = a
		}
	}
}

func usesGated(o *v1.ResourceSlice) bool {
	if o.Spec.PartitionTypeAttribute != nil {
		return true
	}
	for _, d := range o.Spec.Devices {
		for _, c := range d.ConsumesCounters {
			if len(c.CompatibilityGroups) > 0 {
				return true
			}
		}
		for _, a := range d.Attributes {
			if a.IntValues != nil || a.BoolValues != nil || a.StringValues != nil || a.VersionValues != nil {
				return true
			}
		}
	}
	return false
}

// dropClaim is the same for the spec of a claim; old is nil for a new one.
func dropClaim(s, old *v1.ResourceClaimSpec) {
	if old != nil && derives(old) {
		return
	}
	for i := range s.Devices.Requests {
		r := &s.Devices.Requests[i]
		if r.Exactly != nil {
			r.Exactly.DerivedAttributes = nil
		}
		for j := range r.FirstAvailable {
			r.FirstAvailable[j].DerivedAttributes = nil
		}
	}
}

func derives(s *v1.ResourceClaimSpec) bool {
	for _, r := range s.Devices.Requests {
		if r.Exactly != nil && r.Exactly.DerivedAttributes != nil {
			return true
		}
		for _, f := range r.FirstAvailable {
			if f.DerivedAttributes != nil {
				return true
			}
		}
	}
	return false
}
