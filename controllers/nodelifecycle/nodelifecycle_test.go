package nodelifecycle

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var now = time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)

func node(ready v1.ConditionStatus, taints ...v1.Taint) *v1.Node {
	n := &v1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}, Spec: v1.NodeSpec{Taints: taints}}
	if ready != "" {
		n.Status.Conditions = []v1.NodeCondition{{Type: v1.NodeReady, Status: ready}}
	}
	return n
}

func names(taints []v1.Taint) []string {
	var out []string
	for _, t := range taints {
		out = append(out, t.Key+":"+string(t.Effect))
	}
	return out
}

func TestTaints(t *testing.T) {
	own := v1.Taint{Key: "mine", Effect: v1.TaintEffectNoSchedule}
	for name, tc := range map[string]struct {
		node    *v1.Node
		want    []string
		changed bool
	}{
		"ready":       {node(v1.ConditionTrue, own), []string{"mine:NoSchedule"}, false},
		"not ready":   {node(v1.ConditionFalse, own), []string{"mine:NoSchedule", "node.kubernetes.io/not-ready:NoSchedule"}, true},
		"silent":      {node(v1.ConditionUnknown), []string{"node.kubernetes.io/unreachable:NoSchedule"}, true},
		"ready again": {node(v1.ConditionTrue, v1.Taint{Key: v1.TaintNodeNotReady, Effect: v1.TaintEffectNoSchedule}), nil, true},
		"cordoned": {func() *v1.Node {
			n := node(v1.ConditionTrue)
			n.Spec.Unschedulable = true
			return n
		}(), []string{"node.kubernetes.io/unschedulable:NoSchedule"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			got, changed := Taints(tc.node, now)
			if diff := cmp.Diff(tc.want, names(got)); diff != "" || changed != tc.changed {
				t.Error(changed, diff)
			}
		})
	}
}

func TestEvictSwapsTheTaint(t *testing.T) {
	n := node(v1.ConditionUnknown, v1.Taint{Key: v1.TaintNodeNotReady, Effect: v1.TaintEffectNoExecute})
	got, changed := Evict(n, EvictionTaint(n), now)
	if diff := cmp.Diff([]string{"node.kubernetes.io/unreachable:NoExecute"}, names(got)); diff != "" || !changed {
		t.Error(changed, diff)
	}
}

func TestLookCountsChangesOnly(t *testing.T) {
	n := node(v1.ConditionTrue)
	h := Health{}.Look(n, now.Add(-time.Hour), now)
	if !h.Seen.Equal(now) {
		t.Fatalf("first look: %v", h.Seen)
	}
	if h = h.Look(n, now.Add(-time.Hour), now.Add(time.Minute)); !h.Seen.Equal(now) {
		t.Errorf("an old lease counted as life: %v", h.Seen)
	}
	if h = h.Look(n, now.Add(-time.Hour+time.Second), now.Add(2*time.Minute)); !h.Seen.Equal(now.Add(2 * time.Minute)) {
		t.Errorf("a renewed lease did not count: %v", h.Seen)
	}
}

func TestLost(t *testing.T) {
	next, changed := Lost(node(v1.ConditionTrue), now)
	if c := condition(next, v1.NodeReady); !changed || c.Status != v1.ConditionUnknown || c.Reason != "NodeStatusUnknown" {
		t.Errorf("condition %+v", c)
	}
	if _, changed := Lost(next, now); changed {
		t.Error("a lost node was changed again")
	}
}

func TestZones(t *testing.T) {
	rates := Rates{Normal: 0.1, Disrupted: 0.01, LargeCluster: 50}
	for name, tc := range map[string]struct {
		ready, total int
		allDown      bool
		state        ZoneState
		rate         float64
	}{
		"well":           {3, 3, false, Normal, 0.1},
		"one of three":   {2, 3, false, Normal, 0.1},
		"most of ten":    {4, 10, false, PartialDisruption, 0},
		"most of many":   {40, 100, false, PartialDisruption, 0.01},
		"all of it":      {0, 3, false, FullDisruption, 0.1},
		"all everywhere": {0, 3, true, FullDisruption, 0},
	} {
		state := JudgeZone(tc.ready, tc.total, 0.55)
		if rate := rates.Rate(state, tc.total, tc.allDown); state != tc.state || rate != tc.rate {
			t.Errorf("%s: %s at %v, want %s at %v", name, state, rate, tc.state, tc.rate)
		}
	}
}
