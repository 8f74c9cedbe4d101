package dynamicresources

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	resourcelisters "k8s.io/client-go/listers/resource/v1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	"k8s.io/dynamic-resource-allocation/resourceclaim"
	"k8s.io/dynamic-resource-allocation/structured"

	"skiff/scheduler/framework"
)

var stateKey = framework.NewStateKey[*state]("PreFilter" + Name)

// state is what a cycle knows of the pod's claims.
type state struct {
	claims []*resourceapi.ResourceClaim
	// where are the nodes of the claims that are allocated, nil for any.
	where []*nodeaffinity.NodeSelector
	// failed are the claims whose devices cannot be bound where they are.
	failed map[types.UID]bool
	// open are the claims that are to be allocated.
	open []*resourceapi.ResourceClaim
	// classes stand for the extended resources of the pod that DRA can give.
	classes map[v1.ResourceName]string
	// leftover is the claim for extended resources of an attempt that was cut off.
	leftover  *resourceapi.ResourceClaim
	allocator structured.Allocator
	// made is the claim for extended resources on the node that was chosen, with
	// what it gives to the containers.
	made     *resourceapi.ResourceClaim
	mappings []v1.ContainerExtendedResourceRequest

	mu sync.Mutex
	// choices are what nodes can give.
	choices map[string]choice
	// elsewhere are claims whose allocation keeps the pod off nodes.
	elsewhere map[types.UID]*resourceapi.ResourceClaim
}

// choice is what a node can give.
type choice struct {
	// results are of the open claims, and last of the one that is to be made.
	results  []resourceapi.AllocationResult
	made     *resourceapi.ResourceClaim
	mappings []v1.ContainerExtendedResourceRequest
}

// PreFilter sorts the claims, and prepares the choice of devices for those that
// have none.
func (p *Plugin) PreFilter(ctx context.Context, cycle *framework.CycleState, info *framework.PodInfo, _ []*framework.NodeInfo) (*framework.PreFilterResult, *framework.Status) {
	pod := info.Pod
	claims, err := p.podClaims(pod)
	if err != nil {
		return nil, framework.NewStatus(framework.UnschedulableAndUnresolvable, err.Error())
	}
	s := &state{
		claims: claims, where: make([]*nodeaffinity.NodeSelector, len(claims)), failed: map[types.UID]bool{}, classes: p.classesOf(info),
		choices: map[string]choice{}, elsewhere: map[types.UID]*resourceapi.ResourceClaim{},
	}
	if len(claims) == 0 && len(s.classes) == 0 && pod.Status.ExtendedResourceClaimStatus == nil {
		return nil, framework.NewStatus(framework.Skip)
	}
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
		s.failed[claim.UID] = lost(claim, time.Now(), p.bindingTimeout)
		if a.NodeSelector != nil {
			if s.where[i], err = nodeaffinity.NewNodeSelector(a.NodeSelector); err != nil {
				return nil, framework.AsStatus(err)
			}
		}
	}
	if len(s.open) > 0 || len(s.classes) > 0 {
		all, err := p.claims.List(labels.Everything())
		if err != nil {
			return nil, framework.AsStatus(err)
		}
		if len(s.classes) > 0 {
			s.leftover = madeFor(pod, all)
		}
		if s.allocator, err = p.newAllocator(ctx, all); err != nil {
			return nil, framework.AsStatus(err)
		}
	}
	framework.Write(cycle, stateKey, s)
	return nil, nil
}

// Filter allocates the open claims on one node, without anything of it showing.
func (p *Plugin) Filter(ctx context.Context, cycle *framework.CycleState, info *framework.PodInfo, node *framework.NodeInfo) *framework.Status {
	s, ok := framework.Read(cycle, stateKey)
	if !ok {
		return nil
	}
	for i, claim := range s.claims {
		if s.failed[claim.UID] || s.where[i] != nil && !s.where[i].Match(node.Node) {
			s.mu.Lock()
			s.elsewhere[claim.UID] = claim
			s.mu.Unlock()
			return framework.NewStatus(framework.UnschedulableAndUnresolvable, "resourceclaim not available on the node")
		}
	}
	if s.leftover != nil {
		return framework.NewStatus(framework.UnschedulableAndUnresolvable, "cannot schedule extended resource claim")
	}
	var chosen choice
	wanted := s.open
	if here := missing(s.classes, &node.Allocatable); len(here) > 0 {
		chosen.made, chosen.mappings = forResources(info.Pod, here)
		wanted = append(slices.Clip(wanted), chosen.made)
	}
	if len(wanted) == 0 {
		return nil
	}
	if p.filterTimeout > 0 {
		limited, cancel := context.WithTimeout(ctx, p.filterTimeout)
		defer cancel()
		ctx = limited
	}
	results, err := s.allocator.Allocate(ctx, node.Node, wanted)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return framework.NewStatus(framework.UnschedulableAndUnresolvable, "timed out trying to allocate devices")
	case errors.Is(err, structured.ErrFailedAllocationOnNode):
		return framework.NewStatus(framework.UnschedulableAndUnresolvable, err.Error())
	case err != nil:
		return framework.AsStatus(err)
	case len(results) == 0:
		return framework.NewStatus(framework.UnschedulableAndUnresolvable, "cannot allocate all claims")
	}
	chosen.results = results
	s.mu.Lock()
	s.choices[node.Name()] = chosen
	s.mu.Unlock()
	return nil
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
func (p *Plugin) newAllocator(ctx context.Context, claims []*resourceapi.ResourceClaim) (structured.Allocator, error) {
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
