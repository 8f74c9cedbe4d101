package volumes

import (
	"cmp"
	"context"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	"skiff/kubelet/volumes/volume"
)

// Usage is how full one of a pod's volumes is.
type Usage struct {
	volume.Usage
	// Volume is its name in the pod; Claim its claim's, "" for none.
	Volume, Claim string
}

// Measure tells how full those of the pod's volumes are whose kind can tell.
func (m *Manager) Measure(ctx context.Context, uid types.UID) []Usage {
	m.mu.Lock()
	list := slices.SortedFunc(maps.Values(m.ready[uid]), func(a, b ready) int { return cmp.Compare(a.request.Volume.Name, b.request.Volume.Name) })
	m.mu.Unlock()
	var out []Usage
	for _, v := range list {
		plugin, ok := v.plugin.(volume.Measurer)
		if !ok {
			continue
		}
		got, err := plugin.Measure(ctx, v.request)
		if err != nil {
			if ctx.Err() == nil {
				klog.FromContext(ctx).V(2).Info("Measuring a volume failed", "podUID", uid, "volume", v.request.Volume.Name, "err", err)
			}
			continue
		}
		if got == nil {
			continue
		}
		u := Usage{Usage: *got, Volume: v.request.Volume.Name}
		if v.request.PVC != nil {
			u.Claim = v.request.PVC.Name
		}
		out = append(out, u)
	}
	return out
}
