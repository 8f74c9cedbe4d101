// Package secret shows a Secret as files, in memory only.
package secret

import (
	"context"

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
	if err := volume.Memory(p.Mounter, r.Dir); err != nil {
		return nil, err
	}
	return &volume.Mounted{Path: r.Dir, ReadOnly: true}, atomic.Write(r.Dir, files, r.FSGroup())
}

// TearDown implements volume.Plugin.
func (p *Plugin) TearDown(_ context.Context, dir string) error {
	return volume.Discard(p.Mounter, dir)
}
