package volume

import (
	"os"

	"k8s.io/mount-utils"
)

// Memory makes dir a memory file system, unless it is one: what the API gave
// for this pod alone stays off the disk.
func Memory(m mount.Interface, dir string, options ...string) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	mounted, err := MountPoint(m, dir)
	if err != nil || mounted {
		return err
	}
	return m.MountSensitiveWithoutSystemd("tmpfs", dir, "tmpfs", options, nil)
}

// Discard removes a volume with what it holds, in memory or on disk.
func Discard(m mount.Interface, dir string) error {
	mounted, err := MountPoint(m, dir)
	if err != nil {
		return err
	}
	if mounted {
		return UnmountAndRemove(m, dir)
	}
	return RemoveAllOneFS(m, dir)
}
