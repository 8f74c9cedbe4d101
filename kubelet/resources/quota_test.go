package resources_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"

	"skiff/kubelet/resources"
)

// A quota throttles what has CPUs to itself for nobody's good: neither such a container
// nor its pod has one, and its neighbours in the pod keep theirs.
func TestQuotaOfExclusiveCPUs(t *testing.T) {
	cpu := func(q string) v1.ResourceRequirements {
		list := v1.ResourceList{v1.ResourceCPU: resource.MustParse(q), v1.ResourceMemory: resource.MustParse("1Gi")}
		return v1.ResourceRequirements{Requests: list, Limits: list}
	}
	pod := &v1.Pod{Spec: v1.PodSpec{Containers: []v1.Container{{Name: "own", Resources: cpu("2")}, {Name: "shared", Resources: cpu("500m")}}}}
	pod.UID = "u"
	type quotas struct{ Own, Shared, Pod int64 }
	for _, tt := range []struct {
		name      string
		exclusive func(types.UID, string) bool
		off       bool
		want      quotas
	}{
		{name: "none has CPUs to itself", exclusive: func(types.UID, string) bool { return false }, want: quotas{200000, 50000, 250000}},
		{name: "nobody tells", want: quotas{200000, 50000, 250000}},
		{name: "one has", exclusive: func(uid types.UID, c string) bool { return uid == "u" && c == "own" }, want: quotas{0, 50000, 0}},
		{name: "the node sets no quotas", off: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := resources.Settings{CFSQuota: !tt.off, Exclusive: tt.exclusive}
			got := quotas{
				resources.Linux(pod, &pod.Spec.Containers[0], s).CpuQuota, resources.Linux(pod, &pod.Spec.Containers[1], s).CpuQuota,
				resources.ForPod(pod, s, 0).Quota,
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("quotas (-want +got):\n%s", diff)
			}
		})
	}
}
