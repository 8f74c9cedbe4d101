package podcontrol

import (
	"math"
	"strconv"
	"time"

	v1 "k8s.io/api/core/v1"
)

// DeletionCost is the annotation that lowers a pod's rank for survival.
const DeletionCost = "controller.kubernetes.io/pod-deletion-cost"

// Ranked is a pod and how many pods of the same owner share its node.
type Ranked struct {
	Pod  *v1.Pod
	Rank int
}

// ByNode ranks pods by how crowded their node is with pods of related.
func ByNode(pods, related []*v1.Pod) []Ranked {
	on := make(map[string]int, len(related))
	for _, p := range related {
		if Active(p) {
			on[p.Spec.NodeName]++
		}
	}
	out := make([]Ranked, len(pods))
	for i, p := range pods {
		out[i] = Ranked{p, on[p.Spec.NodeName]}
	}
	return out
}

// CompareForDeletion puts first the pod whose loss hurts least: unscheduled,
// then pending, not ready, cheap, crowded, late ready, often restarted, young.
// Ages are compared on a logarithmic scale, so that among pods of about the
// same age the choice does not always hit the newest; the UID then decides.
func CompareForDeletion(a, b Ranked, now time.Time) int {
	p, q := a.Pod, b.Pod
	if c := boolFirst(p.Spec.NodeName == "", q.Spec.NodeName == ""); c != 0 {
		return c
	}
	phase := map[v1.PodPhase]int{v1.PodPending: 0, v1.PodUnknown: 1, v1.PodRunning: 2}
	if c := phase[p.Status.Phase] - phase[q.Status.Phase]; c != 0 {
		return c
	}
	if c := boolFirst(!Ready(p), !Ready(q)); c != 0 {
		return c
	}
	if c := deletionCost(p) - deletionCost(q); c != 0 {
		return int(max(-1, min(1, c)))
	}
	if a.Rank != b.Rank {
		return b.Rank - a.Rank
	}
	if Ready(p) && Ready(q) {
		s, t := readySince(p), readySince(q)
		if !s.Equal(t) {
			return compareAge(s, t, p, q, now)
		}
	}
	if c := maxRestarts(q) - maxRestarts(p); c != 0 {
		return c
	}
	if !p.CreationTimestamp.Equal(&q.CreationTimestamp) {
		return compareAge(p.CreationTimestamp.Time, q.CreationTimestamp.Time, p, q, now)
	}
	return 0
}

func compareAge(s, t time.Time, p, q *v1.Pod, now time.Time) int {
	if s.IsZero() || t.IsZero() {
		return boolFirst(s.IsZero(), t.IsZero())
	}
	x, y := logAge(now, s), logAge(now, t)
	if x == y {
		if p.UID < q.UID {
			return -1
		}
		return 1
	}
	return x - y
}

func logAge(now, t time.Time) int {
	age := now.Sub(t)
	if age <= 0 {
		return -1
	}
	return int(math.Log2(float64(age)))
}

func boolFirst(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

func deletionCost(p *v1.Pod) int64 {
	cost, err := strconv.ParseInt(p.Annotations[DeletionCost], 10, 32)
	if err != nil {
		return 0
	}
	return cost
}

func readySince(p *v1.Pod) time.Time {
	if c := Condition(&p.Status, v1.PodReady); c != nil && c.Status == v1.ConditionTrue {
		return c.LastTransitionTime.Time
	}
	return time.Time{}
}

// maxRestarts compares regular containers first: their count outweighs that of
// sidecars.
func maxRestarts(p *v1.Pod) int {
	n := 0
	for _, s := range p.Status.ContainerStatuses {
		n = max(n, int(s.RestartCount))
	}
	return n
}
