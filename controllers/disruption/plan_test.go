package disruption

import (
	"strconv"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	policy "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
)

func TestNext(t *testing.T) {
	now := time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
	pods := func(ready, not int) []*v1.Pod {
		var out []*v1.Pod
		for i := range ready + not {
			p := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p" + strconv.Itoa(i)}}
			if i < ready {
				p.Status.Conditions = []v1.PodCondition{{Type: v1.PodReady, Status: v1.ConditionTrue}}
			}
			out = append(out, p)
		}
		return out
	}
	value := func(s string) *intstr.IntOrString { return ptr.To(intstr.Parse(s)) }
	for name, tc := range map[string]struct {
		spec     policy.PodDisruptionBudgetSpec
		pods     []*v1.Pod
		expected int32
		granted  map[string]metav1.Time
		allowed  int32
	}{
		"minimum number":     {policy.PodDisruptionBudgetSpec{MinAvailable: value("2")}, pods(3, 0), 3, nil, 1},
		"minimum part":       {policy.PodDisruptionBudgetSpec{MinAvailable: value("50%")}, pods(3, 1), 4, nil, 1},
		"most unavailable":   {policy.PodDisruptionBudgetSpec{MaxUnavailable: value("1")}, pods(3, 0), 4, nil, 0},
		"no pods":            {policy.PodDisruptionBudgetSpec{MinAvailable: value("0")}, nil, 0, nil, 0},
		"granted ones count": {policy.PodDisruptionBudgetSpec{MinAvailable: value("1")}, pods(3, 0), 3, map[string]metav1.Time{"p0": {Time: now}}, 1},
		"grants do not last": {policy.PodDisruptionBudgetSpec{MinAvailable: value("1")}, pods(3, 0), 3, map[string]metav1.Time{"p0": {Time: now.Add(-time.Hour)}}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			b := &policy.PodDisruptionBudget{Spec: tc.spec}
			b.Status.DisruptedPods = tc.granted
			next, _, err := Next(b, tc.pods, tc.expected, now)
			if err != nil {
				t.Fatal(err)
			}
			if next.Status.DisruptionsAllowed != tc.allowed {
				t.Errorf("allowed %d, want %d: %+v", next.Status.DisruptionsAllowed, tc.allowed, next.Status)
			}
		})
	}
}
