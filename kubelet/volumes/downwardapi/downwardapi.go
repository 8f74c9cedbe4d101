// Package downwardapi shows a pod's own fields as files.
package downwardapi

import (
	"context"
	"errors"

	v1 "k8s.io/api/core/v1"
	"k8s.io/mount-utils"

	"skiff/kubelet/environment"
	"skiff/kubelet/volumes/atomic"
	"skiff/kubelet/volumes/volume"
)

// Plugin implements volume.Plugin.
type Plugin struct {
	Mounter     mount.Interface
	Allocatable func() v1.ResourceList
}

// Name implements volume.Plugin.
func (*Plugin) Name() string { return "kubernetes.io/downward-api" }

// Supports implements volume.Plugin.
func (*Plugin) Supports(r *volume.Request) bool { return r.Volume.DownwardAPI != nil }

// SetUp implements volume.Plugin.
func (p *Plugin) SetUp(_ context.Context, r *volume.Request) (*volume.Mounted, error) {
	files, err := Files(r.Volume.DownwardAPI.Items, r.Pod, r.Volume.DownwardAPI.DefaultMode, p.Allocatable())
	if err != nil {
		return nil, err
	}
	if err := volume.Memory(p.Mounter, r.Dir); err != nil {
		return nil, err
	}
	return &volume.Mounted{Path: r.Dir, ReadOnly: true}, atomic.Write(r.Dir, files, r.FSGroup())
}

// Files answers the items.
func Files(items []v1.DownwardAPIVolumeFile, pod *v1.Pod, mode *int32, allocatable v1.ResourceList) (map[string]atomic.File, error) {
	defaultMode := int32(0o644)
	if mode != nil {
		defaultMode = *mode
	}
	out := map[string]atomic.File{}
	var errs []error
	for _, item := range items {
		f := atomic.File{Mode: defaultMode}
		if item.Mode != nil {
			f.Mode = *item.Mode
		}
		var value string
		var err error
		switch {
		case item.FieldRef != nil:
			value, err = environment.FieldValue(pod, item.FieldRef.FieldPath)
		case item.ResourceFieldRef != nil:
			value, err = environment.ResourceValue(item.ResourceFieldRef, pod, item.ResourceFieldRef.ContainerName, allocatable)
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		f.Data = []byte(value)
		out[item.Path] = f
	}
	return out, errors.Join(errs...)
}

// TearDown implements volume.Plugin.
func (p *Plugin) TearDown(_ context.Context, dir string) error {
	return volume.Discard(p.Mounter, dir)
}
