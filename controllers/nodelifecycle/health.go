package nodelifecycle

import (
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Health is what is remembered of a node between two looks at it.
type Health struct {
	// Seen is when the node last gave a sign of life, by this clock.
	Seen time.Time
	// Heartbeat and Renewed are the signs themselves, by the node's clock.
	Heartbeat, Renewed time.Time
	// Ready is the node's condition at the last look.
	Ready v1.ConditionStatus
	known bool
}

// Look updates the health by the node's status and lease. Only that a sign
// changed counts, since the clocks of node and controller may differ.
func (h Health) Look(node *v1.Node, renewed time.Time, now time.Time) Health {
	ready := condition(node, v1.NodeReady)
	var beat time.Time
	if ready != nil {
		beat = ready.LastHeartbeatTime.Time
	}
	switch {
	case !h.known:
		h.Seen = now
		if ready == nil {
			h.Seen = node.CreationTimestamp.Time
		}
	case !beat.Equal(h.Heartbeat), renewed.After(h.Renewed):
		h.Seen = now
	}
	h.known, h.Heartbeat = true, beat
	if renewed.After(h.Renewed) {
		h.Renewed = renewed
	}
	return h
}

func condition(node *v1.Node, kind v1.NodeConditionType) *v1.NodeCondition {
	for i := range node.Status.Conditions {
		if node.Status.Conditions[i].Type == kind {
			return &node.Status.Conditions[i]
		}
	}
	return nil
}

func readiness(node *v1.Node) v1.ConditionStatus {
	if c := condition(node, v1.NodeReady); c != nil {
		return c.Status
	}
	return v1.ConditionUnknown
}

// Lost returns the node with its conditions Unknown, and whether that changes
// anything.
func Lost(node *v1.Node, now time.Time) (*v1.Node, bool) {
	next, changed := node.DeepCopy(), false
	for _, kind := range []v1.NodeConditionType{v1.NodeReady, v1.NodeMemoryPressure, v1.NodeDiskPressure, v1.NodePIDPressure} {
		c := condition(next, kind)
		if c == nil {
			next.Status.Conditions = append(next.Status.Conditions, v1.NodeCondition{
				Type: kind, Status: v1.ConditionUnknown, Reason: "NodeStatusNeverUpdated", Message: "Kubelet never posted node status.",
				LastHeartbeatTime: node.CreationTimestamp, LastTransitionTime: metav1.NewTime(now),
			})
			changed = true
			continue
		}
		if c.Status != v1.ConditionUnknown {
			c.Status, c.Reason, c.Message = v1.ConditionUnknown, "NodeStatusUnknown", "Kubelet stopped posting node status."
			c.LastTransitionTime = metav1.NewTime(now)
			changed = true
		}
	}
	return next, changed
}

// ZoneState is how much of a zone is well.
type ZoneState string

// States of a zone.
const (
	Normal            ZoneState = "Normal"
	PartialDisruption ZoneState = "PartialDisruption"
	FullDisruption    ZoneState = "FullDisruption"
)

// JudgeZone needs more than two failed nodes before it speaks of disruption.
func JudgeZone(ready, total int, threshold float64) ZoneState {
	bad := total - ready
	switch {
	case ready == 0 && bad > 0:
		return FullDisruption
	case bad > 2 && float64(bad)/float64(total) >= threshold:
		return PartialDisruption
	}
	return Normal
}

// Rates are evictions per second.
type Rates struct {
	Normal, Disrupted float64
	// LargeCluster is the size above which a disrupted zone still evicts, at the
	// second rate.
	LargeCluster int
}

// Rate is how fast a zone evicts. When every zone is down the fault is likely
// on this side, and nothing is evicted.
func (r Rates) Rate(state ZoneState, nodes int, allDown bool) float64 {
	switch {
	case allDown:
		return 0
	case state == PartialDisruption && nodes <= r.LargeCluster:
		return 0
	case state == PartialDisruption:
		return r.Disrupted
	}
	return r.Normal
}
