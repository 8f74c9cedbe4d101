package deployment

import (
	"cmp"
	"math"
	"slices"
	"strconv"

	apps "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
)

// Step is a new size for one set.
type Step struct {
	Set      *apps.ReplicaSet
	Replicas int32
}

func replicas(d *apps.Deployment) int32 { return ptr.Deref(d.Spec.Replicas, 1) }

func rolling(d *apps.Deployment) bool {
	return d.Spec.Strategy.Type == apps.RollingUpdateDeploymentStrategyType
}

func bounds(d *apps.Deployment) (surge, unavailable int32) {
	if !rolling(d) || d.Spec.Strategy.RollingUpdate == nil {
		return 0, 0
	}
	u := d.Spec.Strategy.RollingUpdate
	zero := intstr.FromInt32(0)
	s, err := intstr.GetScaledValueFromIntOrPercent(ptr.To(ptr.Deref(u.MaxSurge, zero)), int(replicas(d)), true)
	if err != nil {
		s = 0
	}
	n, err := intstr.GetScaledValueFromIntOrPercent(ptr.To(ptr.Deref(u.MaxUnavailable, zero)), int(replicas(d)), false)
	if err != nil {
		n = 0
	}
	if s == 0 && n == 0 {
		n = 1 // both may round to zero; the rollout must be able to move
	}
	return int32(s), int32(n)
}

// MaxSurge is how many pods may exist beyond the wished number.
func MaxSurge(d *apps.Deployment) int32 {
	s, _ := bounds(d)
	return s
}

// MaxUnavailable is how many of the wished pods may be missing.
func MaxUnavailable(d *apps.Deployment) int32 {
	if !rolling(d) || replicas(d) == 0 {
		return 0
	}
	_, n := bounds(d)
	return min(n, replicas(d))
}

func active(sets []*apps.ReplicaSet) []*apps.ReplicaSet {
	var out []*apps.ReplicaSet
	for _, rs := range sets {
		if rs != nil && *rs.Spec.Replicas > 0 {
			out = append(out, rs)
		}
	}
	return out
}

func wished(sets []*apps.ReplicaSet) (n int32) {
	for _, rs := range sets {
		n += *rs.Spec.Replicas
	}
	return n
}

func available(sets []*apps.ReplicaSet) (n int32) {
	for _, rs := range sets {
		n += rs.Status.AvailableReplicas
	}
	return n
}

// NewReplicas is the size that the new set may have now.
func NewReplicas(d *apps.Deployment, all []*apps.ReplicaSet, newSet *apps.ReplicaSet) int32 {
	want, have := replicas(d), *newSet.Spec.Replicas
	if !rolling(d) || have >= want {
		return want
	}
	room := want + MaxSurge(d) - wished(all)
	if room <= 0 {
		return have
	}
	return have + min(room, want-have)
}

// ScaleDown shrinks the old sets: first their unhealthy pods, which serve
// nobody, then as many as availability allows, eldest set first.
func ScaleDown(d *apps.Deployment, old []*apps.ReplicaSet, newSet *apps.ReplicaSet) []Step {
	if wished(old) == 0 {
		return nil
	}
	least := replicas(d) - MaxUnavailable(d)
	newMissing := *newSet.Spec.Replicas - newSet.Status.AvailableReplicas
	room := wished(join(old, newSet)) - least - newMissing
	if room <= 0 {
		return nil
	}
	sorted := slices.SortedFunc(slices.Values(active(old)), elder)
	size := make(map[*apps.ReplicaSet]int32, len(sorted))
	var cleaned int32
	for _, rs := range sorted {
		size[rs] = *rs.Spec.Replicas
		sick := *rs.Spec.Replicas - rs.Status.AvailableReplicas
		if n := min(room-cleaned, sick); n > 0 {
			size[rs] -= n
			cleaned += n
		}
	}
	spare := available(join(old, newSet)) - least
	for _, rs := range sorted {
		if n := min(size[rs], spare); n > 0 {
			size[rs] -= n
			spare -= n
		}
	}
	var steps []Step
	for _, rs := range sorted {
		if size[rs] != *rs.Spec.Replicas {
			steps = append(steps, Step{rs, size[rs]})
		}
	}
	return steps
}

