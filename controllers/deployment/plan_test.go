package deployment

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	apps "k8s.io/api/apps/v1"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
)

func deployment(n int32, surge, unavailable string) *apps.Deployment {
	s, u := intstr.Parse(surge), intstr.Parse(unavailable)
	return &apps.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "default", UID: "d"},
		Spec: apps.DeploymentSpec{
			Replicas: &n, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}},
			Template: v1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "web"}}},
			Strategy: apps.DeploymentStrategy{Type: apps.RollingUpdateDeploymentStrategyType,
				RollingUpdate: &apps.RollingUpdateDeployment{MaxSurge: &s, MaxUnavailable: &u}},
		},
	}
}

func set(name string, size, available int32) *apps.ReplicaSet {
	return &apps.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name)},
		Spec:       apps.ReplicaSetSpec{Replicas: &size},
		Status:     apps.ReplicaSetStatus{Replicas: size, AvailableReplicas: available},
	}
}

func TestNewReplicas(t *testing.T) {
	for name, tc := range map[string]struct {
		d         *apps.Deployment
		old, next *apps.ReplicaSet
		want      int32
	}{
		"first rollout takes all":        {deployment(3, "25%", "25%"), nil, set("new", 0, 0), 3},
		"surge bounds the first step":    {deployment(4, "25%", "25%"), set("old", 4, 4), set("new", 0, 0), 1},
		"no room while old pods stay":    {deployment(4, "1", "0"), set("old", 4, 4), set("new", 1, 1), 1},
		"never beyond the wish":          {deployment(4, "3", "0"), set("old", 1, 1), set("new", 3, 3), 4},
		"shrinks when the wish is lower": {deployment(2, "1", "0"), nil, set("new", 5, 5), 2},
	} {
		t.Run(name, func(t *testing.T) {
			all := []*apps.ReplicaSet{tc.next}
			if tc.old != nil {
				all = append(all, tc.old)
			}
			if got := NewReplicas(tc.d, all, tc.next); got != tc.want {
				t.Errorf("NewReplicas = %d, want %d", got, tc.want)
			}
		})
	}
}

func TestScaleDown(t *testing.T) {
	for name, tc := range map[string]struct {
		d         *apps.Deployment
		old, next *apps.ReplicaSet
		want      map[string]int32
	}{
		"waits for the new pod":             {deployment(4, "1", "0"), set("old", 4, 4), set("new", 1, 0), nil},
		"one for one":                       {deployment(4, "1", "0"), set("old", 4, 4), set("new", 1, 1), map[string]int32{"old": 3}},
		"unavailability lets it go first":   {deployment(4, "0", "2"), set("old", 4, 4), set("new", 0, 0), map[string]int32{"old": 2}},
		"sick pods go although none is new": {deployment(4, "1", "1"), set("old", 4, 2), set("new", 1, 0), map[string]int32{"old": 3}},
		"nothing left":                      {deployment(4, "1", "0"), set("old", 0, 0), set("new", 4, 4), nil},
	} {
		t.Run(name, func(t *testing.T) {
			var got map[string]int32
			for _, s := range ScaleDown(tc.d, []*apps.ReplicaSet{tc.old}, tc.next) {
				if got == nil {
					got = map[string]int32{}
				}
				got[s.Set.Name] = s.Replicas
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestProportion(t *testing.T) {
	noted := func(rs *apps.ReplicaSet, desired, most string) *apps.ReplicaSet {
		rs.Annotations = map[string]string{DesiredReplicas: desired, MaxReplicas: most}
		return rs
	}
	d := deployment(20, "0", "1")
	steps := Proportion(d, []*apps.ReplicaSet{noted(set("old", 6, 6), "10", "10")}, noted(set("new", 4, 2), "10", "10"))
	got := map[string]int32{}
	for _, s := range steps {
		got[s.Set.Name] = s.Replicas
	}
	if diff := cmp.Diff(map[string]int32{"old": 12, "new": 8}, got); diff != "" {
		t.Error(diff)
	}
}

func TestSurplusKeepsTheNewest(t *testing.T) {
	d := deployment(1, "1", "0")
	d.Spec.RevisionHistoryLimit = ptr.To[int32](1)
	var old []*apps.ReplicaSet
	for _, r := range []string{"3", "1", "2"} {
		rs := set("rev"+r, 0, 0)
		rs.Annotations = map[string]string{Revision: r}
		old = append(old, rs)
	}
	var got []string
	for _, rs := range Surplus(d, old) {
		got = append(got, rs.Name)
	}
	if diff := cmp.Diff([]string{"rev1", "rev2"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestAnnotateKeepsHistory(t *testing.T) {
	d := deployment(1, "1", "0")
	d.Annotations = map[string]string{"kubernetes.io/change-cause": "why", Revision: "3", v1.LastAppliedConfigAnnotation: "{}"}
	rs := set("a", 1, 1)
	rs.Annotations = map[string]string{Revision: "1"}
	annotate(d, rs, 4, true)
	want := map[string]string{"kubernetes.io/change-cause": "why", Revision: "4", RevisionHistory: "1"}
	if diff := cmp.Diff(want, rs.Annotations); diff != "" {
		t.Error(diff)
	}
}
