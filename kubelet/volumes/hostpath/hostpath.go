// Package hostpath gives a pod a file or folder of its node.
package hostpath

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	v1 "k8s.io/api/core/v1"
	volumes "k8s.io/component-helpers/storage/volume"

	"skiff/kubelet/volumes/volume"
)

// Plugin implements volume.Plugin.
type Plugin struct{}

// Name implements volume.Plugin.
func (*Plugin) Name() string { return "kubernetes.io/host-path" }

// Supports implements volume.Plugin.
func (*Plugin) Supports(r *volume.Request) bool { return source(r) != nil }

func source(r *volume.Request) *v1.HostPathVolumeSource {
	if r.PV != nil {
		return r.PV.Spec.HostPath
	}
	return r.Volume.HostPath
}

// SetUp implements volume.Plugin.
func (*Plugin) SetUp(_ context.Context, r *volume.Request) (*volume.Mounted, error) {
	src := source(r)
	kind := v1.HostPathUnset
	if src.Type != nil {
		kind = *src.Type
	}
	mode := os.FileMode(0o755)
	if r.PV != nil && r.PV.Annotations[provisioned] != "" {
		mode = 0o777
	}
	if err := check(src.Path, kind, mode); err != nil {
		return nil, err
	}
	return &volume.Mounted{Path: src.Path, ReadOnly: r.ReadOnly()}, nil
}

// provisioned is the annotation of volumes that were made for a claim: any user
// of its pods may write to their folder, whoever makes it first.
const provisioned = volumes.AnnDynamicallyProvisioned

// check makes or checks what the type says.
func check(path string, kind v1.HostPathType, mode os.FileMode) error {
	info, err := os.Stat(path)
	missing := os.IsNotExist(err)
	if err != nil && !missing {
		return err
	}
	is := func(ok bool, what string) error {
		if missing || !ok {
			return fmt.Errorf("hostPath type check failed: %s is not a %s", path, what)
		}
		return nil
	}
	switch kind {
	case v1.HostPathUnset:
		return nil
	case v1.HostPathDirectoryOrCreate:
		if missing {
			if err := os.MkdirAll(path, 0o755); err != nil {
				return err
			}
			return os.Chmod(path, mode)
		}
		return is(info.IsDir(), "directory")
	case v1.HostPathDirectory:
		return is(!missing && info.IsDir(), "directory")
	case v1.HostPathFileOrCreate:
		if missing {
			if _, err := os.Stat(filepath.Dir(path)); err != nil {
				return err
			}
			f, err := os.OpenFile(path, os.O_CREATE, 0o644)
			if err != nil {
				return err
			}
			return f.Close()
		}
		return is(info.Mode().IsRegular(), "file")
	case v1.HostPathFile:
		return is(!missing && info.Mode().IsRegular(), "file")
	case v1.HostPathSocket:
		return is(!missing && info.Mode()&os.ModeSocket != 0, "socket file")
	case v1.HostPathCharDev:
		return is(!missing && info.Mode()&os.ModeCharDevice != 0, "character device")
	case v1.HostPathBlockDev:
		return is(!missing && info.Mode()&os.ModeDevice != 0 && info.Mode()&os.ModeCharDevice == 0, "block device")
	}
	return fmt.Errorf("%s is an invalid volume type", kind)
}

// TearDown implements volume.Plugin.
func (*Plugin) TearDown(context.Context, string) error { return nil }
