package stats

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"skiff/kubelet/cgroups"
)

// The summary tells of the cgroups beside the pods' own, where there are any.
func TestSystemContainers(t *testing.T) {
	type usage struct {
		Name                                 string
		CPU, Memory, Working, RSS, PageFault uint64
	}
	all := []usage{{"kubelet", 7, 100, 60, 30, 5}, {"runtime", 7, 100, 60, 30, 5}, {"pods", 7, 100, 60, 30, 5}}
	for _, tt := range []struct {
		name, own string
		cgroups   []string
		want      []usage
	}{
		{"all", "/system.slice/skiff", []string{"system.slice/skiff", "root/skiff-shims", "root/kubepods"}, all},
		{"another runtime", "/system.slice/skiff", []string{"system.slice/skiff", "root/kubepods"}, []usage{all[0], all[2]}},
		{"in the machine's cgroup", "/", []string{"root/skiff-shims", "root/kubepods"}, all[1:]},
		{"none", "/gone", nil, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			mount, proc := t.TempDir(), t.TempDir()
			write := func(dir, file, text string) {
				t.Helper()
				if err := os.MkdirAll(dir, 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			for _, cg := range append(tt.cgroups, "") {
				memory := filepath.Join(mount, "memory", cg)
				write(memory, "memory.usage_in_bytes", "100\n")
				write(memory, "memory.stat", "rss 1\ntotal_rss 30\ntotal_inactive_file 40\ntotal_pgfault 5\n")
				write(filepath.Join(mount, "cpuacct", cg), "cpuacct.usage", "7\n")
			}
			write(proc, "cgroup", "5:cpuacct:/else\n4:memory:"+tt.own+"\n0::/\n")
			m, err := cgroups.New(cgroups.Config{Mount: mount, Root: "/root"})
			if err != nil {
				t.Fatal(err)
			}
			p := &Provider{cfg: Config{Cgroups: m, CgroupRoot: "/root"}, rates: map[string]sample{}}
			var got []usage
			for _, c := range p.systemContainers(proc) {
				if c.StartTime.IsZero() {
					t.Errorf("%s never started", c.Name)
				}
				got = append(got, usage{c.Name, *c.CPU.UsageCoreNanoSeconds, *c.Memory.UsageBytes, *c.Memory.WorkingSetBytes, *c.Memory.RSSBytes, *c.Memory.PageFaults})
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("system containers (-want +got):\n%s", diff)
			}
		})
	}
}
