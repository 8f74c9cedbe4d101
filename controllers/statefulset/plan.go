package statefulset

import (
	"slices"
	"time"

	apps "k8s.io/api/apps/v1"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"skiff/controllers/podcontrol"
)

// Revisions are the two that a set's pods may have.
type Revisions struct {
	// Current is what pods had before the last change, Update what they are to
	// become; the same when no update is under way.
	Current, Update string
}

// Place is a pod that is to be made.
type Place struct {
	Ordinal  int
	Revision string
}

// Plan is what to do now; in order, one thing at a time unless the set works in
// parallel.
type Plan struct {
	Create []Place
	Delete []*v1.Pod
	// Recreate are those of Delete that ended and will be made again.
	Recreate []*v1.Pod
	// Repair are pods that lost their labels or claims.
	Repair []*v1.Pod
	// Wait is when a ready pod becomes available.
	Wait time.Duration
}

func revisionOf(p *v1.Pod) string { return p.Labels[apps.ControllerRevisionHashLabelKey] }

func runningReady(p *v1.Pod) bool { return p.Status.Phase == v1.PodRunning && podcontrol.Ready(p) }

func partition(set *apps.StatefulSet) int {
	if u := set.Spec.UpdateStrategy.RollingUpdate; u != nil && u.Partition != nil {
		return int(*u.Partition)
	}
	return 0
}

// revisionFor is the revision of a pod that is made at an ordinal now.
func revisionFor(set *apps.StatefulSet, r Revisions, ordinal int) string {
	if set.Spec.UpdateStrategy.Type != apps.RollingUpdateStatefulSetStrategyType {
		return r.Update
	}
	u := set.Spec.UpdateStrategy.RollingUpdate
	if u == nil && ordinal < first(set)+int(set.Status.CurrentReplicas) || u != nil && ordinal < first(set)+partition(set) {
		return r.Current
	}
	return r.Update
}

func parallel(set *apps.StatefulSet) bool {
	return set.Spec.PodManagementPolicy == apps.ParallelPodManagement
}

// MakePlan decides the next step.
func MakePlan(set *apps.StatefulSet, pods []*v1.Pod, r Revisions, lacking func(ordinal int) bool, now time.Time) Plan {
	var plan Plan
	if set.DeletionTimestamp != nil {
		return plan
	}
	from, n := first(set), replicas(set)
	at := make([]*v1.Pod, n)
	var surplus []*v1.Pod
	for _, p := range pods {
		switch o := ordinalOf(set, p); {
		case o < 0:
		case o >= from && o < from+n:
			at[o-from] = p
		default:
			surplus = append(surplus, p)
		}
	}
	slices.SortFunc(surplus, func(a, b *v1.Pod) int { return ordinalOf(set, b) - ordinalOf(set, a) })
	ordered := !parallel(set)
	available := func(p *v1.Pod) bool {
		if !runningReady(p) {
			return false
		}
		if podcontrol.Available(p, set.Spec.MinReadySeconds, now) {
			return true
		}
		if d := podcontrol.AvailableIn(p, set.Spec.MinReadySeconds, now); d > 0 && (plan.Wait == 0 || d < plan.Wait) {
			plan.Wait = d
		}
		return false
	}
	for i, p := range at {
		switch {
		case p == nil:
			plan.Create = append(plan.Create, Place{from + i, revisionFor(set, r, from+i)})
			if ordered {
				return plan
			}
			continue
		case podcontrol.Terminal(p):
			if p.DeletionTimestamp == nil {
				plan.Delete = append(plan.Delete, p)
				plan.Recreate = append(plan.Recreate, p)
			}
			if ordered {
				return plan
			}
			continue
		case p.DeletionTimestamp != nil:
			if ordered {
				return plan
			}
			continue
		}
		if !identified(p, from+i) || p.Status.Phase == v1.PodPending && lacking(from+i) {
			plan.Repair = append(plan.Repair, p)
		}
		if !available(p) && ordered {
			return plan
		}
	}
	if done := plan.shrink(surplus, at, ordered, available); !done {
		return plan
	}
	if set.Spec.UpdateStrategy.Type != apps.OnDeleteStatefulSetStrategyType {
		plan.update(set, at, r, available)
	}
	return plan
}

// shrink takes the surplus off from the top and says whether the update may go
// on.
func (plan *Plan) shrink(surplus, at []*v1.Pod, ordered bool, available func(*v1.Pod) bool) bool {
	var sick *v1.Pod
	rising := slices.Clone(surplus)
	slices.Reverse(rising)
	for _, p := range slices.Concat(at, rising) {
		if p != nil && sick == nil && (!runningReady(p) || p.DeletionTimestamp != nil) {
			sick = p
		}
	}
	for _, p := range surplus {
		if p.DeletionTimestamp != nil {
			if ordered {
				return false
			}
			continue
		}
		if ordered && !available(p) && p != sick {
			return false
		}
		plan.Delete = append(plan.Delete, p)
		if ordered {
			return false
		}
	}
	return true
}

// update replaces pods of other revisions from the top down to the partition.
func (plan *Plan) update(set *apps.StatefulSet, at []*v1.Pod, r Revisions, available func(*v1.Pod) bool) {
	most := 1
	if u := set.Spec.UpdateStrategy.RollingUpdate; u != nil && u.MaxUnavailable != nil {
		if n, err := intstr.GetScaledValueFromIntOrPercent(u.MaxUnavailable, replicas(set), true); err == nil {
			most = max(1, n)
		}
	}
	missing := 0
	for i := len(at) - 1; i >= partition(set); i-- {
		if at[i] == nil || !available(at[i]) || at[i].DeletionTimestamp != nil {
			missing++
		}
	}
	for i := len(at) - 1; i >= partition(set); i-- {
		p := at[i]
		if p == nil {
			continue
		}
		old := revisionOf(p) != r.Update && p.DeletionTimestamp == nil && !slices.Contains(plan.Delete, p)
		healthy := available(p) && p.DeletionTimestamp == nil
		switch {
		case old && !healthy:
			// It serves nobody, so its loss costs nothing.
			plan.Delete = append(plan.Delete, p)
		case old && missing < most:
			plan.Delete = append(plan.Delete, p)
			missing++
		}
		if missing >= most && !(old && !healthy && most > 1) {
			return
		}
	}
}

// NextStatus counts the pods.
func NextStatus(set *apps.StatefulSet, pods []*v1.Pod, r Revisions, now time.Time) apps.StatefulSetStatus {
	s := apps.StatefulSetStatus{
		ObservedGeneration: set.Generation, CurrentRevision: r.Current, UpdateRevision: r.Update,
		CollisionCount: set.Status.CollisionCount, Conditions: set.Status.Conditions,
	}
	for _, p := range pods {
		if ordinalOf(set, p) < 0 {
			continue
		}
		s.Replicas++
		if runningReady(p) {
			s.ReadyReplicas++
			if podcontrol.Available(p, set.Spec.MinReadySeconds, now) {
				s.AvailableReplicas++
			}
		}
		if p.DeletionTimestamp == nil {
			if revisionOf(p) == r.Current {
				s.CurrentReplicas++
			}
			if revisionOf(p) == r.Update {
				s.UpdatedReplicas++
			}
		}
	}
	if set.Spec.UpdateStrategy.Type == apps.RollingUpdateStatefulSetStrategyType &&
		s.UpdatedReplicas == s.Replicas && s.ReadyReplicas == s.Replicas && int(s.Replicas) >= replicas(set) {
		s.CurrentReplicas, s.CurrentRevision = s.UpdatedReplicas, s.UpdateRevision
	}
	return s
}
