package framework

import (
	"maps"
	"slices"

	v1 "k8s.io/api/core/v1"
)

func stringMapEqual(a, b map[string]string) bool { return maps.Equal(a, b) }
func stringsEqual(a, b []string) bool            { return slices.Equal(a, b) }

func resourceListEqual(a, b v1.ResourceList) bool {
	if len(a) != len(b) {
		return false
	}
	for name, q := range a {
		o, ok := b[name]
		if !ok || q.Cmp(o) != 0 {
			return false
		}
	}
	return true
}

func taintsEqual(a, b []v1.Taint) bool {
	return slices.EqualFunc(a, b, func(x, y v1.Taint) bool {
		return x.Key == y.Key && x.Value == y.Value && x.Effect == y.Effect
	})
}

// conditionsChanged ignores heartbeats.
func conditionsChanged(a, b []v1.NodeCondition) bool {
	byType := func(cs []v1.NodeCondition) map[v1.NodeConditionType]v1.ConditionStatus {
		m := make(map[v1.NodeConditionType]v1.ConditionStatus, len(cs))
		for i := range cs {
			m[cs[i].Type] = cs[i].Status
		}
		return m
	}
	return !maps.Equal(byType(a), byType(b))
}

func claimStatusesEqual(a, b []v1.PodResourceClaimStatus) bool {
	return slices.EqualFunc(a, b, func(x, y v1.PodResourceClaimStatus) bool {
		if x.Name != y.Name || (x.ResourceClaimName == nil) != (y.ResourceClaimName == nil) {
			return false
		}
		return x.ResourceClaimName == nil || *x.ResourceClaimName == *y.ResourceClaimName
	})
}
