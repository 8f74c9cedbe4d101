package kubelet

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"
	"k8s.io/mount-utils"
)

// sharing is what it takes for mounts that containers make in a folder to be
// seen by the node.
type sharing int

const (
	isShared sharing = iota
	// mustShare: the folder is a mount of its own, but a private one.
	mustShare
	// mustBind: the folder has to become one.
	mustBind
	// cannotBind: that would hide what is mounted below.
	cannotBind
)

// sharingOf looks at the mounts of the machine.
func sharingOf(dir string, mounts []mount.MountInfo) sharing {
	var on *mount.MountInfo
	below := false
	for i := range mounts {
		point := mounts[i].MountPoint
		switch {
		case point == "/" || point == dir || strings.HasPrefix(dir, point+"/"):
			if on == nil || len(point) >= len(on.MountPoint) {
				on = &mounts[i]
			}
		case strings.HasPrefix(point, dir+"/"):
			below = true
		}
	}
	switch {
	case on != nil && slices.ContainsFunc(on.OptionalFields, func(f string) bool { return strings.HasPrefix(f, "shared:") }):
		return isShared
	case on != nil && on.MountPoint == dir:
		return mustShare
	case below:
		return cannotBind
	}
	return mustBind
}

// shareRoot lets the mounts that drivers make from their containers, in the
// kubelet's folder, reach the node. Where systemd runs they do already.
func shareRoot(ctx context.Context, dir string) error {
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return err
	}
	mounts, err := mount.ParseMountInfo("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	switch sharingOf(dir, mounts) {
	case isShared:
		return nil
	case cannotBind:
		klog.FromContext(ctx).Info("Containers cannot mount volumes for the node before its next start: its mounts are private, and some are in use", "path", dir)
		return nil
	case mustBind:
		if err := unix.Mount(dir, dir, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mount %s on itself: %w", dir, err)
		}
	}
	if err := unix.Mount("", dir, "", unix.MS_SHARED|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("share the mounts of %s: %w", dir, err)
	}
	return nil
}
