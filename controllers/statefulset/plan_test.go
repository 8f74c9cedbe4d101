package statefulset

import (
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apps "k8s.io/api/apps/v1"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
)

func newSet(n int32, change func(*apps.StatefulSetSpec)) *apps.StatefulSet {
	s := &apps.StatefulSet{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "default"}}
	s.Spec.Replicas = &n
	s.Spec.UpdateStrategy.Type = apps.RollingUpdateStatefulSetStrategyType
	s.Spec.UpdateStrategy.RollingUpdate = &apps.RollingUpdateStatefulSetStrategy{Partition: ptr.To[int32](0)}
	if change != nil {
		change(&s.Spec)
	}
	return s
}

// newPods makes one pod for each letter: R ready, P pending, T terminating,
// F failed, - none. Lower case: of the old revision.
func newPods(letters string) []*v1.Pod {
	var out []*v1.Pod
	for i, l := range letters {
		if l == '-' {
			continue
		}
		revision := "new"
		if l >= 'a' {
			revision, l = "old", l-'a'+'A'
		}
		name := "web-" + strconv.Itoa(i)
		p := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{
			apps.StatefulSetPodNameLabel: name, apps.PodIndexLabel: strconv.Itoa(i), apps.ControllerRevisionHashLabelKey: revision,
		}}}
		ready := v1.PodCondition{Type: v1.PodReady, Status: v1.ConditionTrue}
		switch l {
		case 'R':
			p.Status.Phase, p.Status.Conditions = v1.PodRunning, []v1.PodCondition{ready}
		case 'T':
			p.Status.Phase, p.Status.Conditions = v1.PodRunning, []v1.PodCondition{ready}
			p.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)}
		case 'F':
			p.Status.Phase = v1.PodFailed
		default:
			p.Status.Phase = v1.PodPending
		}
		out = append(out, p)
	}
	return out
}

func TestMakePlan(t *testing.T) {
	together := func(s *apps.StatefulSetSpec) { s.PodManagementPolicy = apps.ParallelPodManagement }
	type result struct {
		Create []int
		Delete []string
	}
	for name, tc := range map[string]struct {
		set  *apps.StatefulSet
		pods string
		want result
	}{
		"first":                    {newSet(3, nil), "", result{Create: []int{0}}},
		"waits for the one before": {newSet(3, nil), "RP", result{}},
		"next":                     {newSet(3, nil), "RR", result{Create: []int{2}}},
		"fills a gap":              {newSet(3, nil), "R-R", result{Create: []int{1}}},
		"all at once":              {newSet(3, together), "", result{Create: []int{0, 1, 2}}},
		"failed one is replaced":   {newSet(2, nil), "RF", result{Delete: []string{"web-1"}}},
		"terminating one holds":    {newSet(3, nil), "RT", result{}},
		"shrinks from the top":     {newSet(1, nil), "RRR", result{Delete: []string{"web-2"}}},
		"shrinks one at a time":    {newSet(1, nil), "RRT", result{}},
		"shrinks together":         {newSet(1, together), "RRR", result{Delete: []string{"web-2", "web-1"}}},
		"updates from the top":     {newSet(3, nil), "rrr", result{Delete: []string{"web-2"}}},
		"update waits":             {newSet(3, together), "rrP", result{}},
		"update goes on":           {newSet(3, nil), "rrR", result{Delete: []string{"web-1"}}},
		"update done":              {newSet(3, nil), "RRR", result{}},
		"partition":                {newSet(3, func(s *apps.StatefulSetSpec) { s.UpdateStrategy.RollingUpdate.Partition = ptr.To[int32](2) }), "rrR", result{}},
		"on delete":                {newSet(3, func(s *apps.StatefulSetSpec) { s.UpdateStrategy.Type = apps.OnDeleteStatefulSetStrategyType }), "rrr", result{}},
		"max unavailable": {newSet(4, func(s *apps.StatefulSetSpec) {
			s.UpdateStrategy.RollingUpdate.MaxUnavailable = ptr.To(intstr.FromInt32(2))
		}), "rrrr", result{Delete: []string{"web-3", "web-2"}}},
		"start ordinal": {newSet(1, func(s *apps.StatefulSetSpec) { s.Ordinals = &apps.StatefulSetOrdinals{Start: 5} }), "", result{Create: []int{5}}},
	} {
		t.Run(name, func(t *testing.T) {
			p := MakePlan(tc.set, newPods(tc.pods), Revisions{"old", "new"}, func(int) bool { return false }, time.Unix(100, 0))
			var got result
			for _, c := range p.Create {
				got.Create = append(got.Create, c.Ordinal)
			}
			for _, d := range p.Delete {
				got.Delete = append(got.Delete, d.Name)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestStatusCompletesTheUpdate(t *testing.T) {
	s := NextStatus(newSet(2, nil), newPods("RR"), Revisions{"old", "new"}, time.Unix(100, 0))
	if s.CurrentRevision != "new" || s.CurrentReplicas != 2 {
		t.Errorf("status %+v", s)
	}
	s = NextStatus(newSet(2, nil), newPods("rR"), Revisions{"old", "new"}, time.Unix(100, 0))
	if s.CurrentRevision != "old" || s.CurrentReplicas != 1 || s.UpdatedReplicas != 1 {
		t.Errorf("status %+v", s)
	}
}
