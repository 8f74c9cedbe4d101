// Package image gives a pod the files of an image, which the container
// runtime mounts.
package image

import (
	"context"

	"skiff/kubelet/volumes/volume"
)

// Plugin implements volume.Plugin.
type Plugin struct {
	// Ensure pulls the image of the pod's volume and returns its reference.
	Ensure func(ctx context.Context, r *volume.Request) (string, error)
}

// Name implements volume.Plugin.
func (*Plugin) Name() string { return "kubernetes.io/image" }

// Supports implements volume.Plugin.
func (*Plugin) Supports(r *volume.Request) bool { return r.Volume.Image != nil }

// SetUp implements volume.Plugin.
func (p *Plugin) SetUp(ctx context.Context, r *volume.Request) (*volume.Mounted, error) {
	ref, err := p.Ensure(ctx, r)
	if err != nil {
		return nil, err
	}
	return &volume.Mounted{Image: ref, ReadOnly: true}, nil
}

// TearDown implements volume.Plugin.
func (*Plugin) TearDown(context.Context, string) error { return nil }
