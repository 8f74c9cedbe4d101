package framework

import (
	"context"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/events"
)

// MaxNodeScore and MinNodeScore bound a normalized score.
const (
	MaxNodeScore int64 = 100
	MinNodeScore int64 = 0
)

// Plugin is the parent of all extension points.
type Plugin interface{ Name() string }

// PreEnqueuePlugin keeps pods out of the active queue.
type PreEnqueuePlugin interface {
	Plugin
	PreEnqueue(ctx context.Context, pod *v1.Pod) *Status
}

// QueueSortPlugin orders the active queue; exactly one is enabled, the same for all profiles.
type QueueSortPlugin interface {
	Plugin
	Less(a, b *QueuedPodInfo) bool
}

// EnqueueExtensions names the events that may make a pod schedulable that the plugin refused.
// A plugin that refuses pods and does not implement it is tried again at every event.
type EnqueueExtensions interface {
	Plugin
	EventsToRegister() []EventHint
}

// PreFilterResult narrows the nodes; nil NodeNames means all.
type PreFilterResult struct{ NodeNames sets.Set[string] }

// PreFilterPlugin computes state for Filter. Skip turns the plugin's Filter off for the pod.
type PreFilterPlugin interface {
	Plugin
	PreFilter(ctx context.Context, state *CycleState, pod *PodInfo, nodes []*NodeInfo) (*PreFilterResult, *Status)
}

// PreFilterExtensions adapts the PreFilter state to a pod added to or taken from a node, for dry runs.
type PreFilterExtensions interface {
	Plugin
	AddPod(ctx context.Context, state *CycleState, pod, added *PodInfo, node *NodeInfo) *Status
	RemovePod(ctx context.Context, state *CycleState, pod, removed *PodInfo, node *NodeInfo) *Status
}

// FilterPlugin decides whether a pod fits a node. It runs in parallel over nodes.
type FilterPlugin interface {
	Plugin
	Filter(ctx context.Context, state *CycleState, pod *PodInfo, node *NodeInfo) *Status
}

// PostFilterResult tells what PostFilter did. A nil NominatedNode leaves the pod's as it is.
type PostFilterResult struct{ NominatedNode *string }

// PostFilterPlugin tries to make room for a pod that fits no node.
type PostFilterPlugin interface {
	Plugin
	PostFilter(ctx context.Context, state *CycleState, pod *PodInfo, nodes *NodeStatuses) (*PostFilterResult, *Status)
}

// PreScorePlugin computes state for Score over the feasible nodes. Skip turns the plugin's Score off.
type PreScorePlugin interface {
	Plugin
	PreScore(ctx context.Context, state *CycleState, pod *PodInfo, nodes []*NodeInfo) *Status
}

// NodeScore is a node's score.
type NodeScore struct {
	Name  string
	Score int64
}

// ScorePlugin ranks a feasible node. It runs in parallel over nodes.
type ScorePlugin interface {
	Plugin
	Score(ctx context.Context, state *CycleState, pod *PodInfo, node *NodeInfo) (int64, *Status)
}

// ScoreNormalizer brings the scores of a plugin into [MinNodeScore, MaxNodeScore], in place.
type ScoreNormalizer interface {
	Plugin
	NormalizeScore(ctx context.Context, state *CycleState, pod *PodInfo, scores []NodeScore) *Status
}

// ReservePlugin claims resources for the pod on the node. Unreserve must be idempotent.
type ReservePlugin interface {
	Plugin
	Reserve(ctx context.Context, state *CycleState, pod *v1.Pod, node string) *Status
	Unreserve(ctx context.Context, state *CycleState, pod *v1.Pod, node string)
}

// PermitPlugin can hold a pod back: Wait with a timeout.
type PermitPlugin interface {
	Plugin
	Permit(ctx context.Context, state *CycleState, pod *v1.Pod, node string) (*Status, time.Duration)
}

// PreBindPlugin prepares the binding, for example volumes.
type PreBindPlugin interface {
	Plugin
	PreBind(ctx context.Context, state *CycleState, pod *v1.Pod, node string) *Status
}

// PreBindPreFlight tells before PreBind whether it will do anything: Skip when not.
type PreBindPreFlight interface {
	Plugin
	PreBindPreFlight(ctx context.Context, state *CycleState, pod *v1.Pod, node string) *Status
}

// BindPlugin binds; Skip passes on to the next.
type BindPlugin interface {
	Plugin
	Bind(ctx context.Context, state *CycleState, pod *v1.Pod, node string) *Status
}

// PostBindPlugin is told of a successful binding.
type PostBindPlugin interface {
	Plugin
	PostBind(ctx context.Context, state *CycleState, pod *v1.Pod, node string)
}

