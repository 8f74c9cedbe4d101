//go:build linux && cgo

package main

import (
	"bufio"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// applyResources lays the given limits over the ones that are set.
func applyResources(set *cgroups.Resources, r *specs.LinuxResources) {
	if cpu := r.CPU; cpu != nil {
		if cpu.Shares != nil {
			set.CpuShares = *cpu.Shares
			set.CpuWeight = cgroups.ConvertCPUSharesToCgroupV2Value(*cpu.Shares)
		}
		if cpu.Quota != nil {
			set.CpuQuota = *cpu.Quota
		}
		if cpu.Period != nil {
			set.CpuPeriod = *cpu.Period
		}
		if cpu.Cpus != "" {
			set.CpusetCpus = cpu.Cpus
		}
		if cpu.Mems != "" {
			set.CpusetMems = cpu.Mems
		}
	}
	if mem := r.Memory; mem != nil {
		if mem.Limit != nil {
			set.Memory = *mem.Limit
		}
		if mem.Swap != nil {
			set.MemorySwap = *mem.Swap
		}
	}
	for _, h := range r.HugepageLimits {
		found := false
		for _, have := range set.HugetlbLimit {
			if have.Pagesize == h.Pagesize {
				have.Limit, found = h.Limit, true
			}
		}
		if !found {
			set.HugetlbLimit = append(set.HugetlbLimit, &cgroups.HugepageLimit{Pagesize: h.Pagesize, Limit: h.Limit})
		}
	}
	for key, value := range r.Unified {
		if set.Unified == nil {
			set.Unified = make(map[string]string, len(r.Unified))
		}
		set.Unified[key] = value
	}
}

// oomKilled says whether the kernel has killed a process of the container for
// its memory limit. It must be asked before the cgroup goes.
func oomKilled(lc *libcontainer.Container) bool {
	state, err := lc.State()
	if err != nil {
		return false
	}
	for _, candidate := range []struct{ controller, file string }{
		{"memory", "memory.oom_control"}, // v1: "oom_kill N"
		{"", "memory.events"},            // v2: the same
	} {
		dir, ok := state.CgroupPaths[candidate.controller]
		if !ok || dir == "" {
			continue
		}
		f, err := os.Open(filepath.Join(dir, candidate.file))
		if err != nil {
			continue
		}
		defer f.Close()
		for s := bufio.NewScanner(f); s.Scan(); {
			if n, ok := strings.CutPrefix(s.Text(), "oom_kill "); ok && n != "0" {
				return true
			}
		}
	}
	return false
}
