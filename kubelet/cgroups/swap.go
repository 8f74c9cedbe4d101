package cgroups

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// OOMGroups tells whether the kernel can end a cgroup as a whole when it is out of
// memory, as it can with cgroup v2 where that counts memory.
func OOMGroups(mount string) bool {
	if mount == "" {
		mount = defaultMount
	}
	controllers, err := os.ReadFile(filepath.Join(mount, "cgroup.controllers"))
	return err == nil && slices.Contains(strings.Fields(string(controllers)), "memory")
}

// SwapLimits tells whether the hierarchy mounted at mount, or where it usually
// is, has cgroup v2, and whether its kernel limits swap.
func SwapLimits(mount string) (unified, accounted bool) {
	if mount == "" {
		mount = defaultMount
	}
	var st unix.Statfs_t
	if err := unix.Statfs(mount, &st); err == nil && st.Type == unix.CGROUP2_SUPER_MAGIC {
		// The root has no limits; who runs this has a cgroup, or made some.
		found, err := filepath.Glob(filepath.Join(mount, "*", "memory.swap.max"))
		return true, err == nil && len(found) > 0
	}
	_, err := os.Stat(filepath.Join(mount, "memory", "memory.memsw.limit_in_bytes"))
	return false, err == nil
}
