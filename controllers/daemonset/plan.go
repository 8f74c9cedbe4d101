package daemonset

import (
	"cmp"
	"slices"
	"time"

	apps "k8s.io/api/apps/v1"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"skiff/controllers/podcontrol"
)

// burst bounds the creations or deletions of one sync.
const burst = 250

// retry is how long an ended daemon pod is left before it is replaced.
const retry = time.Second

// Plan is which nodes get a pod and which pods go.
type Plan struct {
	Create []string
	Delete []*v1.Pod
	// Ended are those of Delete that failed or succeeded, for the events.
	Ended []*v1.Pod
	// Wait is when to look again.
	Wait time.Duration
}

func byNode(pods []*v1.Pod) map[string][]*v1.Pod {
	out := map[string][]*v1.Pod{}
	for _, p := range pods {
		if n := target(p); n != "" {
			out[n] = append(out[n], p)
		}
	}
	return out
}

func current(p *v1.Pod, hash string) bool {
	return hash != "" && p.Labels[apps.ControllerRevisionHashLabelKey] == hash
}

func elder(a, b *v1.Pod) int {
	return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
}

// Decide is the plan of one sync: a rolling update goes on once every node has
// what it should have.
func Decide(ds *apps.DaemonSet, nodes []*v1.Node, pods []*v1.Pod, hash string, now time.Time) Plan {
	plan := MakePlan(ds, nodes, pods, hash, now)
	if len(plan.Create)+len(plan.Delete) > 0 {
		return plan
	}
	update := MakeUpdate(ds, nodes, pods, hash, now)
	update.Wait = plan.Wait
	return update
}

// MakePlan puts one pod on each node that fits and takes those off that do
// not. During a surge the old pod stays until the new one is available.
func MakePlan(ds *apps.DaemonSet, nodes []*v1.Node, pods []*v1.Pod, hash string, now time.Time) Plan {
	var plan Plan
	on := byNode(pods)
	surge, _ := limits(ds, len(nodes))
	known := map[string]bool{}
	for _, node := range nodes {
		known[node.Name] = true
		run, stay := Fits(ds, node)
		here := on[node.Name]
		switch {
		case run && len(here) == 0:
			plan.Create = append(plan.Create, node.Name)
		case stay:
			plan.settle(ds, here, hash, surge > 0, now)
		default:
			for _, p := range here {
				if p.DeletionTimestamp == nil {
					plan.Delete = append(plan.Delete, p)
				}
			}
		}
	}
	for name, left := range on {
		if known[name] {
			continue
		}
		// The node is gone; a pod that was never bound would wait for ever.
		for _, p := range left {
			if p.Spec.NodeName == "" && p.DeletionTimestamp == nil {
				plan.Delete = append(plan.Delete, p)
			}
		}
	}
	plan.bound()
	return plan
}

func (plan *Plan) bound() {
	plan.Create = plan.Create[:min(len(plan.Create), burst)]
	plan.Delete = plan.Delete[:min(len(plan.Delete), burst)]
}

// settle keeps the right pods of one node.
func (plan *Plan) settle(ds *apps.DaemonSet, here []*v1.Pod, hash string, surging bool, now time.Time) {
	var running []*v1.Pod
	for _, p := range here {
		switch {
		case p.DeletionTimestamp != nil:
		case podcontrol.Terminal(p):
			// The kubelet may refuse the pod again and again: replace it slowly.
			if wait := p.CreationTimestamp.Add(retry).Sub(now); wait > 0 {
				plan.Wait = max(plan.Wait, wait)
				continue
			}
			plan.Delete = append(plan.Delete, p)
			plan.Ended = append(plan.Ended, p)
		default:
			running = append(running, p)
		}
	}
	if len(running) <= 1 {
		return
	}
	slices.SortFunc(running, elder)
	if !surging {
		plan.Delete = append(plan.Delete, running[1:]...)
		return
	}
	var older, newer []*v1.Pod
	for _, p := range running {
		if current(p, hash) {
			newer = append(newer, p)
		} else {
			older = append(older, p)
		}
	}
	if len(newer) > 1 {
		plan.Delete = append(plan.Delete, newer[1:]...)
	}
	if len(older) > 1 {
		plan.Delete = append(plan.Delete, older[1:]...)
	}
	if len(newer) > 0 && len(older) > 0 && podcontrol.Available(newer[0], ds.Spec.MinReadySeconds, now) {
		plan.Delete = append(plan.Delete, older[0])
	}
}

