package noderesources

import (
	"math"

	configv1 "k8s.io/kube-scheduler/config/v1"

	"skiff/scheduler/framework"
)

// leastAllocated prefers the emptiest node.
func leastAllocated(ls []load) int64 {
	return mean(ls, func(l load) int64 {
		if l.requested > l.allocatable {
			return 0
		}
		return (l.allocatable - l.requested) * framework.MaxNodeScore / l.allocatable
	})
}

// mostAllocated prefers the fullest node.
func mostAllocated(ls []load) int64 {
	return mean(ls, func(l load) int64 {
		return min(l.requested, l.allocatable) * framework.MaxNodeScore / l.allocatable
	})
}

func mean(ls []load, of func(load) int64) int64 {
	var sum, weights int64
	for _, l := range ls {
		sum += of(l) * l.weight
		weights += l.weight
	}
	if weights == 0 {
		return 0
	}
	return sum / weights
}

// maxShapeScore is the scale of the configured points.
const maxShapeScore = 10

// capacityRatio scores by a line through the configured points.
func capacityRatio(shape []configv1.UtilizationShapePoint) func([]load) int64 {
	line := func(utilization int64) int64 {
		at := func(i int) int64 { return int64(shape[i].Score) * (framework.MaxNodeScore / maxShapeScore) }
		for i := range shape {
			if utilization <= int64(shape[i].Utilization) {
				if i == 0 {
					return at(0)
				}
				x0, x1 := int64(shape[i-1].Utilization), int64(shape[i].Utilization)
				return at(i-1) + (at(i)-at(i-1))*(utilization-x0)/(x1-x0)
			}
		}
		return at(len(shape) - 1)
	}
	return func(ls []load) int64 {
		var sum, weights int64
		for _, l := range ls {
			s := line(100)
			if l.requested <= l.allocatable {
				s = line(l.requested * 100 / l.allocatable)
			}
			if s > 0 {
				sum += s * l.weight
				weights += l.weight
			}
		}
		if weights == 0 {
			return 0
		}
		return int64(math.Round(float64(sum) / float64(weights)))
	}
}
