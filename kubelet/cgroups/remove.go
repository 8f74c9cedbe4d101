package cgroups

import (
	"os"
	"path/filepath"

	"k8s.io/apimachinery/pkg/types"

	"skiff/kubelet/cgroupdir"
)

// RemovePod removes the pod's cgroup, whatever its class was. A process that is
// still in it, which only someone else can have moved there, is killed: without
// that the pod would never be gone. One that does not end is an error.
func (m *Manager) RemovePod(uid types.UID) error {
	var dirs []string
	for _, h := range m.allHierarchies() {
		for _, c := range []string{"", "burstable", "besteffort"} {
			dir := filepath.Join(h, m.cfg.Root, "kubepods", c, "pod"+string(uid))
			if _, err := os.Stat(dir); err == nil {
				dirs = append(dirs, dir)
			}
		}
	}
	return cgroupdir.Remove(dirs...)
}