// limits are the surge and unavailability that a rolling update may use.
func limits(ds *apps.DaemonSet, desired int) (surge, unavailable int) {
	u := ds.Spec.UpdateStrategy.RollingUpdate
	if ds.Spec.UpdateStrategy.Type != apps.RollingUpdateDaemonSetStrategyType {
		return 0, 0
	}
	if u == nil {
		return 0, 1
	}
	scaled := func(v *intstr.IntOrString, otherwise int) int {
		if v == nil {
			return otherwise
		}
		n, err := intstr.GetScaledValueFromIntOrPercent(v, desired, true)
		if err != nil {
			return otherwise
		}
		return n
	}
	surge = scaled(u.MaxSurge, 0)
	unavailable = scaled(u.MaxUnavailable, 1)
	if surge == 0 && unavailable == 0 {
		unavailable = 1
	}
	return surge, unavailable
}

// MakeUpdate replaces pods of older revisions within the limits.
func MakeUpdate(ds *apps.DaemonSet, nodes []*v1.Node, pods []*v1.Pod, hash string, now time.Time) Plan {
	var plan Plan
	if ds.Spec.UpdateStrategy.Type != apps.RollingUpdateDaemonSetStrategyType {
		return plan
	}
	// A pod that is being deleted may be ready until its end, and serves nobody.
	serves := func(p *v1.Pod) bool {
		return p.DeletionTimestamp == nil && podcontrol.Available(p, ds.Spec.MinReadySeconds, now)
	}
	on := byNode(pods)
	var wanted []*v1.Node
	for _, n := range nodes {
		if run, _ := Fits(ds, n); run {
			wanted = append(wanted, n)
		}
	}
	surge, unavailable := limits(ds, len(wanted))
	var free, spend []*v1.Pod
	var freeNodes, spendNodes []string
	missing, surging := 0, 0
	for _, n := range wanted {
		older, newer := pair(on[n.Name], hash)
		switch {
		case surge == 0 && newer == nil && older == nil:
			missing++
		case surge == 0 && newer != nil:
			if !serves(newer) {
				missing++
			}
		case surge == 0:
			if serves(older) {
				spend = append(spend, older)
				break
			}
			missing++
			if older.DeletionTimestamp == nil {
				free = append(free, older)
			}
		case older == nil:
		case newer == nil:
			// An old pod that serves nobody makes room without a surge.
			if !serves(older) {
				freeNodes = append(freeNodes, n.Name)
			} else {
				spendNodes = append(spendNodes, n.Name)
			}
		case serves(newer):
			if older.DeletionTimestamp == nil {
				plan.Delete = append(plan.Delete, older)
			}
		default:
			surging++
		}
	}
	plan.Delete = append(plan.Delete, free...)
	plan.Delete = append(plan.Delete, spend[:min(len(spend), max(0, unavailable-missing))]...)
	plan.Create = append(freeNodes, spendNodes[:min(len(spendNodes), max(0, surge-surging))]...)
	plan.bound()
	return plan
}

// pair is the newest pod of the old revisions and of the current one.
func pair(here []*v1.Pod, hash string) (older, newer *v1.Pod) {
	for _, p := range slices.SortedFunc(slices.Values(here), elder) {
		switch {
		case podcontrol.Terminal(p):
		case current(p, hash):
			if newer == nil || p.DeletionTimestamp == nil {
				newer = p
			}
		default:
			if older == nil || p.DeletionTimestamp == nil {
				older = p
			}
		}
	}
	return older, newer
}

// NextStatus counts the nodes and their pods.
func NextStatus(ds *apps.DaemonSet, nodes []*v1.Node, pods []*v1.Pod, hash string, now time.Time) apps.DaemonSetStatus {
	s := apps.DaemonSetStatus{
		ObservedGeneration: ds.Generation, CollisionCount: ds.Status.CollisionCount, Conditions: ds.Status.Conditions,
	}
	on := byNode(pods)
	for _, n := range nodes {
		here := on[n.Name]
		run, _ := Fits(ds, n)
		if !run {
			if len(here) > 0 {
				s.NumberMisscheduled++
			}
			continue
		}
		s.DesiredNumberScheduled++
		if len(here) == 0 {
			continue
		}
		s.CurrentNumberScheduled++
		// The pod that serves stands for the node: during a surge the old one.
		best := slices.MinFunc(here, func(a, b *v1.Pod) int {
			if x, y := podcontrol.Ready(a), podcontrol.Ready(b); x != y {
				if x {
					return -1
				}
				return 1
			}
			return elder(a, b)
		})
		if podcontrol.Ready(best) {
			s.NumberReady++
			if podcontrol.Available(best, ds.Spec.MinReadySeconds, now) {
				s.NumberAvailable++
			}
		}
		if slices.ContainsFunc(here, func(p *v1.Pod) bool { return current(p, hash) }) {
			s.UpdatedNumberScheduled++
		}
	}
	s.NumberUnavailable = s.DesiredNumberScheduled - s.NumberAvailable
	return s
}