// Snapshot is the view of the cluster during one cycle. All of it is read-only.
type Snapshot interface {
	// Nodes lists all nodes, spread over zones.
	Nodes() []*NodeInfo
	// Node finds a node, nil when unknown.
	Node(name string) *NodeInfo
	// NodesWithAffinityPods lists nodes having pods with (anti-)affinity terms.
	NodesWithAffinityPods() []*NodeInfo
	// NodesWithRequiredAntiAffinityPods lists nodes having pods with required anti-affinity terms.
	NodesWithRequiredAntiAffinityPods() []*NodeInfo
	// PVCUsed is true when a pod on any node uses the claim "namespace/name".
	PVCUsed(key string) bool
}

// Nominator keeps the pods that wait for room on a node.
type Nominator interface {
	// Nominate records pod on node; node "" removes.
	Nominate(pod *PodInfo, node string)
	// NominatedPods lists the pods waiting for node.
	NominatedPods(node string) []*PodInfo
}

// Filterer runs the Filter side of a profile, for plugins that simulate.
type Filterer interface {
	RunFilters(ctx context.Context, state *CycleState, pod *PodInfo, node *NodeInfo) *Status
	RunFiltersWithNominated(ctx context.Context, state *CycleState, pod *PodInfo, node *NodeInfo) *Status
	RunAddPod(ctx context.Context, state *CycleState, pod, added *PodInfo, node *NodeInfo) *Status
	RunRemovePod(ctx context.Context, state *CycleState, pod, removed *PodInfo, node *NodeInfo) *Status
}

// Extender is an outside process that takes part in decisions.
type Extender interface {
	Name() string
	IsInterested(pod *v1.Pod) bool
	IsFilter() bool
	IsPrioritizer() bool
	IsBinder() bool
	IsIgnorable() bool
	SupportsPreemption() bool
	Filter(ctx context.Context, pod *v1.Pod, nodes []*NodeInfo) (feasible []*NodeInfo, failed, unresolvable map[string]string, err error)
	Prioritize(ctx context.Context, pod *v1.Pod, nodes []*NodeInfo) (scores map[string]int64, weight int64, err error)
	Bind(ctx context.Context, pod *v1.Pod, node string) error
	ProcessPreemption(ctx context.Context, pod *v1.Pod, victims map[string]*Victims, snap Snapshot) (map[string]*Victims, error)
}

// Victims are the pods to evict from a node.
type Victims struct {
	// Pods are sorted from the most to the least important.
	Pods []*v1.Pod
	// NumPDBViolations counts those that a disruption budget does not allow.
	NumPDBViolations int64
}

// Handle is what a plugin may use of the scheduler.
type Handle interface {
	Client() kubernetes.Interface
	Informers() informers.SharedInformerFactory
	Recorder() events.EventRecorder
	// Snapshot is that of the running cycle; Filter and Score use it read-only.
	Snapshot() Snapshot
	Nominator() Nominator
	Filterer() Filterer
	Extenders() []Extender
	// Parallelize calls fn(0..n-1) on a bounded number of goroutines and waits.
	Parallelize(ctx context.Context, n int, fn func(i int))
	// Go runs fn in the background; the scheduler's Run waits for it. False when stopping.
	Go(fn func(ctx context.Context)) bool
	// Activate moves pods to the active queue.
	Activate(pods ...*v1.Pod)
	// RejectWaiting rejects a pod that waits at Permit; false when it does not wait.
	RejectWaiting(pod *v1.Pod, plugin, msg string) bool
}

// QueuedPodInfo is a pod in the scheduling queue. It is guarded by the queue, or owned by the cycle that popped it.
type QueuedPodInfo struct {
	*PodInfo
	// Timestamp is when the pod was last put into the queue.
	Timestamp time.Time
	// InitialAttempt is when it was first tried; zero before.
	InitialAttempt time.Time
	Attempts       int
	// UnschedulableCount and ErrorCount count consecutive refusals and faults, for the backoff.
	UnschedulableCount int
	ErrorCount         int
	// UnschedulablePlugins and PendingPlugins refused the pod at its last attempt.
	UnschedulablePlugins sets.Set[string]
	PendingPlugins       sets.Set[string]
	// GatingPlugin is the PreEnqueue plugin that holds the pod, if any.
	GatingPlugin string
	// GatingEvents are the events that plugin registered.
	GatingEvents []ClusterEvent
	// BackoffUntil is the end of the backoff; zero when none.
	BackoffUntil time.Time
	// FlushedFromUnschedulable is set when the pod left the unschedulable pool by its age.
	FlushedFromUnschedulable bool
}
