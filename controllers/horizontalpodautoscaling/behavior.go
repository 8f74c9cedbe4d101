package horizontalpodautoscaling

import (
	"math"
	"slices"
	"time"

	autoscaling "k8s.io/api/autoscaling/v2"
	"k8s.io/utils/ptr"
)

const (
	// defaultWindow is how long a recommendation speaks against fewer pods.
	defaultWindow = 5 * time.Minute

	upLimit, upLimitText = "ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate"
	tooMany, tooManyText = "TooManyReplicas", "the desired replica count is more than the maximum replica count"
	tooFew, tooFewText   = "TooFewReplicas", "the desired replica count is less than the minimum replica count"
)

// Change is a past scaling, or a past recommendation.
type Change struct {
	Replicas int32
	At       time.Time
}

// History is what the rules of behaviour look back on.
type History struct {
	Recommendations []Change
	Ups, Downs      []Change // by how much
}

// Decision is the size to set and how it came about.
type Decision struct {
	Replicas       int32
	Stabilized     string
	Limited        bool
	LimitedReason  string
	LimitedMessage string
}

// Behave bounds a recommendation by the autoscaler's rules and limits.
func Behave(h *autoscaling.HorizontalPodAutoscaler, current, wanted int32, history *History, now time.Time) Decision {
	if h.Spec.Behavior == nil {
		return byDefault(h, current, wanted, history, now)
	}
	up, down := rules(h)
	low := ptr.Deref(h.Spec.MinReplicas, 1)
	upWindow, downWindow := window(up, 0), window(down, 300)
	longest := max(upWindow, downWindow)
	history.Recommendations = slices.DeleteFunc(history.Recommendations, func(c Change) bool { return c.At.Before(now.Add(-longest)) })
	floor, ceiling := wanted, wanted
	for _, c := range history.Recommendations {
		if !c.At.Before(now.Add(-upWindow)) {
			floor = min(floor, c.Replicas)
		}
		if !c.At.Before(now.Add(-downWindow)) {
			ceiling = max(ceiling, c.Replicas)
		}
	}
	history.Recommendations = append(history.Recommendations, Change{wanted, now})
	d := Decision{Replicas: current}
	if d.Replicas < floor {
		d.Replicas = floor
	}
	if d.Replicas > ceiling {
		d.Replicas = ceiling
	}
	switch {
	case d.Replicas < wanted:
		d.Stabilized = "ScaleUpStabilized"
	case d.Replicas > wanted:
		d.Stabilized = "ScaleDownStabilized"
	}
	switch {
	case d.Replicas > current:
		if most := atMost(up, current, history.Ups, history.Downs, now); d.Replicas > most {
			d.limit(max(most, current), upLimit, upLimitText)
		}
	case d.Replicas < current:
		if least := atLeast(down, current, history.Ups, history.Downs, now); d.Replicas < least {
			d.limit(min(least, current), "ScaleDownLimit", "the desired replica count is decreasing faster than the maximum scale rate")
		}
	}
	switch {
	case d.Replicas > h.Spec.MaxReplicas:
		d.limit(h.Spec.MaxReplicas, tooMany, tooManyText)
	case d.Replicas < low:
		d.limit(low, tooFew, tooFewText)
	}
	return d
}

// byDefault is for autoscalers without rules. These take the highest of the last
// five minutes' recommendations, and at most double the pods, or go to four.
func byDefault(h *autoscaling.HorizontalPodAutoscaler, current, wanted int32, history *History, now time.Time) Decision {
	history.Recommendations = slices.DeleteFunc(history.Recommendations, func(c Change) bool { return c.At.Before(now.Add(-defaultWindow)) })
	d := Decision{Replicas: wanted}
	for _, c := range history.Recommendations {
		d.Replicas = max(d.Replicas, c.Replicas)
	}
	history.Recommendations = append(history.Recommendations, Change{wanted, now})
	if d.Replicas != wanted {
		d.Stabilized = "ScaleDownStabilized"
	}
	low, most := ptr.Deref(h.Spec.MinReplicas, 1), max(2*current, 4)
	switch {
	case d.Replicas < low:
		d.limit(low, tooFew, tooFewText)
	case h.Spec.MaxReplicas > most && d.Replicas > most:
		d.limit(most, upLimit, upLimitText)
	case d.Replicas > h.Spec.MaxReplicas:
		d.limit(h.Spec.MaxReplicas, tooMany, tooManyText)
	}
	return d
}

