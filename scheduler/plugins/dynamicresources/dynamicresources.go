// Package dynamicresources allocates the devices that a pod's ResourceClaims ask
// for, on a node that can reach them.
package dynamicresources

import (
	"context"
	"fmt"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/types"
	resourcelisters "k8s.io/client-go/listers/resource/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/dynamic-resource-allocation/cel"
	"k8s.io/dynamic-resource-allocation/resourceclaim"
	"k8s.io/dynamic-resource-allocation/structured"
	configv1 "k8s.io/kube-scheduler/config/v1"

	"skiff/scheduler/framework"
)

// Name of the plugin.
const Name = "DynamicResources"

// compiled is how many CEL expressions are kept compiled.
const compiled = 200

// Plugin allocates devices.
type Plugin struct {
	handle    framework.Handle
	claims    resourcelisters.ResourceClaimLister
	classes   resourcelisters.DeviceClassLister
	slices    resourcelisters.ResourceSliceLister
	rules     resourcelisters.DeviceTaintRuleLister
	selectors *cel.Cache

	extended framework.DeviceClasses

	filterTimeout, bindingTimeout time.Duration

	mu sync.Mutex // guards what follows
	// pending are claims with an allocation that the API server does not have yet,
	// or that the cache has not seen.
	pending map[types.UID]*resourceapi.ResourceClaim
	// changed is closed and replaced when a claim changes.
	changed chan struct{}
}

// features are what the allocator honours beside plain requests.
func features() structured.Features {
	return structured.Features{AdminAccess: true, PrioritizedList: true, PartitionableDevices: true, DeviceTaints: true, ConsumableCapacity: true, DeviceBindingAndStatus: true}
}

// New makes the plugin from DynamicResourcesArgs.
func New(args any, h framework.Handle) (framework.Plugin, error) {
	group := h.Informers().Resource().V1()
	extended, err := framework.NewDeviceClasses(h.Informers())
	if err != nil {
		return nil, err
	}
	p := &Plugin{
		handle: h, claims: group.ResourceClaims().Lister(), classes: group.DeviceClasses().Lister(),
		slices: group.ResourceSlices().Lister(), rules: group.DeviceTaintRules().Lister(),
		selectors: cel.NewCache(compiled, cel.Features{EnableConsumableCapacity: true}), extended: extended,
		filterTimeout: configv1.DynamicResourcesFilterTimeoutDefault, bindingTimeout: configv1.DynamicResourcesBindingTimeoutDefault,
		pending: map[types.UID]*resourceapi.ResourceClaim{}, changed: make(chan struct{}),
	}
	if a, ok := args.(*configv1.DynamicResourcesArgs); ok && a != nil {
		if a.FilterTimeout != nil {
			p.filterTimeout = a.FilterTimeout.Duration
		}
		if a.BindingTimeout != nil {
			p.bindingTimeout = a.BindingTimeout.Duration
		}
	}
	if p.filterTimeout < 0 {
		return nil, fmt.Errorf("filterTimeout: Invalid value: %q: must be zero or positive", p.filterTimeout)
	}
	if p.bindingTimeout < time.Second {
		return nil, fmt.Errorf("bindingTimeout: Invalid value: %q: must be at least 1 second", p.bindingTimeout)
	}
	_, err = group.ResourceClaims().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(any) { p.notify() }, UpdateFunc: func(any, any) { p.notify() }, DeleteFunc: func(any) { p.notify() },
	})
	return p, err
}

// notify wakes those who wait for a claim.
func (p *Plugin) notify() {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.changed)
	p.changed = make(chan struct{})
}

// Name is the plugin's name.
func (*Plugin) Name() string { return Name }

// EventsToRegister: claims, devices, classes or nodes changed.
func (*Plugin) EventsToRegister() []framework.EventHint {
	return []framework.EventHint{
		{Event: framework.ClusterEvent{Resource: framework.Node, Action: framework.Add | framework.UpdateNodeLabel | framework.UpdateNodeTaint}},
		{Event: framework.ClusterEvent{Resource: framework.ResourceClaim, Action: framework.Add | framework.Update | framework.Delete}, Hint: afterClaim},
		{Event: framework.ClusterEvent{Resource: framework.TargetPod, Action: framework.UpdatePodGeneratedResourceClaim}},
		{Event: framework.ClusterEvent{Resource: framework.DeviceClass, Action: framework.Add | framework.Update}},
		{Event: framework.ClusterEvent{Resource: framework.ResourceSlice, Action: framework.Add | framework.Update}},
		{Event: framework.ClusterEvent{Resource: framework.DeviceTaintRule, Action: framework.Add | framework.Update | framework.Delete}},
	}
}

// afterClaim: the pod's own claim may be usable now, and devices of any claim
// that was given back are free.
func afterClaim(pod *v1.Pod, oldObj, newObj any) (framework.QueueingHint, error) {
	before, now := framework.Cast[*resourceapi.ResourceClaim](oldObj, newObj)
	if before != nil && before.Status.Allocation != nil && (now == nil || now.Status.Allocation == nil) {
		return framework.Queue, nil
	}
	if now == nil && before != nil && madeFor(pod, []*resourceapi.ResourceClaim{before}) != nil {
		// What kept the pod from being tried is gone.
		return framework.Queue, nil
	}
	if now == nil || now.Namespace != pod.Namespace {
		return framework.QueueSkip, nil
	}
	for name := range resourceclaim.PodClaims(pod) {
		if name == now.Name {
			return framework.Queue, nil
		}
	}
	return framework.QueueSkip, nil
}

// podClaims are the pod's claims as the cache has them. A claim that is not
// there, or that is another pod's, is an error.
func (p *Plugin) podClaims(pod *v1.Pod) ([]*resourceapi.ResourceClaim, error) {
	var out []*resourceapi.ResourceClaim
	for i := range pod.Spec.ResourceClaims {
		name, owned, err := resourceclaim.Name(pod, &pod.Spec.ResourceClaims[i])
		if err != nil {
			return nil, err
		}
		if name == nil {
			continue // the template needs no claim
		}
		claim, err := p.claims.ResourceClaims(pod.Namespace).Get(*name)
		if err != nil {
			return nil, err
		}
		if claim.DeletionTimestamp != nil {
			return nil, fmt.Errorf("resourceclaim %q is being deleted", claim.Name)
		}
		if owned {
			if err := resourceclaim.IsForPod(pod, claim, false); err != nil {
				return nil, err
			}
		}
		out = append(out, claim)
	}
	return out, nil
}

// PreEnqueue waits for the claims to be made.
func (p *Plugin) PreEnqueue(_ context.Context, pod *v1.Pod) *framework.Status {
	if _, err := p.podClaims(pod); err != nil {
		return framework.NewStatus(framework.UnschedulableAndUnresolvable, err.Error())
	}
	return nil
}
