// Package local mounts persistent volumes that are a folder or a device of
// this node.
package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"k8s.io/mount-utils"
	"k8s.io/utils/exec"

	"skiff/kubelet/volumes/volume"
)

// Plugin implements volume.Plugin.
type Plugin struct {
	Mounter mount.Interface
}

// Name implements volume.Plugin.
func (*Plugin) Name() string { return "kubernetes.io/local-volume" }

// Supports implements volume.Plugin.
func (*Plugin) Supports(r *volume.Request) bool { return r.PV != nil && r.PV.Spec.Local != nil }

// SetUp implements volume.Plugin.
func (p *Plugin) SetUp(_ context.Context, r *volume.Request) (*volume.Mounted, error) {
	src := r.PV.Spec.Local
	info, err := os.Stat(src.Path)
	if errors.Is(err, fs.ErrNotExist) {
		// Upstream looks before it begins to mount, and its events say so.
		return nil, &volume.StepError{Step: "MountVolume.NewMounter initialization", Err: fmt.Errorf("path %q does not exist", src.Path)}
	}
	if err != nil {
		return nil, fmt.Errorf("local volume %s: %w", r.PV.Name, err)
	}
	device := info.Mode()&os.ModeDevice != 0
	if r.Block() {
		if !device {
			return nil, fmt.Errorf("path %s for local volume %s is not a block device", src.Path, r.PV.Name)
		}
		return &volume.Mounted{Path: src.Path, Block: true, ReadOnly: r.ReadOnly()}, nil
	}
	if err := os.MkdirAll(r.Dir, 0o750); err != nil {
		return nil, err
	}
	mounted, err := volume.MountPoint(p.Mounter, r.Dir)
	if err != nil {
		return nil, err
	}
	if !mounted {
		if err := p.mount(r, device); err != nil {
			return nil, err
		}
	}
	if g := r.FSGroup(); g != nil && !r.ReadOnly() {
		if err := volume.SetOwnership(r.Dir, *g, false, r.Pod.Spec.SecurityContext.FSGroupChangePolicy); err != nil {
			return nil, err
		}
	}
	return &volume.Mounted{Path: r.Dir, ReadOnly: r.ReadOnly()}, nil
}

func (p *Plugin) mount(r *volume.Request, device bool) error {
	src := r.PV.Spec.Local
	options := append([]string(nil), r.PV.Spec.MountOptions...)
	if r.ReadOnly() {
		options = append(options, "ro")
	}
	if device {
		fsType := "ext4"
		if src.FSType != nil && *src.FSType != "" {
			fsType = *src.FSType
		}
		return mount.NewSafeFormatAndMount(p.Mounter, exec.New()).FormatAndMount(src.Path, r.Dir, fsType, options)
	}
	return p.Mounter.MountSensitiveWithoutSystemd(src.Path, r.Dir, "", append(options, "bind"), nil)
}

// TearDown implements volume.Plugin.
func (p *Plugin) TearDown(_ context.Context, dir string) error {
	return volume.UnmountAndRemove(p.Mounter, dir)
}

// Measure implements volume.Measurer.
func (*Plugin) Measure(_ context.Context, r *volume.Request) (*volume.Usage, error) {
	if r.Block() {
		return nil, nil
	}
	return volume.Statfs(r.Dir)
}
