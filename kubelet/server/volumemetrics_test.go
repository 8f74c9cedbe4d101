package server

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	statsapi "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
	"k8s.io/utils/ptr"
)

func TestVolumeMetrics(t *testing.T) {
	volume := func(claim string, used uint64) statsapi.VolumeStats {
		v := statsapi.VolumeStats{FsStats: statsapi.FsStats{UsedBytes: &used}}
		if claim != "" {
			v.PVCRef = &statsapi.PVCReference{Namespace: "ns", Name: claim}
		}
		return v
	}
	full := volume("c", 3)
	full.CapacityBytes, full.AvailableBytes = ptr.To[uint64](9), ptr.To[uint64](6)
	full.Inodes, full.InodesFree, full.InodesUsed = ptr.To[uint64](7), ptr.To[uint64](5), ptr.To[uint64](2)
	const labels = `{namespace="ns",persistentvolumeclaim="c"} `
	for _, tt := range []struct {
		name string
		pods [][]statsapi.VolumeStats
		want []string
	}{
		{"no claim", [][]statsapi.VolumeStats{{volume("", 1)}}, nil},
		{"all that is known", [][]statsapi.VolumeStats{{full}}, []string{
			"available_bytes" + labels + "6", "capacity_bytes" + labels + "9",
			"inodes_free" + labels + "5", "inodes_used" + labels + "2", "inodes" + labels + "7", "used_bytes" + labels + "3",
		}},
		{"shared by pods", [][]statsapi.VolumeStats{{volume("c", 3)}, {volume("c", 4)}}, []string{"used_bytes" + labels + "3"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			summary := &statsapi.Summary{}
			for _, v := range tt.pods {
				summary.Pods = append(summary.Pods, statsapi.PodStats{VolumeStats: v})
			}
			w := httptest.NewRecorder()
			newServer(Config{}).metrics(func(c *collector) { volumeMetrics(c, summary) })(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
			var got []string
			for line := range strings.Lines(w.Body.String()) {
				if name, ok := strings.CutPrefix(strings.TrimSpace(line), "kubelet_volume_stats_"); ok {
					got = append(got, name)
				}
			}
			slices.Sort(got)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("metrics (-want +got):\n%s", diff)
			}
		})
	}
}