func (d *Decision) limit(n int32, reason, message string) {
	d.Replicas, d.Limited, d.LimitedReason, d.LimitedMessage = n, true, reason, message
}

func window(r *autoscaling.HPAScalingRules, otherwise int32) time.Duration {
	return time.Duration(ptr.Deref(r.StabilizationWindowSeconds, otherwise)) * time.Second
}

// rules are the autoscaler's, with the defaults in the gaps.
func rules(h *autoscaling.HorizontalPodAutoscaler) (up, down *autoscaling.HPAScalingRules) {
	most := autoscaling.MaxChangePolicySelect
	up = &autoscaling.HPAScalingRules{SelectPolicy: &most, Policies: []autoscaling.HPAScalingPolicy{
		{Type: autoscaling.PodsScalingPolicy, Value: 4, PeriodSeconds: 15}, {Type: autoscaling.PercentScalingPolicy, Value: 100, PeriodSeconds: 15},
	}}
	down = &autoscaling.HPAScalingRules{SelectPolicy: &most, Policies: []autoscaling.HPAScalingPolicy{
		{Type: autoscaling.PercentScalingPolicy, Value: 100, PeriodSeconds: 15},
	}}
	if b := h.Spec.Behavior; b != nil {
		merge(up, b.ScaleUp)
		merge(down, b.ScaleDown)
	}
	return up, down
}

func merge(into, from *autoscaling.HPAScalingRules) {
	if from == nil {
		return
	}
	if from.StabilizationWindowSeconds != nil {
		into.StabilizationWindowSeconds = from.StabilizationWindowSeconds
	}
	if from.SelectPolicy != nil {
		into.SelectPolicy = from.SelectPolicy
	}
	if from.Policies != nil {
		into.Policies = from.Policies
	}
}

func within(changes []Change, period time.Duration, now time.Time) (n int32) {
	for _, c := range changes {
		if c.At.After(now.Add(-period)) {
			n += c.Replicas
		}
	}
	return n
}

// atMost is how large the policies let it become, of which the largest counts, or with
// SelectPolicy Min the smallest.
func atMost(r *autoscaling.HPAScalingRules, current int32, ups, downs []Change, now time.Time) int32 {
	return limited(r, current, ups, downs, now, 1, *r.SelectPolicy == autoscaling.MinChangePolicySelect)
}

// atLeast is how small they let it become.
func atLeast(r *autoscaling.HPAScalingRules, current int32, ups, downs []Change, now time.Time) int32 {
	return limited(r, current, ups, downs, now, -1, *r.SelectPolicy != autoscaling.MinChangePolicySelect)
}

// limited goes from what there was at the begin of each policy's period as far as the
// policy allows in the direction of sign, +1 or -1. Parts of a pod
// count for more up and for fewer down.
func limited(r *autoscaling.HPAScalingRules, current int32, ups, downs []Change, now time.Time, sign int32, least bool) int32 {
	if *r.SelectPolicy == autoscaling.DisabledPolicySelect {
		return current
	}
	var limits []int32
	for _, p := range r.Policies {
		period := time.Duration(p.PeriodSeconds) * time.Second
		start := current - within(ups, period, now) + within(downs, period, now)
		if p.Type == autoscaling.PodsScalingPolicy {
			limits = append(limits, start+sign*p.Value)
		} else if far := float64(start) * (1 + float64(sign*p.Value)/100); sign > 0 {
			limits = append(limits, int32(math.Ceil(far)))
		} else {
			limits = append(limits, int32(far))
		}
	}
	return pick(limits, least, current)
}

func pick(limits []int32, least bool, otherwise int32) int32 {
	switch {
	case len(limits) == 0:
		return otherwise
	case least:
		return slices.Min(limits)
	}
	return slices.Max(limits)
}
