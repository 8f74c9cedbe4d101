package csi

import (
	"context"
	"path/filepath"

	csispec "github.com/container-storage-interface/spec/lib/go/csi"

	"skiff/kubelet/volumes/volume"
)

// Measure implements volume.Measurer with what the driver says.
func (p *Plugin) Measure(ctx context.Context, r *volume.Request) (*volume.Usage, error) {
	t, err := resolve(r)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	d := p.drivers[t.driver]
	ready := false
	if s := p.volumes[t.key]; s != nil && s.uses[t.use()] != nil {
		ready = s.uses[t.use()].done
	}
	p.mu.Unlock()
	if d == nil || !d.stats || !ready {
		return nil, nil
	}
	path := filepath.Join(r.Dir, "mount")
	if t.block {
		path = p.layout.device(t.use())
	}
	staging := ""
	if d.stage && !t.ephemeral {
		staging, _ = p.layout.staging(t.key, t.spec, t.block)
	}
	got, err := call(ctx, func(ctx context.Context) (*csispec.NodeGetVolumeStatsResponse, error) {
		return d.node().NodeGetVolumeStats(ctx, &csispec.NodeGetVolumeStatsRequest{VolumeId: t.handle, VolumePath: path, StagingTargetPath: staging})
	})
	if err != nil {
		return nil, err
	}
	return usageOf(got.GetUsage()), nil
}

func usageOf(list []*csispec.VolumeUsage) *volume.Usage {
	out := &volume.Usage{}
	for _, u := range list {
		available, total, used := uint64(max(u.GetAvailable(), 0)), uint64(max(u.GetTotal(), 0)), uint64(max(u.GetUsed(), 0))
		switch u.GetUnit() {
		case csispec.VolumeUsage_BYTES:
			out.Capacity, out.Available, out.Used = &total, &available, &used
		case csispec.VolumeUsage_INODES:
			out.Inodes, out.InodesFree, out.InodesUsed = &total, &available, &used
		}
	}
	return out
}
