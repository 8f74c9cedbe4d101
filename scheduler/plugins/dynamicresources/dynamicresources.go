// Package dynamicresources allocates the devices that a pod's ResourceClaims ask
// for, on a node that can reach them.
package dynamicresources

import (
	"context"
	"errors"
	"fmt"
	"sync"

	v1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	resourcelisters "k8s.io/client-go/listers/resource/v1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	"k8s.io/dynamic-resource-allocation/cel"
	"k8s.io/dynamic-resource-allocation/resourceclaim"
	"k8s.io/dynamic-resource-allocation/structured"

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

	mu sync.Mutex
	// pending are claims with an allocation that the API server does not have yet,
	// or that the cache has not seen; guarded by mu.
	pending map[types.UID]*resourceapi.ResourceClaim
}

// features are what the allocator honours beside plain requests.
func features() structured.Features {
	return structured.Features{AdminAccess: true, PrioritizedList: true, PartitionableDevices: true, DeviceTaints: true, ConsumableCapacity: true}
}

// New makes the plugin.
func New(_ any, h framework.Handle) (framework.Plugin, error) {
	group := h.Informers().Resource().V1()
	return &Plugin{
		handle: h, claims: group.ResourceClaims().Lister(), classes: group.DeviceClasses().Lister(),
		slices: group.ResourceSlices().Lister(), rules: group.DeviceTaintRules().Lister(),
		selectors: cel.NewCache(compiled, cel.Features{EnableConsumableCapacity: true}),
		pending:   map[types.UID]*resourceapi.ResourceClaim{},
	}, nil
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

var stateKey = framework.NewStateKey[*state]("PreFilter" + Name)

// state is what a cycle knows of the pod's claims.
type state struct {
	claims []*resourceapi.ResourceClaim
	// where are the nodes of the claims that are allocated, nil for any.
	where []*nodeaffinity.NodeSelector
	// open are the claims that are to be allocated.
	open      []*resourceapi.ResourceClaim
	allocator structured.Allocator

	mu sync.Mutex
	// results are the allocations of the open claims by node.
	results map[string][]resourceapi.AllocationResult
	// elsewhere are claims whose allocation keeps the pod off nodes.
	elsewhere map[types.UID]*resourceapi.ResourceClaim
}

// PreFilter sorts the claims, and prepares the choice of devices for those that
// have none.
func (p *Plugin) PreFilter(ctx context.Context, cycle *framework.CycleState, info *framework.PodInfo, _ []*framework.NodeInfo) (*framework.PreFilterResult, *framework.Status) {
	pod := info.Pod
	claims, err := p.podClaims(pod)
	if err != nil {
		return nil, framework.NewStatus(framework.UnschedulableAndUnresolvable, err.Error())
	}
	if len(claims) == 0 {
		return nil, framework.NewStatus(framework.Skip)
	}
	s := &state{claims: claims, where: make([]*nodeaffinity.NodeSelector, len(claims)), results: map[string][]resourceapi.AllocationResult{}, elsewhere: map[types.UID]*resourceapi.ResourceClaim{}}
	for i, claim := range claims {
		a := claim.Status.Allocation
		if a == nil {
			if p.isPending(claim.UID) {
				return nil, framework.NewStatus(framework.UnschedulableAndUnresolvable, fmt.Sprintf("resource claim %s is in the process of being allocated", claim.Name))
			}
			if status := p.checkClasses(claim); status != nil {
				return nil, status
			}
			s.open = append(s.open, claim)
			continue
		}
		if !resourceclaim.CanBeReserved(claim) && !resourceclaim.IsReservedForPod(pod, claim, false) {
			return nil, framework.NewStatus(framework.UnschedulableAndUnresolvable, "resourceclaim in use")
		}
		if a.NodeSelector != nil {
			if s.where[i], err = nodeaffinity.NewNodeSelector(a.NodeSelector); err != nil {
				return nil, framework.AsStatus(err)
			}
		}
	}
	if len(s.open) > 0 {
		if s.allocator, err = p.newAllocator(ctx); err != nil {
			return nil, framework.AsStatus(err)
		}
	}
	framework.Write(cycle, stateKey, s)
	return nil, nil
}

// checkClasses tells of requests that can never be met.
func (p *Plugin) checkClasses(claim *resourceapi.ResourceClaim) *framework.Status {
	check := func(request, class string) *framework.Status {
		_, err := p.classes.Get(class)
		switch {
		case apierrors.IsNotFound(err):
			return framework.NewStatus(framework.UnschedulableAndUnresolvable, fmt.Sprintf("request %s: device class %s does not exist", request, class))
		case err != nil:
			return framework.AsStatus(err)
		}
		return nil
	}
	for _, r := range claim.Spec.Devices.Requests {
		if r.Exactly == nil && len(r.FirstAvailable) == 0 {
			return framework.NewStatus(framework.UnschedulableAndUnresolvable, fmt.Sprintf("request %s: unsupported request type", r.Name))
		}
		if r.Exactly != nil {
			if status := check(r.Name, r.Exactly.DeviceClassName); status != nil {
				return status
			}
		}
		for _, sub := range r.FirstAvailable {
			if status := check(resourceclaim.CreateSubRequestRef(r.Name, sub.Name), sub.DeviceClassName); status != nil {
				return status
			}
		}
	}
	return nil
}

// newAllocator takes in what devices there are, and who has them.
func (p *Plugin) newAllocator(ctx context.Context) (structured.Allocator, error) {
	claims, err := p.claims.List(labels.Everything())
	if err != nil {
		return nil, err
	}
	slices, err := p.slices.List(labels.Everything())
	if err != nil {
		return nil, err
	}
	rules, err := p.rules.List(labels.Everything())
	if err != nil {
		return nil, err
	}
	return structured.NewAllocator(ctx, features(), allocated(append(claims, p.settle(claims)...)), classes{p.classes}, tainted(slices, rules), p.selectors)
}

// classes is the lister as the allocator wants it.
type classes struct {
	resourcelisters.DeviceClassLister
}

func (c classes) List() ([]*resourceapi.DeviceClass, error) {
	return c.DeviceClassLister.List(labels.Everything())
}

// Filter allocates the open claims on one node, without anything of it showing.
func (p *Plugin) Filter(ctx context.Context, cycle *framework.CycleState, _ *framework.PodInfo, node *framework.NodeInfo) *framework.Status {
	s, ok := framework.Read(cycle, stateKey)
	if !ok {
		return nil
	}
	for i, where := range s.where {
		if where != nil && !where.Match(node.Node) {
			s.mu.Lock()
			s.elsewhere[s.claims[i].UID] = s.claims[i]
			s.mu.Unlock()
			return framework.NewStatus(framework.UnschedulableAndUnresolvable, "resourceclaim not available on the node")
		}
	}
	if len(s.open) == 0 {
		return nil
	}
	results, err := s.allocator.Allocate(ctx, node.Node, s.open)
	switch {
	case errors.Is(err, structured.ErrFailedAllocationOnNode):
		return framework.NewStatus(framework.UnschedulableAndUnresolvable, err.Error())
	case err != nil:
		return framework.AsStatus(err)
	case len(results) == 0:
		return framework.NewStatus(framework.UnschedulableAndUnresolvable, "cannot allocate all claims")
	}
	s.mu.Lock()
	s.results[node.Name()] = results
	s.mu.Unlock()
	return nil
}
