package disruption

import (
	"maps"
	"time"

	v1 "k8s.io/api/core/v1"
	policy "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	pdb "k8s.io/component-helpers/apps/poddisruptionbudget"

	"skiff/controllers/podcontrol"
)

// patience is how long an eviction that was granted may take to show as a
// deletion.
const patience = 2 * time.Minute

// NeedsScale says whether the budget is a part of the wished number of pods.
func NeedsScale(b *policy.PodDisruptionBudget) bool {
	return b.Spec.MaxUnavailable != nil || b.Spec.MinAvailable != nil && b.Spec.MinAvailable.Type == intstr.String
}

// Next is the budget with the status that its pods call for, and when to look
// again.
func Next(b *policy.PodDisruptionBudget, pods []*v1.Pod, expected int32, now time.Time) (*policy.PodDisruptionBudget, time.Duration, error) {
	var desired int32
	switch {
	case b.Spec.MaxUnavailable != nil:
		n, err := intstr.GetScaledValueFromIntOrPercent(b.Spec.MaxUnavailable, int(expected), true)
		if err != nil {
			return nil, 0, err
		}
		desired = max(0, expected-int32(n))
	case b.Spec.MinAvailable != nil:
		n, err := intstr.GetScaledValueFromIntOrPercent(b.Spec.MinAvailable, int(expected), true)
		if err != nil {
			return nil, 0, err
		}
		desired = int32(n)
	}
	disrupted, again := pending(b.Status.DisruptedPods, pods, now)
	var healthy int32
	for _, p := range pods {
		if p.DeletionTimestamp != nil {
			continue
		}
		if at, granted := disrupted[p.Name]; granted && at.Add(patience).After(now) {
			continue
		}
		if podcontrol.Ready(p) {
			healthy++
		}
	}
	next := b.DeepCopy()
	next.Status.CurrentHealthy = healthy
	next.Status.DesiredHealthy = desired
	next.Status.ExpectedPods = expected
	next.Status.DisruptionsAllowed = max(0, healthy-desired)
	if expected <= 0 {
		next.Status.DisruptionsAllowed = 0
	}
	next.Status.DisruptedPods = disrupted
	next.Status.ObservedGeneration = b.Generation
	pdb.UpdateDisruptionAllowedCondition(next)
	return next, again, nil
}

// pending keeps the granted evictions whose pods still live.
func pending(granted map[string]metav1.Time, pods []*v1.Pod, now time.Time) (map[string]metav1.Time, time.Duration) {
	if len(granted) == 0 {
		return nil, 0
	}
	alive := map[string]bool{}
	for _, p := range pods {
		if p.DeletionTimestamp == nil {
			alive[p.Name] = true
		}
	}
	out := maps.Clone(granted)
	var again time.Duration
	for name, at := range granted {
		left := at.Add(patience).Sub(now)
		if !alive[name] || left <= 0 {
			delete(out, name)
			continue
		}
		if again == 0 || left < again {
			again = left
		}
	}
	if len(out) == 0 {
		out = nil
	}
	return out, again
}
