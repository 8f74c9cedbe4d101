package volume

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
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
	if unswappable() {
		options = append(options, "noswap")
	}
	return m.MountSensitiveWithoutSystemd("tmpfs", dir, "tmpfs", options, nil)
}

// unswappable tells whether a memory file system can be kept out of swap here.
func unswappable() bool {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return false
	}
	users, err := os.ReadFile("/proc/self/uid_map")
	return err == nil && knowsNoSwap(unix.ByteSliceToString(u.Release[:]), string(users))
}

// knowsNoSwap is unswappable for a kernel's release and the mapping of its users:
// Linux 6.4 has the option, and no user namespace may give it.
func knowsNoSwap(release, users string) bool {
	var major, minor int
	if n, err := fmt.Sscanf(release, "%d.%d", &major, &minor); err != nil || n != 2 {
		return false
	}
	all := slices.Equal(strings.Fields(users), []string{"0", "0", "4294967295"})
	return all && (major > 6 || major == 6 && minor >= 4)
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
