// Package nfs mounts NFS shares through the mount helper of the node.
package nfs

import (
	"context"
	"errors"
	"fmt"
	"os"

	v1 "k8s.io/api/core/v1"
	"k8s.io/mount-utils"

	"skiff/kubelet/volumes/volume"
)

// Plugin implements volume.Plugin.
type Plugin struct {
	Mounter mount.Interface
}

// Name implements volume.Plugin.
func (*Plugin) Name() string { return "kubernetes.io/nfs" }

// Supports implements volume.Plugin.
func (*Plugin) Supports(r *volume.Request) bool { return source(r) != nil }

func source(r *volume.Request) *v1.NFSVolumeSource {
	if r.PV != nil {
		return r.PV.Spec.NFS
	}
	return r.Volume.NFS
}

// SetUp implements volume.Plugin.
func (p *Plugin) SetUp(_ context.Context, r *volume.Request) (*volume.Mounted, error) {
	src := source(r)
	readOnly := src.ReadOnly || r.ReadOnly()
	if err := os.MkdirAll(r.Dir, 0o750); err != nil {
		return nil, err
	}
	mounted, err := volume.MountPoint(p.Mounter, r.Dir)
	if err != nil {
		return nil, err
	}
	if mounted {
		return &volume.Mounted{Path: r.Dir, ReadOnly: readOnly}, nil
	}
	var options []string
	if r.PV != nil {
		options = append(options, r.PV.Spec.MountOptions...)
	}
	if readOnly {
		options = append(options, "ro")
	}
	if err := p.Mounter.Mount(src.Server+":"+src.Path, r.Dir, "nfs", options); err != nil {
		err = fmt.Errorf("mount NFS share %s:%s: %w; the node needs the kernel's NFS client and the mount.nfs helper (package nfs-common)", src.Server, src.Path, err)
		return nil, errors.Join(err, os.Remove(r.Dir))
	}
	return &volume.Mounted{Path: r.Dir, ReadOnly: readOnly}, nil
}

// TearDown implements volume.Plugin.
func (p *Plugin) TearDown(_ context.Context, dir string) error {
	return volume.UnmountAndRemove(p.Mounter, dir)
}

// Measure implements volume.Measurer.
func (*Plugin) Measure(_ context.Context, r *volume.Request) (*volume.Usage, error) {
	return volume.Statfs(r.Dir)
}
