package horizontalpodautoscaling

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	autoscaling "k8s.io/api/autoscaling/v2"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/utils/ptr"
)

func TestBehave(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	pods := func(n int32) *autoscaling.HPAScalingRules {
		return &autoscaling.HPAScalingRules{Policies: []autoscaling.HPAScalingPolicy{{Type: autoscaling.PodsScalingPolicy, Value: n, PeriodSeconds: 60}}}
	}
	for _, c := range []struct {
		name            string
		behavior        *autoscaling.HorizontalPodAutoscalerBehavior
		past            []Change
		current, wanted int32
		want            Decision
	}{
		{name: "as wanted", current: 2, wanted: 3, want: Decision{Replicas: 3}},
		{name: "one goes to four at most", current: 1, wanted: 10, want: Decision{Replicas: 4, Limited: true, LimitedReason: upLimit, LimitedMessage: upLimitText}},
		{name: "five double at most", current: 5, wanted: 20, want: Decision{Replicas: 10, Limited: true, LimitedReason: upLimit, LimitedMessage: upLimitText}},
		{name: "the maximum", current: 6, wanted: 20, want: Decision{Replicas: 12, Limited: true, LimitedReason: tooMany, LimitedMessage: tooManyText}},
		{name: "the minimum", current: 3, wanted: 1, want: Decision{Replicas: 2, Limited: true, LimitedReason: tooFew, LimitedMessage: tooFewText}},
		{name: "a recent recommendation keeps pods", past: []Change{{7, now.Add(-4 * time.Minute)}}, current: 8, wanted: 3,
			want: Decision{Replicas: 7, Stabilized: "ScaleDownStabilized"}},
		{name: "an old recommendation does not", past: []Change{{7, now.Add(-6 * time.Minute)}}, current: 8, wanted: 3, want: Decision{Replicas: 3}},
		{name: "rules for more pods", behavior: &autoscaling.HorizontalPodAutoscalerBehavior{ScaleUp: pods(1)}, current: 2, wanted: 9,
			want: Decision{Replicas: 3, Limited: true, LimitedReason: upLimit, LimitedMessage: upLimitText}},
		{name: "rules for fewer pods", behavior: &autoscaling.HorizontalPodAutoscalerBehavior{ScaleDown: pods(2)}, current: 9, wanted: 3,
			want: Decision{Replicas: 7, Limited: true, LimitedReason: "ScaleDownLimit", LimitedMessage: "the desired replica count is decreasing faster than the maximum scale rate"}},
		{name: "rules that wait", behavior: &autoscaling.HorizontalPodAutoscalerBehavior{ScaleUp: &autoscaling.HPAScalingRules{StabilizationWindowSeconds: ptr.To[int32](60)}},
			past: []Change{{3, now.Add(-time.Minute / 2)}}, current: 2, wanted: 5, want: Decision{Replicas: 3, Stabilized: "ScaleUpStabilized"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := &autoscaling.HorizontalPodAutoscaler{Spec: autoscaling.HorizontalPodAutoscalerSpec{MinReplicas: ptr.To[int32](2), MaxReplicas: 12, Behavior: c.behavior}}
			if diff := cmp.Diff(c.want, Behave(h, c.current, c.wanted, &History{Recommendations: c.past}, now)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestTolerances(t *testing.T) {
	h := &autoscaling.HorizontalPodAutoscaler{Spec: autoscaling.HorizontalPodAutoscalerSpec{Behavior: &autoscaling.HorizontalPodAutoscalerBehavior{
		ScaleUp: &autoscaling.HPAScalingRules{Tolerance: ptr.To(resource.MustParse("0.3"))}}}}
	given := tolerances(h)
	for ratio, want := range map[float64]bool{0.89: false, 0.91: true, 1: true, 1.29: true, 1.31: false} {
		if got := given.within(ratio); got != want {
			t.Errorf("%v is within the tolerances: %v, want %v", ratio, got, want)
		}
	}
}
