package daemonset

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apps "k8s.io/api/apps/v1"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
)

var now = time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)

func daemons(surge, unavailable int) *apps.DaemonSet {
	ds := &apps.DaemonSet{ObjectMeta: metav1.ObjectMeta{Name: "d", Namespace: "default"}}
	ds.Spec.UpdateStrategy = apps.DaemonSetUpdateStrategy{Type: apps.RollingUpdateDaemonSetStrategyType, RollingUpdate: &apps.RollingUpdateDaemonSet{
		MaxSurge: ptr.To(intstr.FromInt(surge)), MaxUnavailable: ptr.To(intstr.FromInt(unavailable)),
	}}
	return ds
}

func node(name string, taints ...v1.Taint) *v1.Node {
	return &v1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1.NodeSpec{Taints: taints}}
}

func pod(name, node, hash string, ready bool) *v1.Pod {
	p := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{apps.ControllerRevisionHashLabelKey: hash}, CreationTimestamp: metav1.Time{Time: now.Add(-time.Hour)}}}
	p.Spec.NodeName, p.Status.Phase = node, v1.PodRunning
	if ready {
		p.Status.Conditions = []v1.PodCondition{{Type: v1.PodReady, Status: v1.ConditionTrue}}
	}
	return p
}

// ending is a pod that is being deleted.
func ending(p *v1.Pod) *v1.Pod {
	p.DeletionTimestamp = &metav1.Time{Time: now}
	return p
}

type result struct{ Create, Delete []string }

func show(p Plan) (r result) {
	r.Create = p.Create
	for _, d := range p.Delete {
		r.Delete = append(r.Delete, d.Name)
	}
	slices.Sort(r.Delete)
	return r
}

func TestMakePlan(t *testing.T) {
	noSchedule := v1.Taint{Key: "k", Effect: v1.TaintEffectNoSchedule}
	noExecute := v1.Taint{Key: "k", Effect: v1.TaintEffectNoExecute}
	unschedulable := v1.Taint{Key: v1.TaintNodeUnschedulable, Effect: v1.TaintEffectNoSchedule}
	ended := pod("a", "n1", "h", false)
	ended.Status.Phase = v1.PodFailed
	for name, tc := range map[string]struct {
		nodes []*v1.Node
		pods  []*v1.Pod
		want  result
	}{
		"each node gets one":       {[]*v1.Node{node("n1"), node("n2")}, []*v1.Pod{pod("a", "n1", "h", true)}, result{Create: []string{"n2"}}},
		"a taint keeps it off":     {[]*v1.Node{node("n1", noSchedule)}, nil, result{}},
		"but not one that runs":    {[]*v1.Node{node("n1", noSchedule)}, []*v1.Pod{pod("a", "n1", "h", true)}, result{}},
		"NoExecute does":           {[]*v1.Node{node("n1", noExecute)}, []*v1.Pod{pod("a", "n1", "h", true)}, result{Delete: []string{"a"}}},
		"cordoned nodes have them": {[]*v1.Node{node("n1", unschedulable)}, nil, result{Create: []string{"n1"}}},
		"never two":                {[]*v1.Node{node("n1")}, []*v1.Pod{pod("a", "n1", "h", true), pod("b", "n1", "h", true)}, result{Delete: []string{"b"}}},
		"a failed one goes":        {[]*v1.Node{node("n1")}, []*v1.Pod{ended}, result{Delete: []string{"a"}}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, show(MakePlan(daemons(0, 1), tc.nodes, tc.pods, "h", now))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A pod that fails in its first second is replaced only after it; nothing else
// may tell the controller of it then.
func TestDecideKeepsTheWait(t *testing.T) {
	young := pod("a", "n1", "h", false)
	young.Status.Phase, young.CreationTimestamp = v1.PodFailed, metav1.Time{Time: now.Add(-retry / 4)}
	plan := Decide(daemons(0, 1), []*v1.Node{node("n1")}, []*v1.Pod{young}, "h", now)
	if diff := cmp.Diff(Plan{Wait: retry * 3 / 4}, plan); diff != "" {
		t.Error(diff)
	}
}

func TestMakeUpdate(t *testing.T) {
	nodes := []*v1.Node{node("n1"), node("n2"), node("n3")}
	for name, tc := range map[string]struct {
		ds   *apps.DaemonSet
		pods []*v1.Pod
		want result
	}{
		"one at a time":         {daemons(0, 1), []*v1.Pod{pod("a", "n1", "old", true), pod("b", "n2", "old", true), pod("c", "n3", "old", true)}, result{Delete: []string{"a"}}},
		"waits":                 {daemons(0, 1), []*v1.Pod{pod("a", "n1", "new", false), pod("b", "n2", "old", true), pod("c", "n3", "old", true)}, result{}},
		"waits for an end":      {daemons(0, 1), []*v1.Pod{ending(pod("a", "n1", "old", true)), pod("b", "n2", "old", true), pod("c", "n3", "old", true)}, result{}},
		"an end is no surge":    {daemons(1, 0), []*v1.Pod{pod("a", "n1", "old", true), ending(pod("b", "n1", "new", true)), pod("c", "n2", "new", true), pod("d", "n3", "new", true)}, result{}},
		"sick ones are free":    {daemons(0, 1), []*v1.Pod{pod("a", "n1", "old", false), pod("b", "n2", "old", true), pod("c", "n3", "new", true)}, result{Delete: []string{"a"}}},
		"surge adds first":      {daemons(1, 0), []*v1.Pod{pod("a", "n1", "old", true), pod("b", "n2", "old", true), pod("c", "n3", "new", true)}, result{Create: []string{"n1"}}},
		"surge then takes away": {daemons(1, 0), []*v1.Pod{pod("a", "n1", "old", true), pod("b", "n1", "new", true), pod("c", "n2", "new", true), pod("d", "n3", "new", true)}, result{Delete: []string{"a"}}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, show(MakeUpdate(tc.ds, nodes, tc.pods, "new", now))); diff != "" {
				t.Error(diff)
			}
		})
	}
}
