package dynamicresources

import (
	"context"
	"errors"
	"fmt"
	"time"

	v1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	"k8s.io/utils/ptr"
)

// awaits tells whether pods must wait for devices of the claim (KEP-5007).
func awaits(claim *resourceapi.ResourceClaim) bool {
	if claim.Status.Allocation == nil {
		return false
	}
	for _, r := range claim.Status.Allocation.Devices.Results {
		if len(r.BindingConditions) > 0 {
			return true
		}
	}
	return false
}

// ready tells whether all devices of an allocated claim are prepared for being
// used on the node. The error is of a device that never will be.
func ready(claim *resourceapi.ResourceClaim) (bool, error) {
	all := true
	for i := range claim.Status.Allocation.Devices.Results {
		r := &claim.Status.Allocation.Devices.Results[i]
		if len(r.BindingConditions) == 0 {
			continue
		}
		status := statusOf(claim, r)
		if status == nil {
			all = false
			continue
		}
		for _, name := range r.BindingFailureConditions {
			if c := meta.FindStatusCondition(status.Conditions, name); c != nil && c.Status == metav1.ConditionTrue {
				return false, fmt.Errorf("claim %s binding failed: reason=%s, message=%q", claim.Name, c.Reason, c.Message)
			}
		}
		for _, name := range r.BindingConditions {
			all = all && meta.IsStatusConditionTrue(status.Conditions, name)
		}
	}
	return all, nil
}

// statusOf is what the driver says of an allocated device, nil for nothing yet.
func statusOf(claim *resourceapi.ResourceClaim, r *resourceapi.DeviceRequestAllocationResult) *resourceapi.AllocatedDeviceStatus {
	for i := range claim.Status.Devices {
		d := &claim.Status.Devices[i]
		if d.Driver == r.Driver && d.Pool == r.Pool && d.Device == r.Device && ptr.Deref(d.ShareID, "") == string(ptr.Deref(r.ShareID, "")) {
			return d
		}
	}
	return nil
}

// lost tells whether the allocation of a claim is to be given back: a device
// failed, or had its time.
func lost(claim *resourceapi.ResourceClaim, now time.Time, timeout time.Duration) bool {
	if !awaits(claim) {
		return false
	}
	ok, err := ready(claim)
	if ok || err != nil {
		return err != nil
	}
	began := claim.Status.Allocation.AllocationTimestamp
	return began != nil && began.Add(timeout).Before(now)
}

// await returns when the devices of the claims are ready, else with the claims
// that are not.
func (p *Plugin) await(ctx context.Context, pod *v1.Pod, node string, claims []*resourceapi.ResourceClaim) (unready []*resourceapi.ResourceClaim, err error) {
	for _, claim := range claims {
		if awaits(claim) {
			unready = append(unready, claim)
		}
	}
	if len(unready) == 0 {
		return nil, nil
	}
	p.handle.Recorder().Eventf(pod, nil, v1.EventTypeNormal, "BindingConditionsPending", "Scheduling", "waiting for binding conditions for device on node %s", node)
	waiting, allocated := unready, map[types.UID]bool{}
	err = p.until(ctx, p.bindingTimeout, func() (bool, error) {
		unready = nil
		var failures error
		for _, claim := range waiting {
			ok, err := p.isReady(claim, allocated)
			if !ok {
				unready = append(unready, claim)
			}
			failures = errors.Join(failures, err)
		}
		return len(unready) == 0, failures
	})
	if errors.Is(err, context.DeadlineExceeded) {
		err = errors.New("device binding timeout")
	}
	return unready, err
}

// isReady looks at the claim in the cache, which may be late with the allocation
// until it was there once.
func (p *Plugin) isReady(claim *resourceapi.ResourceClaim, allocated map[types.UID]bool) (bool, error) {
	now, err := p.claims.ResourceClaims(claim.Namespace).Get(claim.Name)
	switch {
	case err != nil && !apierrors.IsNotFound(err):
		return false, err
	case err == nil && now.UID == claim.UID && now.Status.Allocation != nil:
		allocated[claim.UID] = true
		return ready(now)
	case allocated[claim.UID]:
		return false, fmt.Errorf("claim %s got deallocated elsewhere in the meantime", klog.KObj(claim))
	}
	return false, nil
}

// until waits for a state of claims in the cache.
func (p *Plugin) until(ctx context.Context, limit time.Duration, ok func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		p.mu.Lock()
		changed := p.changed
		p.mu.Unlock()
		if done, err := ok(); done || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}
