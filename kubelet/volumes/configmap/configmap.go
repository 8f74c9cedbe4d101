// Package configmap shows a ConfigMap as files.
package configmap

import (
	"context"
	"fmt"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/mount-utils"

	"skiff/kubelet/volumes/atomic"
	"skiff/kubelet/volumes/volume"
)

// Plugin implements volume.Plugin.
type Plugin struct {
	Mounter mount.Interface
	Objects volume.Objects
}

// Name implements volume.Plugin.
func (*Plugin) Name() string { return "kubernetes.io/configmap" }

// Supports implements volume.Plugin.
func (*Plugin) Supports(r *volume.Request) bool { return r.Volume.ConfigMap != nil }

// SetUp implements volume.Plugin.
func (p *Plugin) SetUp(ctx context.Context, r *volume.Request) (*volume.Mounted, error) {
	src := r.Volume.ConfigMap
	optional := src.Optional != nil && *src.Optional
	cm, err := p.Objects.ConfigMap(ctx, r.Pod.Namespace, src.Name)
	if err != nil {
		if !apierrors.IsNotFound(err) || !optional {
			return nil, err
		}
		cm = &v1.ConfigMap{}
	}
	files, err := Files(src.Items, cm, src.DefaultMode, optional)
	if err != nil {
		return nil, err
	}
	return &volume.Mounted{Path: r.Dir, ReadOnly: true}, atomic.Write(r.Dir, files, r.FSGroup())
}

// Files maps a ConfigMap's keys to files.
func Files(items []v1.KeyToPath, cm *v1.ConfigMap, mode *int32, optional bool) (map[string]atomic.File, error) {
	data := make(map[string][]byte, len(cm.Data)+len(cm.BinaryData))
	for k, v := range cm.Data {
		data[k] = []byte(v)
	}
	for k, v := range cm.BinaryData {
		data[k] = v
	}
	return Project(items, data, mode, optional, "configmap")
}

// Project chooses and places the values of an object; without items it is all
// of them under their keys.
func Project(items []v1.KeyToPath, data map[string][]byte, mode *int32, optional bool, kind string) (map[string]atomic.File, error) {
	defaultMode := int32(0o644)
	if mode != nil {
		defaultMode = *mode
	}
	out := map[string]atomic.File{}
	if len(items) == 0 {
		for k, v := range data {
			out[k] = atomic.File{Data: v, Mode: defaultMode}
		}
		return out, nil
	}
	for _, item := range items {
		value, ok := data[item.Key]
		if !ok {
			if optional {
				continue
			}
			if kind == "secret" {
				return nil, fmt.Errorf("references non-existent secret key: %s", item.Key)
			}
			return nil, fmt.Errorf("configmap references non-existent config key: %s", item.Key)
		}
		f := atomic.File{Data: value, Mode: defaultMode}
		if item.Mode != nil {
			f.Mode = *item.Mode
		}
		out[item.Path] = f
	}
	return out, nil
}

// TearDown implements volume.Plugin.
func (p *Plugin) TearDown(_ context.Context, dir string) error {
	return volume.RemoveAllOneFS(p.Mounter, dir)
}
