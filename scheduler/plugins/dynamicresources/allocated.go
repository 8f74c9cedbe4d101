package dynamicresources

import (
	resourceapi "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/dynamic-resource-allocation/structured"
	"k8s.io/utils/ptr"
)

// allocated sums up what claims have. Access for administration takes nothing
// away from others.
func allocated(claims []*resourceapi.ResourceClaim) structured.AllocatedState {
	out := structured.AllocatedState{
		AllocatedDevices:         sets.New[structured.DeviceID](),
		AllocatedSharedDeviceIDs: sets.New[structured.SharedDeviceID](),
		AggregatedCapacity:       structured.NewConsumedCapacityCollection(),
	}
	for _, claim := range claims {
		if claim.Status.Allocation == nil {
			continue
		}
		for _, r := range claim.Status.Allocation.Devices.Results {
			if ptr.Deref(r.AdminAccess, false) {
				continue
			}
			id := structured.MakeDeviceID(r.Driver, r.Pool, r.Device)
			if r.ShareID == nil {
				out.AllocatedDevices.Insert(id)
				continue
			}
			out.AllocatedSharedDeviceIDs.Insert(structured.MakeSharedDeviceID(id, r.ShareID))
			if len(r.ConsumedCapacity) > 0 {
				out.AggregatedCapacity.Insert(structured.NewDeviceConsumedCapacity(id, r.ConsumedCapacity))
			}
		}
	}
	return out
}

// tainted lays the taints of rules over the devices that they select.
func tainted(slices []*resourceapi.ResourceSlice, rules []*resourceapi.DeviceTaintRule) []*resourceapi.ResourceSlice {
	if len(rules) == 0 {
		return slices
	}
	out := make([]*resourceapi.ResourceSlice, 0, len(slices))
	for _, slice := range slices {
		var changed *resourceapi.ResourceSlice
		for i := range slice.Spec.Devices {
			for _, rule := range rules {
				if !selects(rule.Spec.DeviceSelector, slice.Spec.Driver, slice.Spec.Pool.Name, slice.Spec.Devices[i].Name) {
					continue
				}
				if changed == nil {
					changed = slice.DeepCopy()
				}
				changed.Spec.Devices[i].Taints = append(changed.Spec.Devices[i].Taints, rule.Spec.Taint)
			}
		}
		if changed == nil {
			changed = slice
		}
		out = append(out, changed)
	}
	return out
}

// selects tells whether a rule is about a device: what it does not name may be
// anything.
func selects(s *resourceapi.DeviceTaintSelector, driver, pool, device string) bool {
	return s != nil && ptr.Deref(s.Driver, driver) == driver && ptr.Deref(s.Pool, pool) == pool && ptr.Deref(s.Device, device) == device
}

func (p *Plugin) isPending(uid types.UID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pending[uid] != nil
}

func (p *Plugin) forget(uid types.UID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.pending, uid)
}

// settle forgets pending allocations that the cache shows or whose claims are
// gone, and returns the others. A claim that is to be made is forgotten by who
// makes it.
func (p *Plugin) settle(known []*resourceapi.ResourceClaim) []*resourceapi.ResourceClaim {
	now := make(map[types.UID]*resourceapi.ResourceClaim, len(known))
	for _, claim := range known {
		now[claim.UID] = claim
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []*resourceapi.ResourceClaim
	for uid, claim := range p.pending {
		if seen := now[uid]; claim.Name != unmade && (seen == nil || seen.Status.Allocation != nil) {
			delete(p.pending, uid)
			continue
		}
		out = append(out, claim)
	}
	return out
}
