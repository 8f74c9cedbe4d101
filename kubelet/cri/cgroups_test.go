package cri

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Huge pages are limited where the machine counts them, and else do not keep a
// container from starting.
func TestHugePageLimits(t *testing.T) {
	in := &runtimeapi.LinuxContainerResources{HugepageLimits: []*runtimeapi.HugepageLimit{{PageSize: "2MB", Limit: 4 << 20}}}
	for _, tt := range []struct {
		name        string
		controllers map[string]string
		want        []specs.LinuxHugepageLimit
	}{
		{"counted", map[string]string{"memory": "/sys/fs/cgroup/memory", "hugetlb": "/sys/fs/cgroup/hugetlb"}, []specs.LinuxHugepageLimit{{Pagesize: "2MB", Limit: 4 << 20}}},
		{"not counted", map[string]string{"memory": "/sys/fs/cgroup/memory"}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, cgroupLayout{controllers: tt.controllers}.resources(in).HugepageLimits); diff != "" {
				t.Errorf("limits (-want +got):\n%s", diff)
			}
		})
	}
}
