package nodelifecycle

import (
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

type rule struct {
	kind   v1.NodeConditionType
	status v1.ConditionStatus
	taint  string
}

// byCondition is which taint each condition's value asks for.
var byCondition = []rule{
	{v1.NodeReady, v1.ConditionFalse, v1.TaintNodeNotReady},
	{v1.NodeReady, v1.ConditionUnknown, v1.TaintNodeUnreachable},
	{v1.NodeMemoryPressure, v1.ConditionTrue, v1.TaintNodeMemoryPressure},
	{v1.NodeDiskPressure, v1.ConditionTrue, v1.TaintNodeDiskPressure},
	{v1.NodeNetworkUnavailable, v1.ConditionTrue, v1.TaintNodeNetworkUnavailable},
	{v1.NodePIDPressure, v1.ConditionTrue, v1.TaintNodePIDPressure},
}

// Taints is the node's taint list with the NoSchedule ones that its conditions
// and spec.unschedulable call for, and whether it differs.
func Taints(node *v1.Node, now time.Time) ([]v1.Taint, bool) {
	wanted := map[string]bool{}
	for _, b := range byCondition {
		if c := condition(node, b.kind); c != nil && c.Status == b.status {
			wanted[b.taint] = true
		}
	}
	if node.Spec.Unschedulable {
		wanted[v1.TaintNodeUnschedulable] = true
	}
	managed := func(key string) bool {
		return key == v1.TaintNodeUnschedulable || slices.ContainsFunc(byCondition, func(r rule) bool { return r.taint == key })
	}
	var out []v1.Taint
	changed := false
	for _, t := range node.Spec.Taints {
		if t.Effect == v1.TaintEffectNoSchedule && managed(t.Key) {
			if !wanted[t.Key] {
				changed = true
				continue
			}
			delete(wanted, t.Key)
		}
		out = append(out, t)
	}
	for _, b := range append(slices.Clone(byCondition), rule{taint: v1.TaintNodeUnschedulable}) {
		if wanted[b.taint] {
			out = append(out, v1.Taint{Key: b.taint, Effect: v1.TaintEffectNoSchedule, TimeAdded: &metav1.Time{Time: now}})
			delete(wanted, b.taint)
			changed = true
		}
	}
	return out, changed
}

// EvictionTaint is the NoExecute taint that the node's readiness calls for;
// empty when it is ready.
func EvictionTaint(node *v1.Node) string {
	c := condition(node, v1.NodeReady)
	switch {
	case c == nil:
		return ""
	case c.Status == v1.ConditionFalse:
		return v1.TaintNodeNotReady
	case c.Status == v1.ConditionUnknown:
		return v1.TaintNodeUnreachable
	}
	return ""
}

// Evict is the taint list with key as the only eviction taint (none when key
// is empty), and whether it differs.
func Evict(node *v1.Node, key string, now time.Time) ([]v1.Taint, bool) {
	var out []v1.Taint
	changed, have := false, key == ""
	for _, t := range node.Spec.Taints {
		if t.Effect == v1.TaintEffectNoExecute && (t.Key == v1.TaintNodeNotReady || t.Key == v1.TaintNodeUnreachable) {
			if t.Key != key {
				changed = true
				continue
			}
			have = true
		}
		out = append(out, t)
	}
	if !have {
		out = append(out, v1.Taint{Key: key, Effect: v1.TaintEffectNoExecute, TimeAdded: &metav1.Time{Time: now}})
		changed = true
	}
	return out, changed
}