// Rescaled says whether a running set was last seen at another size of the
// Deployment.
func Rescaled(d *apps.Deployment, sets []*apps.ReplicaSet) bool {
	for _, rs := range active(sets) {
		noted, err := strconv.ParseInt(rs.Annotations[DesiredReplicas], 10, 32)
		if err == nil && int32(noted) != replicas(d) {
			return true
		}
	}
	return false
}

// Proportion spreads a change of the Deployment's size over its running sets.
func Proportion(d *apps.Deployment, old []*apps.ReplicaSet, newSet *apps.ReplicaSet) []Step {
	want := replicas(d)
	running := active(join(old, newSet))
	if len(running) <= 1 {
		only := newSet
		if len(running) == 1 {
			only = running[0]
		} else if only == nil && len(old) > 0 {
			only = slices.MaxFunc(old, elder)
		}
		if only == nil {
			return nil
		}
		return []Step{{only, want}}
	}
	if saturated(d, newSet) {
		var steps []Step
		for _, rs := range active(old) {
			steps = append(steps, Step{rs, 0})
		}
		return steps
	}
	if !rolling(d) {
		return nil
	}
	var allowed int32
	if want > 0 {
		allowed = want + MaxSurge(d)
	}
	add := allowed - wished(running)
	// The largest set takes what rounding leaves; among equals the newer when
	// growing and the elder when shrinking.
	slices.SortFunc(running, func(a, b *apps.ReplicaSet) int {
		if c := cmp.Compare(*b.Spec.Replicas, *a.Spec.Replicas); c != 0 {
			return c
		}
		if add > 0 {
			return elder(b, a)
		}
		return elder(a, b)
	})
	var given int32
	steps := make([]Step, len(running))
	for i, rs := range running {
		n := *rs.Spec.Replicas
		if add != 0 {
			share := fraction(d, rs)
			if add > 0 {
				share = min(share, add-given)
			} else {
				share = max(share, add-given)
			}
			n += share
			given += share
		}
		steps[i] = Step{rs, n}
	}
	if add != 0 {
		steps[0].Replicas = max(0, steps[0].Replicas+add-given)
	}
	return steps
}

// fraction is a set's part of the change, by the size it has of what was
// allowed when it was last scaled.
func fraction(d *apps.Deployment, rs *apps.ReplicaSet) int32 {
	if replicas(d) == 0 {
		return -*rs.Spec.Replicas
	}
	was, err := strconv.ParseInt(rs.Annotations[MaxReplicas], 10, 32)
	if err != nil || was == 0 {
		was = int64(replicas(d))
		if d.Status.Replicas > 0 {
			was = int64(d.Status.Replicas)
		}
	}
	next := float64(*rs.Spec.Replicas) * float64(replicas(d)+MaxSurge(d)) / float64(was)
	return int32(math.Round(next)) - *rs.Spec.Replicas
}

// saturated says whether the new set alone carries the whole Deployment.
func saturated(d *apps.Deployment, rs *apps.ReplicaSet) bool {
	if rs == nil {
		return false
	}
	noted, err := strconv.ParseInt(rs.Annotations[DesiredReplicas], 10, 32)
	return err == nil && *rs.Spec.Replicas == replicas(d) && int32(noted) == replicas(d) && rs.Status.AvailableReplicas == replicas(d)
}

// Surplus lists the empty sets beyond the history limit, lowest revision first.
func Surplus(d *apps.Deployment, old []*apps.ReplicaSet) []*apps.ReplicaSet {
	limit := d.Spec.RevisionHistoryLimit
	if limit == nil || *limit == math.MaxInt32 {
		return nil
	}
	var alive []*apps.ReplicaSet
	for _, rs := range old {
		if rs.DeletionTimestamp == nil {
			alive = append(alive, rs)
		}
	}
	n := len(alive) - int(*limit)
	if n <= 0 {
		return nil
	}
	slices.SortFunc(alive, func(a, b *apps.ReplicaSet) int {
		if c := cmp.Compare(revisionOf(a), revisionOf(b)); c != 0 {
			return c
		}
		return elder(a, b)
	})
	var out []*apps.ReplicaSet
	for _, rs := range alive[:n] {
		if rs.Status.Replicas == 0 && *rs.Spec.Replicas == 0 && rs.Generation <= rs.Status.ObservedGeneration {
			out = append(out, rs)
		}
	}
	return out
}
