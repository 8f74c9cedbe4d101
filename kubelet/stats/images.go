package stats

import (
	"context"
	"errors"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	statsapi "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
)

func (p *Provider) imageFs(ctx context.Context, now metav1.Time) *statsapi.FsStats {
	info, err := p.cfg.Images.ImageFsInfo(ctx)
	if err != nil || len(info.GetImageFilesystems()) == 0 {
		return nil
	}
	fs := info.ImageFilesystems[0]
	out := fsStats(fs.GetFsId().GetMountpoint(), now)
	if out != nil {
		used := fs.GetUsedBytes().GetValue()
		out.UsedBytes = &used
		if fs.InodesUsed != nil {
			inodes := fs.InodesUsed.Value
			out.InodesUsed = &inodes
		}
	}
	return out
}

// imageSpace is what the image file system has and what is free of it, without what of
// it images use: a runtime may walk all their files to tell.
func (p *Provider) imageSpace(ctx context.Context, now metav1.Time) *statsapi.FsStats {
	p.mu.Lock()
	dir := p.imageMount
	p.mu.Unlock()
	if dir == "" {
		info, err := p.cfg.Images.ImageFsInfo(ctx)
		if err != nil || len(info.GetImageFilesystems()) == 0 {
			return nil
		}
		dir = info.ImageFilesystems[0].GetFsId().GetMountpoint()
		p.mu.Lock()
		p.imageMount = dir
		p.mu.Unlock()
	}
	return fsStats(dir, now)
}

// ImageFs is the size of the image file system and what is free of it.
func (p *Provider) ImageFs(ctx context.Context) (capacity, available uint64, err error) {
	fs := p.imageSpace(ctx, metav1.Now())
	if fs == nil {
		return 0, 0, errors.New("the container runtime names no image file system")
	}
	return *fs.CapacityBytes, *fs.AvailableBytes, nil
}
