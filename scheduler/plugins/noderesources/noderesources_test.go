package noderesources

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	configv1 "k8s.io/kube-scheduler/config/v1"

	"skiff/scheduler/framework"
)

func list(kv ...string) v1.ResourceList {
	l := v1.ResourceList{}
	for i := 0; i < len(kv); i += 2 {
		l[v1.ResourceName(kv[i])] = resource.MustParse(kv[i+1])
	}
	return l
}

func podOf(l v1.ResourceList) *framework.PodInfo {
	p, _ := framework.NewPodInfo(&v1.Pod{Spec: v1.PodSpec{Containers: []v1.Container{{Resources: v1.ResourceRequirements{Requests: l}}}}})
	return p
}

func nodeOf(l v1.ResourceList, pods ...*framework.PodInfo) *framework.NodeInfo {
	n := &v1.Node{}
	n.Status.Allocatable = l
	return framework.NewNodeInfo(n, pods...)
}

func TestFitFilter(t *testing.T) {
	size := list("cpu", "2", "memory", "2Gi", "pods", "2", "example.com/gpu", "1")
	for _, tt := range []struct {
		name string
		pod  v1.ResourceList
		used []v1.ResourceList
		want *framework.Status
	}{
		{"fits", list("cpu", "1"), nil, nil},
		{"fits exactly", list("cpu", "1"), []v1.ResourceList{list("cpu", "1")}, nil},
		{"used up", list("cpu", "2"), []v1.ResourceList{list("cpu", "1")}, framework.NewStatus(framework.Unschedulable, "Insufficient cpu")},
		{"too large for the node", list("memory", "3Gi"), nil, framework.NewStatus(framework.UnschedulableAndUnresolvable, "Insufficient memory")},
		{"gpu is taken", list("example.com/gpu", "1"), []v1.ResourceList{list("example.com/gpu", "1")}, framework.NewStatus(framework.Unschedulable, "Insufficient example.com/gpu")},
		{"too many pods", nil, []v1.ResourceList{nil, nil}, framework.NewStatus(framework.Unschedulable, "Too many pods")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, err := NewFit(nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			var pods []*framework.PodInfo
			for _, u := range tt.used {
				pods = append(pods, podOf(u))
			}
			got := p.(*Fit).Filter(t.Context(), framework.NewCycleState(), podOf(tt.pod), nodeOf(size, pods...))
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

func TestScores(t *testing.T) {
	node := nodeOf(list("cpu", "4", "memory", "4Gi", "pods", "9"))
	pod := podOf(list("cpu", "1", "memory", "1Gi"))
	shape := &configv1.RequestedToCapacityRatioParam{Shape: []configv1.UtilizationShapePoint{{Utilization: 0, Score: 0}, {Utilization: 100, Score: 10}}}
	for _, tt := range []struct {
		strategy configv1.ScoringStrategy
		want     int64
	}{
		{configv1.ScoringStrategy{Type: configv1.LeastAllocated}, 75},
		{configv1.ScoringStrategy{Type: configv1.MostAllocated}, 25},
		{configv1.ScoringStrategy{Type: configv1.RequestedToCapacityRatio, RequestedToCapacityRatio: shape}, 25},
	} {
		t.Run(string(tt.strategy.Type), func(t *testing.T) {
			p, err := NewFit(&configv1.NodeResourcesFitArgs{ScoringStrategy: &tt.strategy}, nil)
			if err != nil {
				t.Fatal(err)
			}
			if got, _ := p.(*Fit).Score(t.Context(), nil, pod, node); got != tt.want {
				t.Errorf("score %d, want %d", got, tt.want)
			}
		})
	}
	b, _ := NewBalanced(nil, nil)
	if got, _ := b.(*Balanced).Score(t.Context(), nil, pod, node); got != 75 {
		t.Errorf("balanced score %d, want 75 for a pod that changes no balance", got)
	}
}
