package cgroups

import (
	"os"
	"path/filepath"
	"testing"
)

func TestOOMGroups(t *testing.T) {
	for _, tt := range []struct {
		name, controllers string
		want              bool
	}{
		{"cgroup v1", "", false},
		{"memory is counted", "cpuset cpu io memory hugetlb pids\n", true},
		{"memory is not counted", "cpuset cpu hugetlb\n", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			if tt.controllers != "" {
				if err := os.WriteFile(filepath.Join(dir, "cgroup.controllers"), []byte(tt.controllers), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if got := OOMGroups(dir); got != tt.want {
				t.Errorf("%v, want %v", got, tt.want)
			}
		})
	}
}
