package topology

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// sysfs writes files below a new folder.
func sysfs(t *testing.T, files map[string]string) *os.Root {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = root.Close() })
	return root
}

// TestRead reads a machine of two sockets, two nodes, and two threads per core.
func TestRead(t *testing.T) {
	files := map[string]string{
		"devices/system/cpu/online": "0-3", "devices/system/node/online": "0-1",
		"devices/system/node/node0/cpulist": "0,2", "devices/system/node/node1/cpulist": "1,3",
		"devices/system/node/node0/meminfo": "Node 0 MemTotal:       2048 kB\nNode 0 MemFree: 1 kB", "devices/system/node/node1/meminfo": "Node 1 MemTotal:       4096 kB",
		"devices/system/node/node0/distance": "10 21", "devices/system/node/node1/distance": "21 10",
		"devices/system/node/node1/hugepages/hugepages-2048kB/nr_hugepages": "3",
	}
	for cpu := range 4 {
		dir := fmt.Sprintf("devices/system/cpu/cpu%d/", cpu)
		files[dir+"topology/physical_package_id"] = fmt.Sprint(cpu % 2)
		files[dir+"topology/thread_siblings_list"] = fmt.Sprintf("%d,%d", cpu%2, cpu%2+2)
		files[dir+"cache/index0/level"], files[dir+"cache/index0/shared_cpu_list"] = "1", fmt.Sprint(cpu)
		files[dir+"cache/index3/level"], files[dir+"cache/index3/shared_cpu_list"] = "3", fmt.Sprintf("%d,%d", cpu%2, cpu%2+2)
	}
	got, err := Read(sysfs(t, files))
	if err != nil {
		t.Fatal(err)
	}
	want := Machine{
		CPUs:  []CPU{{ID: 0}, {ID: 1, Core: 1, Socket: 1, Node: 1, Cache: 1}, {ID: 2}, {ID: 3, Core: 1, Socket: 1, Node: 1, Cache: 1}},
		Nodes: []Node{{ID: 0, Memory: 2 << 20, Distances: []int{10, 21}}, {ID: 1, Memory: 4 << 20, HugePages: map[int64]int64{2 << 20: 6 << 20}, Distances: []int{21, 10}}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("machine (-want +got):\n%s", diff)
	}
	if got.ThreadsPerCore() != 2 || got.All().String() != "0-3" {
		t.Errorf("%d threads per core, processors %s", got.ThreadsPerCore(), got.All())
	}
}

func TestReadWithoutNUMA(t *testing.T) {
	got, err := Read(sysfs(t, map[string]string{"devices/system/cpu/online": "0-1"}))
	if err != nil {
		t.Fatal(err)
	}
	want := Machine{CPUs: []CPU{{ID: 0}, {ID: 1, Core: 1}}, Nodes: []Node{{ID: 0}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("machine (-want +got):\n%s", diff)
	}
}
