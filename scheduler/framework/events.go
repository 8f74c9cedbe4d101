package framework

import v1 "k8s.io/api/core/v1"

// ActionType is a set of kinds of change to an object.
type ActionType int64

const (
	Add ActionType = 1 << iota
	Delete
	UpdateNodeAllocatable
	UpdateNodeLabel
	// UpdateNodeTaint covers taints and spec.unschedulable.
	UpdateNodeTaint
	UpdateNodeCondition
	UpdateNodeAnnotation
	UpdateNodeDeclaredFeature
	UpdatePodLabel
	UpdatePodScaleDown
	UpdatePodScaleUp
	UpdatePodToleration
	UpdatePodSchedulingGatesEliminated
	UpdatePodGeneratedResourceClaim
	updateOther
	// All is every action.
	All ActionType = 1<<iota - 1
	// Update is every kind of update.
	Update = All &^ (Add | Delete)
)

// EventResource is the kind of object that changed.
type EventResource string

const (
	// AssignedPod is a pod that has a node.
	AssignedPod EventResource = "AssignedPod"
	// TargetPod is the unscheduled pod itself.
	TargetPod EventResource = "TargetPod"
	// Pod is both, for registrations.
	Pod                   EventResource = "Pod"
	Node                  EventResource = "Node"
	PersistentVolume      EventResource = "PersistentVolume"
	PersistentVolumeClaim EventResource = "PersistentVolumeClaim"
	CSINode               EventResource = "storage.k8s.io/CSINode"
	CSIDriver             EventResource = "storage.k8s.io/CSIDriver"
	VolumeAttachment      EventResource = "storage.k8s.io/VolumeAttachment"
	CSIStorageCapacity    EventResource = "storage.k8s.io/CSIStorageCapacity"
	StorageClass          EventResource = "storage.k8s.io/StorageClass"
	ResourceClaim         EventResource = "resource.k8s.io/ResourceClaim"
	ResourceSlice         EventResource = "resource.k8s.io/ResourceSlice"
	DeviceClass           EventResource = "resource.k8s.io/DeviceClass"
	DeviceTaintRule       EventResource = "resource.k8s.io/DeviceTaintRule"
	// WildCard matches every resource.
	WildCard EventResource = "*"
)

// ClusterEvent is a change that may make pods schedulable.
type ClusterEvent struct {
	Resource EventResource
	Action   ActionType
	// Label overrides the name in metrics and logs.
	Label string
}

// String names the event as upstream's metrics do.
func (e ClusterEvent) String() string {
	if e.Label != "" {
		return e.Label
	}
	return string(e.Resource) + e.Action.String()
}

// String names a single action; sets give the widest matching name.
func (a ActionType) String() string {
	switch {
	case a == Add:
		return "Add"
	case a == Delete:
		return "Delete"
	case a&^Update == 0:
		return "Update"
	default:
		return "Change"
	}
}

// Matches is true when a registration r covers the event e.
func (r ClusterEvent) Matches(e ClusterEvent) bool {
	if r.Resource == WildCard {
		return true
	}
	same := r.Resource == e.Resource || (r.Resource == Pod && (e.Resource == AssignedPod || e.Resource == TargetPod)) || e.Resource == WildCard
	return same && r.Action&e.Action != 0
}

// QueueingHint is the answer of a hint function.
type QueueingHint int

const (
	// QueueSkip: the event does not help the pod.
	QueueSkip QueueingHint = iota
	// Queue: the pod may be schedulable now.
	Queue
)

// HintFunc decides whether an event may make pod schedulable. Old or new is nil
// for additions and deletions. On an error the pod is queued.
type HintFunc func(pod *v1.Pod, oldObj, newObj any) (QueueingHint, error)

// EventHint pairs an event with a hint; a nil Hint always queues.
type EventHint struct {
	Event ClusterEvent
	Hint  HintFunc
}

// NodeActions lists what changed between two versions of a node.
func NodeActions(oldNode, newNode *v1.Node) ActionType {
	var a ActionType
	if !resourceListEqual(oldNode.Status.Allocatable, newNode.Status.Allocatable) {
		a |= UpdateNodeAllocatable
	}
	if !stringMapEqual(oldNode.Labels, newNode.Labels) {
		a |= UpdateNodeLabel
	}
	if oldNode.Spec.Unschedulable != newNode.Spec.Unschedulable || !taintsEqual(oldNode.Spec.Taints, newNode.Spec.Taints) {
		a |= UpdateNodeTaint
	}
	if conditionsChanged(oldNode.Status.Conditions, newNode.Status.Conditions) {
		a |= UpdateNodeCondition
	}
	if !stringMapEqual(oldNode.Annotations, newNode.Annotations) {
		a |= UpdateNodeAnnotation
	}
	if !stringsEqual(oldNode.Status.DeclaredFeatures, newNode.Status.DeclaredFeatures) {
		a |= UpdateNodeDeclaredFeature
	}
	return a
}

// PodActions lists what changed between two versions of a pod.
func PodActions(oldPod, newPod *v1.Pod) ActionType {
	var a ActionType
	if !stringMapEqual(oldPod.Labels, newPod.Labels) {
		a |= UpdatePodLabel
	}
	oldReq, newReq := PodRequests(oldPod), PodRequests(newPod)
	for name, q := range oldReq {
		if n := newReq[name]; n.Cmp(q) < 0 {
			a |= UpdatePodScaleDown
		}
	}
	for name, q := range newReq {
		if o := oldReq[name]; o.Cmp(q) < 0 {
			a |= UpdatePodScaleUp
		}
	}
	if len(newPod.Spec.Tolerations) != len(oldPod.Spec.Tolerations) {
		a |= UpdatePodToleration
	}
	if len(oldPod.Spec.SchedulingGates) > 0 && len(newPod.Spec.SchedulingGates) == 0 {
		a |= UpdatePodSchedulingGatesEliminated
	}
	if !claimStatusesEqual(oldPod.Status.ResourceClaimStatuses, newPod.Status.ResourceClaimStatuses) {
		a |= UpdatePodGeneratedResourceClaim
	}
	if a == 0 {
		a = updateOther
	}
	return a
}
