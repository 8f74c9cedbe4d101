package server

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	statsapi "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
)

// volumeMetrics tell how full the claims of the node's pods are. A claim that
// several pods use is told of once.
func volumeMetrics(c *collector, summary *statsapi.Summary) {
	told := map[statsapi.PVCReference]bool{}
	for i := range summary.Pods {
		for j := range summary.Pods[i].VolumeStats {
			v := &summary.Pods[i].VolumeStats[j]
			if v.PVCRef == nil || told[*v.PVCRef] {
				continue
			}
			told[*v.PVCRef] = true
			for _, m := range []struct {
				name, help string
				value      *uint64
			}{
				{"capacity_bytes", "Capacity in bytes of the volume", v.CapacityBytes},
				{"available_bytes", "Number of available bytes in the volume", v.AvailableBytes},
				{"used_bytes", "Number of used bytes in the volume", v.UsedBytes},
				{"inodes", "Maximum number of inodes in the volume", v.Inodes},
				{"inodes_free", "Number of free inodes in the volume", v.InodesFree},
				{"inodes_used", "Number of used inodes in the volume", v.InodesUsed},
			} {
				if m.value != nil {
					c.add(prometheus.GaugeValue, "kubelet_volume_stats_"+m.name, m.help, float64(*m.value), time.Time{}, "namespace", v.PVCRef.Namespace, "persistentvolumeclaim", v.PVCRef.Name)
				}
			}
		}
	}
}
