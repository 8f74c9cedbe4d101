package noderesources

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	configv1 "k8s.io/kube-scheduler/config/v1"

	"skiff/scheduler/framework"
)

// withClasses is a scheduler that knows device classes.
type withClasses struct {
	framework.Handle
	factory informers.SharedInformerFactory
}

func (h withClasses) Informers() informers.SharedInformerFactory { return h.factory }

func handle(t *testing.T) framework.Handle {
	t.Helper()
	h := withClasses{factory: informers.NewSharedInformerFactory(fake.NewClientset(), 0)}
	tpu := "example.com/tpu"
	class := &resourceapi.DeviceClass{ObjectMeta: metav1.ObjectMeta{Name: "tpus"}, Spec: resourceapi.DeviceClassSpec{ExtendedResourceName: &tpu}}
	if err := h.factory.Resource().V1().DeviceClasses().Informer().GetIndexer().Add(class); err != nil {
		t.Fatal(err)
	}
	return h
}

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
		{"no node has it", list("example.com/fpga", "1"), nil, framework.NewStatus(framework.UnschedulableAndUnresolvable, "Insufficient example.com/fpga")},
		{"devices of a class", list("example.com/tpu", "9"), nil, nil},
		{"devices of a class by its own name", list("deviceclass.resource.kubernetes.io/tpus", "9"), nil, nil},
		{"no such class", list("deviceclass.resource.kubernetes.io/gpus", "1"), nil, framework.NewStatus(framework.UnschedulableAndUnresolvable, "Insufficient deviceclass.resource.kubernetes.io/gpus")},
		{"too many pods", nil, []v1.ResourceList{nil, nil}, framework.NewStatus(framework.Unschedulable, "Too many pods")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, err := NewFit(nil, handle(t))
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
			p, err := NewFit(&configv1.NodeResourcesFitArgs{ScoringStrategy: &tt.strategy}, handle(t))
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
