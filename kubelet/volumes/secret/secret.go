// Package secret shows a Secret as files, in memory only.
package secret

import (
	"context"
	"os"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/mount-utils"

	"skiff/kubelet/volumes/atomic"
	"skiff/kubelet/volumes/configmap"
	"skiff/kubelet/volumes/volume"
)

// Plugin implements volume.Plugin.
type Plugin struct {
	Mounter mount.Interface
	Objects volume.Objects
}

// Name implements volume.Plugin.
func (*Plugin) Name() string { return "kubernetes.io/secret" }

// Supports implements volume.Plugin.
func (*Plugin) Supports(r *volume.Request) bool { return r.Volume.Secret != nil }

// SetUp implements volume.Plugin.
func (p *Plugin) SetUp(ctx context.Context, r *volume.Request) (*volume.Mounted, error) {
	src := r.Volume.Secret
	optional := src.Optional != nil && *src.Optional
	secret, err := p.Objects.Secret(ctx, r.Pod.Namespace, src.SecretName)
	if err != nil {
		if !apierrors.IsNotFound(err) || !optional {
			return nil, err
		}
		secret = &v1.Secret{}
	}
	files, err := configmap.Project(src.Items, secret.Data, src.DefaultMode, optional, "secret")
	if err != nil {
		return nil, err
	}
	if err := Memory(p.Mounter, r.Dir); err != nil {
		return nil, err
	}
	return &volume.Mounted{Path: r.Dir}, atomic.Write(r.Dir, files, r.FSGroup())
}

// Memory makes dir a memory file system, so that secrets stay off the disk.
func Memory(m mount.Interface, dir string) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	mounted, err := volume.MountPoint(m, dir)
	if err != nil || mounted {
		return err
	}
	return m.MountSensitiveWithoutSystemd("tmpfs", dir, "tmpfs", nil, nil)
}

// TearDown implements volume.Plugin.
func (p *Plugin) TearDown(_ context.Context, dir string) error {
	mounted, err := volume.MountPoint(p.Mounter, dir)
	if err != nil {
		return err
	}
	if mounted {
		return volume.UnmountAndRemove(p.Mounter, dir)
	}
	return volume.RemoveAllOneFS(p.Mounter, dir)
}
