package noderesources

import (
	"context"
	"fmt"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	configv1 "k8s.io/kube-scheduler/config/v1"

	"skiff/scheduler/framework"
)

// FitName is the name of the Fit plugin.
const FitName = "NodeResourcesFit"

// Fit refuses nodes without enough free resources, and scores by how full they get.
type Fit struct {
	ignored       map[string]bool
	ignoredGroups map[string]bool
	resources     []configv1.ResourceSpec
	score         func([]load) int64
	classes       framework.DeviceClasses
}

// NewFit makes the plugin from NodeResourcesFitArgs.
func NewFit(args any, h framework.Handle) (framework.Plugin, error) {
	classes, err := framework.NewDeviceClasses(h.Informers())
	if err != nil {
		return nil, err
	}
	p := &Fit{ignored: map[string]bool{}, ignoredGroups: map[string]bool{}, resources: defaultResources(), score: leastAllocated, classes: classes}
	a, ok := args.(*configv1.NodeResourcesFitArgs)
	if !ok || a == nil {
		return p, nil
	}
	for _, n := range a.IgnoredResources {
		p.ignored[n] = true
	}
	for _, n := range a.IgnoredResourceGroups {
		p.ignoredGroups[n] = true
	}
	s := a.ScoringStrategy
	if s == nil {
		return p, nil
	}
	if len(s.Resources) > 0 {
		p.resources = weighted(s.Resources)
	}
	switch s.Type {
	case configv1.LeastAllocated, "":
	case configv1.MostAllocated:
		p.score = mostAllocated
	case configv1.RequestedToCapacityRatio:
		if s.RequestedToCapacityRatio == nil || len(s.RequestedToCapacityRatio.Shape) == 0 {
			return nil, fmt.Errorf("scoringStrategy.requestedToCapacityRatio.shape: Required value: at least one point must be specified")
		}
		p.score = capacityRatio(s.RequestedToCapacityRatio.Shape)
	default:
		return nil, fmt.Errorf("scoringStrategy.type: Unsupported value: %q: use LeastAllocated, MostAllocated or RequestedToCapacityRatio", s.Type)
	}
	return p, nil
}

func weighted(in []configv1.ResourceSpec) []configv1.ResourceSpec {
	out := slices.Clone(in)
	for i := range out {
		if out[i].Weight == 0 {
			out[i].Weight = 1
		}
	}
	return out
}

// Name is the plugin's name.
func (*Fit) Name() string { return FitName }

// EventsToRegister: room was made on a node, the pod asks for less, or DRA gives
// what no node has.
func (p *Fit) EventsToRegister() []framework.EventHint {
	return []framework.EventHint{
		{Event: framework.ClusterEvent{Resource: framework.Pod, Action: framework.Delete | framework.UpdatePodScaleDown}, Hint: p.afterPod},
		{Event: framework.ClusterEvent{Resource: framework.Node, Action: framework.Add | framework.UpdateNodeAllocatable | framework.UpdateNodeTaint | framework.UpdateNodeLabel}, Hint: p.afterNode},
		{Event: framework.ClusterEvent{Resource: framework.DeviceClass, Action: framework.Add | framework.Update}, Hint: afterClass},
	}
}

func afterClass(pod *v1.Pod, oldObj, newObj any) (framework.QueueingHint, error) {
	if _, class := framework.Cast[*resourceapi.DeviceClass](oldObj, newObj); class != nil && framework.StandsFor(class, pod) {
		return framework.Queue, nil
	}
	return framework.QueueSkip, nil
}

func (p *Fit) afterPod(pod *v1.Pod, oldObj, newObj any) (framework.QueueingHint, error) {
	oldPod, newPod := framework.Cast[*v1.Pod](oldObj, newObj)
	if newPod == nil {
		if oldPod != nil && oldPod.Spec.NodeName != "" {
			return framework.Queue, nil
		}
		return framework.QueueSkip, nil
	}
	if newPod.UID == pod.UID {
		return framework.Queue, nil
	}
	if newPod.Spec.NodeName == "" || oldPod == nil {
		return framework.QueueSkip, nil
	}
	before, after := framework.PodRequests(oldPod), framework.PodRequests(newPod)
	for name := range framework.PodRequests(pod) {
		b, a := before[name], after[name]
		if a.Cmp(b) < 0 {
			return framework.Queue, nil
		}
	}
	return framework.QueueSkip, nil
}

func (p *Fit) afterNode(pod *v1.Pod, oldObj, newObj any) (framework.QueueingHint, error) {
	_, node := framework.Cast[*v1.Node](oldObj, newObj)
	if node == nil {
		return framework.QueueSkip, nil
	}
	info, err := framework.NewPodInfo(pod)
	if err != nil {
		return framework.Queue, err
	}
	// An empty node with this capacity is the best that can be hoped for.
	if len(p.insufficient(info, framework.NewNodeInfo(node))) > 0 {
		return framework.QueueSkip, nil
	}
	return framework.Queue, nil
}

// Filter lists what is missing.
func (p *Fit) Filter(_ context.Context, _ *framework.CycleState, pod *framework.PodInfo, node *framework.NodeInfo) *framework.Status {
	missing := p.insufficient(pod, node)
	if len(missing) == 0 {
		return nil
	}
	code := framework.Unschedulable
	reasons := make([]string, len(missing))
	for i, m := range missing {
		reasons[i] = m.reason
		if m.unresolvable {
			code = framework.UnschedulableAndUnresolvable
		}
	}
	return framework.NewStatus(code, reasons...)
}

type shortage struct {
	reason string
	// unresolvable: the empty node would be too small.
	unresolvable bool
}

func (p *Fit) insufficient(pod *framework.PodInfo, node *framework.NodeInfo) []shortage {
	var out []shortage
	if len(node.Pods)+1 > node.Allocatable.AllowedPodNumber {
		out = append(out, shortage{reason: "Too many pods"})
	}
	check := func(name v1.ResourceName) {
		asks, has := pod.Requests.Get(name), node.Allocatable.Get(name)
		if asks > 0 && asks > has-node.Requested.Get(name) {
			out = append(out, shortage{reason: "Insufficient " + string(name), unresolvable: asks > has})
		}
	}
	check(v1.ResourceCPU)
	check(v1.ResourceMemory)
	check(v1.ResourceEphemeralStorage)
	for name := range pod.Requests.Scalar {
		prefix, _, _ := strings.Cut(string(name), "/")
		if p.ignored[string(name)] || p.ignoredGroups[prefix] {
			continue
		}
		// Where no device plugin has it, DynamicResources looks for devices.
		if node.Allocatable.Get(name) == 0 && p.classes.For(name) != nil {
			continue
		}
		check(name)
	}
	return out
}

// Score rates the node by the configured strategy.
func (p *Fit) Score(_ context.Context, _ *framework.CycleState, pod *framework.PodInfo, node *framework.NodeInfo) (int64, *framework.Status) {
	with, _ := loads(p.resources, pod, node, true)
	return p.score(with), nil
}
