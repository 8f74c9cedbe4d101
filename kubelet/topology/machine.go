package topology

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"

	"k8s.io/utils/cpuset"
)

// CPU is one logical processor.
type CPU struct {
	ID int
	// Core is the lowest number of the processors of the same core; Cache that of
	// those that share the last level of cache.
	Core, Socket, Node, Cache int
}

// Node is one NUMA node.
type Node struct {
	ID int
	// Memory is in bytes; HugePages are the bytes of pages by their size.
	Memory    int64
	HugePages map[int64]int64
	// Distances are those to all nodes, in the order of the nodes.
	Distances []int
}

// Machine is what the node's processors and memory are like.
type Machine struct {
	CPUs  []CPU
	Nodes []Node
}

// All are the numbers of all processors.
func (m Machine) All() cpuset.CPUSet { return m.Where(func(CPU) bool { return true }) }

// Where are the numbers of the processors that satisfy ok.
func (m Machine) Where(ok func(CPU) bool) cpuset.CPUSet {
	var ids []int
	for _, c := range m.CPUs {
		if ok(c) {
			ids = append(ids, c.ID)
		}
	}
	return cpuset.New(ids...)
}

// ThreadsPerCore is how many processors a core has.
func (m Machine) ThreadsPerCore() int {
	cores := map[int]bool{}
	for _, c := range m.CPUs {
		cores[c.Core] = true
	}
	if len(cores) == 0 {
		return 1
	}
	return len(m.CPUs) / len(cores)
}

// Memory is that of all nodes, in bytes.
func (m Machine) Memory() int64 {
	sum := int64(0)
	for _, n := range m.Nodes {
		sum += n.Memory
	}
	return sum
}

// NodeIDs are the numbers of the NUMA nodes.
func (m Machine) NodeIDs() []int {
	var out []int
	for _, n := range m.Nodes {
		out = append(out, n.ID)
	}
	return out
}

// Read learns the machine from its /sys.
func Read(sys *os.Root) (Machine, error) {
	r := reader{sys}
	var out Machine
	online, err := r.list("devices/system/cpu/online")
	if err != nil {
		return out, fmt.Errorf("read the processors: %w", err)
	}
	node := map[int]int{}
	nodes, err := r.list("devices/system/node/online")
	if errors.Is(err, fs.ErrNotExist) {
		// A kernel without NUMA.
		out.Nodes = []Node{{ID: 0, HugePages: r.hugePages("kernel/mm/hugepages")}}
	} else if err != nil {
		return out, fmt.Errorf("read the NUMA nodes: %w", err)
	}
	for _, id := range nodes.List() {
		n, cpus, err := r.node(id)
		if err != nil {
			return out, fmt.Errorf("read NUMA node %d: %w", id, err)
		}
		out.Nodes = append(out.Nodes, n)
		for _, c := range cpus.List() {
			node[c] = id
		}
	}
	for _, id := range online.List() {
		out.CPUs = append(out.CPUs, r.cpu(id, node[id]))
	}
	return out, nil
}

type reader struct{ sys *os.Root }

func (r reader) text(name string) (string, error) {
	data, err := r.sys.ReadFile(name)
	return strings.TrimSpace(string(data)), err
}

func (r reader) list(name string) (cpuset.CPUSet, error) {
	text, err := r.text(name)
	if err != nil {
		return cpuset.CPUSet{}, err
	}
	set, err := cpuset.Parse(text)
	if err != nil {
		return set, fmt.Errorf("%s: %w", name, err)
	}
	return set, nil
}

func (r reader) number(name string, otherwise int) int {
	if text, err := r.text(name); err == nil {
		if n, err := strconv.Atoi(text); err == nil && n >= 0 {
			return n
		}
	}
	return otherwise
}

// first is the lowest member of a list.
func (r reader) first(name string, otherwise int) int {
	if set, err := r.list(name); err == nil && !set.IsEmpty() {
		return set.List()[0]
	}
	return otherwise
}

// cpu reads one processor; virtual machines do not tell everything.
func (r reader) cpu(id, node int) CPU {
	dir := fmt.Sprintf("devices/system/cpu/cpu%d", id)
	out := CPU{ID: id, Node: node, Socket: r.number(dir+"/topology/physical_package_id", 0)}
	out.Core = r.first(dir+"/topology/thread_siblings_list", id)
	level := 0
	for i := range 16 {
		cache := fmt.Sprintf("%s/cache/index%d", dir, i)
		if l := r.number(cache+"/level", 0); l > level {
			level, out.Cache = l, r.first(cache+"/shared_cpu_list", id)
		}
	}
	return out
}

func (r reader) node(id int) (Node, cpuset.CPUSet, error) {
	dir := fmt.Sprintf("devices/system/node/node%d", id)
	out := Node{ID: id, HugePages: r.hugePages(dir + "/hugepages")}
	cpus, err := r.list(dir + "/cpulist")
	if err != nil {
		return out, cpus, err
	}
	info, err := r.text(dir + "/meminfo")
	if err != nil {
		return out, cpus, err
	}
	for line := range strings.Lines(info) {
		if fields := strings.Fields(line); len(fields) > 3 && fields[2] == "MemTotal:" {
			kib, err := strconv.ParseInt(fields[3], 10, 64)
			if err != nil {
				return out, cpus, fmt.Errorf("meminfo: %w", err)
			}
			out.Memory = kib << 10
		}
	}
	distances, err := r.text(dir + "/distance")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return out, cpus, err
	}
	for _, field := range strings.Fields(distances) {
		d, err := strconv.Atoi(field)
		if err != nil {
			return out, cpus, fmt.Errorf("distance: %w", err)
		}
		out.Distances = append(out.Distances, d)
	}
	return out, cpus, nil
}

// hugePages reads hugepages-2048kB/nr_hugepages and the like.
func (r reader) hugePages(dir string) map[int64]int64 {
	entries, err := fs.ReadDir(r.sys.FS(), dir)
	if err != nil {
		return nil
	}
	out := map[int64]int64{}
	for _, e := range entries {
		kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimPrefix(e.Name(), "hugepages-"), "kB"), 10, 64)
		if err != nil {
			continue
		}
		out[kib<<10] = int64(r.number(path.Join(dir, e.Name(), "nr_hugepages"), 0)) * kib << 10
	}
	return out
}
