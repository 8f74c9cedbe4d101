package defaultpreemption

import (
	"cmp"
	"math"
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	corev1helpers "k8s.io/component-helpers/scheduling/corev1"

	"skiff/scheduler/framework"
)

// started is when the pod started; one that did not counts as started now.
func started(p *v1.Pod) time.Time {
	if p.Status.StartTime != nil {
		return p.Status.StartTime.Time
	}
	return time.Now()
}

// moreImportant orders by priority, then by age.
func moreImportant(a, b *v1.Pod) int {
	if c := cmp.Compare(corev1helpers.PodPriority(b), corev1helpers.PodPriority(a)); c != 0 {
		return c
	}
	return started(a).Compare(started(b))
}

// splitByBudget separates the pods whose eviction a disruption budget does not
// allow. Each pod uses up a disruption, in the given order.
func splitByBudget(pods []*framework.PodInfo, budgets []*policyv1.PodDisruptionBudget) (violating, rest []*framework.PodInfo) {
	left := make([]int32, len(budgets))
	for i, b := range budgets {
		left[i] = b.Status.DisruptionsAllowed
	}
	for _, p := range pods {
		violates := false
		if len(p.Pod.Labels) > 0 {
			for i, b := range budgets {
				if b.Namespace != p.Pod.Namespace {
					continue
				}
				sel, err := metav1.LabelSelectorAsSelector(b.Spec.Selector)
				if err != nil || sel.Empty() || !sel.Matches(labels.Set(p.Pod.Labels)) {
					continue
				}
				if _, already := b.Status.DisruptedPods[p.Pod.Name]; already {
					continue
				}
				left[i]--
				violates = violates || left[i] < 0
			}
		}
		if violates {
			violating = append(violating, p)
		} else {
			rest = append(rest, p)
		}
	}
	return violating, rest
}

// choose picks the candidate with the fewest violated budgets, then the lowest
// top priority, the lowest sum of priorities, the fewest victims, and the
// latest start of the most important victim.
func choose(cs []candidate) candidate {
	sum := func(c candidate) (n int64) {
		for _, p := range c.victims.Pods {
			// Shifted, so that many pods of negative priority do not count as less.
			n += int64(corev1helpers.PodPriority(p)) + int64(math.MaxInt32+1)
		}
		return n
	}
	top := func(c candidate) int32 {
		if len(c.victims.Pods) == 0 {
			return math.MinInt32
		}
		return corev1helpers.PodPriority(c.victims.Pods[0])
	}
	earliest := func(c candidate) time.Time {
		var t time.Time
		for _, p := range c.victims.Pods {
			if corev1helpers.PodPriority(p) == top(c) {
				if s := started(p); t.IsZero() || s.Before(t) {
					t = s
				}
			}
		}
		return t
	}
	return slices.MinFunc(cs, func(a, b candidate) int {
		return cmp.Or(
			cmp.Compare(a.victims.NumPDBViolations, b.victims.NumPDBViolations),
			cmp.Compare(top(a), top(b)),
			cmp.Compare(sum(a), sum(b)),
			cmp.Compare(len(a.victims.Pods), len(b.victims.Pods)),
			earliest(b).Compare(earliest(a)),
		)
	})
}
