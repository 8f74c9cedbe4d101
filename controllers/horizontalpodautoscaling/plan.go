package horizontalpodautoscaling

import (
	"math"
	"slices"
	"time"

	autoscaling "k8s.io/api/autoscaling/v2"
	v1 "k8s.io/api/core/v1"

	"skiff/controllers/podcontrol"
)

const (
	// tolerance is the deviation from the target that changes nothing, where the
	// autoscaler's rules name no other.
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

// counted leaves the samples that say something about the load.
func (g Groups) counted(samples map[string]Sample) map[string]int64 {
	values := map[string]int64{}
	for name, s := range samples {
		if !slices.Contains(g.Unready, name) && !slices.Contains(g.Ignored, name) {
			values[name] = s.Value
		}
	}
	return values
}

// Tolerances are the deviations from the target, down and up, that change
// nothing.
type Tolerances struct {
	Down, Up float64
}

func tolerances(h *autoscaling.HorizontalPodAutoscaler) Tolerances {
	t := Tolerances{tolerance, tolerance}
	b := h.Spec.Behavior
	if b != nil && b.ScaleDown != nil && b.ScaleDown.Tolerance != nil {
		t.Down = b.ScaleDown.Tolerance.AsApproximateFloat64()
	}
	if b != nil && b.ScaleUp != nil && b.ScaleUp.Tolerance != nil {
		t.Up = b.ScaleUp.Tolerance.AsApproximateFloat64()
	}
	return t
}

func (t Tolerances) within(ratio float64) bool { return 1-t.Down <= ratio && ratio <= 1+t.Up }

// Want is the number of pods that brings the counted values to the target,
// which is what one pod should use or, where requests is not nil, the percentage
// of what it requests.
func Want(current int32, counted, requests map[string]int64, g Groups, target int64, t Tolerances) int32 {
	ratio, ok := usage(counted, requests, target)
	if !ok {
		return current
	}
	up := ratio > 1
	if len(g.Missing) == 0 && (!up || len(g.Unready) == 0) {
		if t.within(ratio) {
			return current
		}
		return int32(math.Ceil(ratio * float64(g.Ready)))
	}
	values := map[string]int64{}
	for name, v := range counted {
		values[name] = v
	}
	// What is not known speaks against the change.
	for _, name := range g.Missing {
		switch {
		case ratio < 1 && requests != nil:
			values[name] = requests[name] * max(100, target) / 100
		case ratio < 1:
			values[name] = target
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
	if !ok || t.within(again) || ratio < 1 && again > 1 || ratio > 1 && again < 1 {
		return current
	}
	n := int32(math.Ceil(again * float64(len(values))))
	if again < 1 && n > current || again > 1 && n < current {
		return current
	}
	return n
}

// usage is how the values relate to the target. It is rounded down to whole
// percents, or to whole thousandths per pod, before it is compared: that is what
// the status shows.
func usage(values, requests map[string]int64, target int64) (float64, bool) {
	if len(values) == 0 || target == 0 {
		return 0, false
	}
	if requests == nil {
		return float64(average(values)) / float64(target), true
	}
	percent, ok := utilization(values, requests)
	return float64(percent) / float64(target), ok
}

func average(values map[string]int64) int64 {
	var sum int64
	for _, v := range values {
		sum += v
	}
	return sum / int64(len(values))
}

func utilization(values, requests map[string]int64) (percent int32, ok bool) {
	var sum, asked int64
	for name, v := range values {
		// The metrics API may still know pods that are gone.
		if r, known := requests[name]; known {
			sum, asked = sum+v, asked+r
		}
	}
	if asked == 0 {
		return 0, false
	}
	return int32(sum * 100 / asked), true
}

// WantTotal is the number of pods where one value stands for all of them and
// should be the target; ready is how many pods are Ready.
func WantTotal(current int32, ready int, value, target int64, t Tolerances) int32 {
	ratio := float64(value) / float64(target)
	switch {
	case current == 0:
		return int32(math.Ceil(ratio))
	case t.within(ratio):
		return current
	}
	return int32(math.Ceil(ratio * float64(ready)))
}

// WantShared is the number of pods where one value is shared by all of them, of
// which the target is one pod's part.
func WantShared(replicas int32, value, target int64, t Tolerances) int32 {
	if t.within(float64(value) / (float64(target) * float64(replicas))) {
		return replicas
	}
	return int32(math.Ceil(float64(value) / float64(target)))
}
