package cgroups

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"skiff/kubelet/resources"
)

// What a pod's group gets, in the files of each version.
func TestSettings(t *testing.T) {
	pod := resources.Pod{Shares: 1024, Quota: 50000, Period: 100000, Memory: 1 << 20, Pids: 10}
	for _, tc := range []struct {
		name    string
		unified bool
		pod     resources.Pod
		want    map[string]string
	}{
		{"v1", false, pod, map[string]string{"cpu.shares": "1024", "cpu.cfs_quota_us": "50000", "cpu.cfs_period_us": "100000", "memory.limit_in_bytes": "1048576", "pids.max": "10"}},
		{"v2", true, pod, map[string]string{"cpu.weight": "100", "cpu.max": "50000 100000", "memory.max": "1048576", "pids.max": "10"}},
		{"v2 with the least", true, resources.Pod{Shares: 2}, map[string]string{"cpu.weight": "1"}},
		{"v2 with the most", true, resources.Pod{Shares: 262144}, map[string]string{"cpu.weight": "10000"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := map[string]string{}
			for _, s := range settings(tc.unified, tc.pod) {
				got[s.file] = s.value
			}
			if d := cmp.Diff(tc.want, got); d != "" {
				t.Errorf("files (-want +got):\n%s", d)
			}
		})
	}
}
