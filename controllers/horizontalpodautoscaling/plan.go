package horizontalpodautoscaling

import (
	"math"
	"slices"
	"time"

	autoscaling "k8s.io/api/autoscaling/v2"
	v1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"skiff/controllers/podcontrol"
)

const (
	// tolerance is the deviation from the target that changes nothing.
	tolerance = 0.1
	// warmup is how long a new pod's CPU is not believed, readiness how long its
	// first readiness may take.
	warmup    = 5 * time.Minute
	readiness = 30 * time.Second
)

// Sample is one pod's value, in thousandths, and when it was taken over which
// time.
type Sample struct {
	Value  int64
	At     time.Time
	Window time.Duration
}

// Groups sorts pods by what their samples are worth.
type Groups struct {
	Ready            int
	Unready, Missing []string
	Ignored          []string
}

// Group decides which samples count. CPU of pods that are starting does not.
func Group(pods []*v1.Pod, samples map[string]Sample, cpu bool, now time.Time) Groups {
	var g Groups
	for _, p := range pods {
		if p.DeletionTimestamp != nil || p.Status.Phase == v1.PodFailed {
			g.Ignored = append(g.Ignored, p.Name)
			continue
		}
		if p.Status.Phase == v1.PodPending {
			g.Unready = append(g.Unready, p.Name)
			continue
		}
		s, ok := samples[p.Name]
		if !ok {
			g.Missing = append(g.Missing, p.Name)
			continue
		}
		if cpu {
			c := podcontrol.Condition(&p.Status, v1.PodReady)
			unready := c == nil || p.Status.StartTime == nil
			if !unready {
				start := p.Status.StartTime.Time
				if start.Add(warmup).After(now) {
					unready = c.Status == v1.ConditionFalse || s.At.Before(c.LastTransitionTime.Add(s.Window))
				} else {
					unready = c.Status == v1.ConditionFalse && start.Add(readiness).After(c.LastTransitionTime.Time)
				}
			}
			if unready {
				g.Unready = append(g.Unready, p.Name)
				continue
			}
		}
		g.Ready++
	}
	return g
}

// Want is the number of pods that brings the samples to the target, which is a
// sum over one pod (relative false) or a part of what it requests. requests is
// nil for sums.
func Want(current int32, samples map[string]Sample, requests map[string]int64, g Groups, target float64) int32 {
	values := map[string]int64{}
	for name, s := range samples {
		if !slices.Contains(g.Unready, name) && !slices.Contains(g.Ignored, name) {
			values[name] = s.Value
		}
	}
	ratio, ok := usage(values, requests, target)
	if !ok {
		return current
	}
	up := ratio > 1
	if len(g.Missing) == 0 && (!up || len(g.Unready) == 0) {
		if math.Abs(1-ratio) <= tolerance {
			return current
		}
		return int32(math.Ceil(ratio * float64(g.Ready)))
	}
	// What is not known speaks against the change.
	for _, name := range g.Missing {
		switch {
		case ratio < 1 && requests != nil:
			values[name] = int64(float64(requests[name]) * max(1, target))
		case ratio < 1:
			values[name] = int64(target)
		default:
			values[name] = 0
		}
	}
	if up {
		for _, name := range g.Unready {
			values[name] = 0
		}
	}
	again, ok := usage(values, requests, target)
	if !ok || math.Abs(1-again) <= tolerance || ratio < 1 && again > 1 || ratio > 1 && again < 1 {
		return current
	}
	n := int32(math.Ceil(again * float64(len(values))))
	if again < 1 && n > current || again > 1 && n < current {
		return current
	}
	return n
}

func usage(values map[string]int64, requests map[string]int64, target float64) (float64, bool) {
	if len(values) == 0 || target == 0 {
		return 0, false
	}
	var sum, asked int64
	for name, v := range values {
		sum += v
		asked += requests[name]
	}
	if requests == nil {
		return float64(sum) / float64(len(values)) / target, true
	}
	if asked == 0 {
		return 0, false
	}
	return float64(sum) / float64(asked) / target, true
}

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
	limit := func(n int32, reason, message string) {
		d.Replicas, d.Limited, d.LimitedReason, d.LimitedMessage = n, true, reason, message
	}
	switch {
	case d.Replicas > current:
		if most := atMost(up, current, history.Ups, history.Downs, now); d.Replicas > most {
			limit(max(most, current), "ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate")
		}
	case d.Replicas < current:
		if least := atLeast(down, current, history.Ups, history.Downs, now); d.Replicas < least {
			limit(min(least, current), "ScaleDownLimit", "the desired replica count is decreasing faster than the maximum scale rate")
		}
	}
	switch {
	case d.Replicas > h.Spec.MaxReplicas:
		limit(h.Spec.MaxReplicas, "TooManyReplicas", "the desired replica count is more than the maximum replica count")
	case d.Replicas < low:
		limit(low, "TooFewReplicas", "the desired replica count is less than the minimum replica count")
	}
	return d
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

func atMost(r *autoscaling.HPAScalingRules, current int32, ups, downs []Change, now time.Time) int32 {
	if *r.SelectPolicy == autoscaling.DisabledPolicySelect {
		return current
	}
	var limits []int32
	for _, p := range r.Policies {
		period := time.Duration(p.PeriodSeconds) * time.Second
		start := current - within(ups, period, now) + within(downs, period, now)
		if p.Type == autoscaling.PodsScalingPolicy {
			limits = append(limits, start+p.Value)
		} else {
			limits = append(limits, int32(math.Ceil(float64(start)*(1+float64(p.Value)/100))))
		}
	}
	return pick(limits, *r.SelectPolicy == autoscaling.MinChangePolicySelect, current)
}

func atLeast(r *autoscaling.HPAScalingRules, current int32, ups, downs []Change, now time.Time) int32 {
	if *r.SelectPolicy == autoscaling.DisabledPolicySelect {
		return current
	}
	var limits []int32
	for _, p := range r.Policies {
		period := time.Duration(p.PeriodSeconds) * time.Second
		start := current - within(ups, period, now) + within(downs, period, now)
		if p.Type == autoscaling.PodsScalingPolicy {
			limits = append(limits, start-p.Value)
		} else {
			limits = append(limits, int32(float64(start)*(1-float64(p.Value)/100)))
		}
	}
	return pick(limits, *r.SelectPolicy != autoscaling.MinChangePolicySelect, current)
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
