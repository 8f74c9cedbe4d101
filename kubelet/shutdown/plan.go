// Package shutdown ends a node's pods in order before its machine goes down. The
// machine says so through systemd-logind, which waits for those that hold a lock.
package shutdown

import (
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"
	kubeletv1beta1 "k8s.io/kubelet/config/v1beta1"
)

// criticalPriority is where the priorities of the system's critical pods begin.
const criticalPriority = 2_000_000_000

// Group is the pods of a priority and above, up to the next group's.
type Group struct {
	Priority int32
	// Time is how long all of its pods may take together.
	Time time.Duration
}

// Groups are those of a configuration, in the order of their ending; none where a
// shutdown ends no pods gracefully.
func Groups(c *kubeletv1beta1.KubeletConfiguration) []Group {
	var out []Group
	for _, p := range c.ShutdownGracePeriodByPodPriority {
		out = append(out, Group{Priority: p.Priority, Time: time.Duration(p.ShutdownGracePeriodSeconds) * time.Second})
	}
	slices.SortFunc(out, func(a, b Group) int { return int(int64(a.Priority) - int64(b.Priority)) })
	if len(out) > 0 || c.ShutdownGracePeriod.Duration == 0 {
		return out
	}
	critical := c.ShutdownGracePeriodCriticalPods.Duration
	return []Group{{Priority: 0, Time: c.ShutdownGracePeriod.Duration - critical}, {Priority: criticalPriority, Time: critical}}
}

// Total is how long all groups may take, one after the other.
func Total(groups []Group) time.Duration {
	var sum time.Duration
	for _, g := range groups {
		sum += g.Time
	}
	return sum
}

// Of shares the pods out among the groups: each is in the last one whose priority
// it reaches, and in the first where it reaches none.
func Of(groups []Group, pods []*v1.Pod) [][]*v1.Pod {
	out := make([][]*v1.Pod, len(groups))
	if len(groups) == 0 {
		return out
	}
	for _, pod := range pods {
		var priority int32
		if pod.Spec.Priority != nil {
			priority = *pod.Spec.Priority
		}
		in := 0
		for i, g := range groups {
			if g.Priority <= priority {
				in = i
			}
		}
		out[in] = append(out[in], pod)
	}
	return out
}

// Grace is how many seconds a pod of a group has: its own where that is less.
func Grace(g Group, pod *v1.Pod) int64 {
	grace := int64(g.Time / time.Second)
	if own := pod.Spec.TerminationGracePeriodSeconds; own != nil {
		grace = min(grace, *own)
	}
	return grace
}
