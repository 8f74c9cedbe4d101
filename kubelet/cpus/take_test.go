package cpus

import (
	"testing"

	"k8s.io/utils/cpuset"

	"skiff/kubelet/topology"
)

// build makes a machine of sockets, each of NUMA nodes, caches and cores with
// threads, numbered as Linux does: first threads of all cores first.
func build(sockets, nodes, caches, cores, threads int) topology.Machine {
	var m topology.Machine
	total := sockets * nodes * caches * cores
	for t := range threads {
		for core := range total {
			cache := core / cores
			node := cache / caches
			m.CPUs = append(m.CPUs, topology.CPU{ID: t*total + core, Core: core, Cache: cache * cores, Node: node, Socket: node / nodes})
		}
	}
	for n := range sockets * nodes {
		m.Nodes = append(m.Nodes, topology.Node{ID: n})
	}
	return m
}

func TestTake(t *testing.T) {
	two := build(2, 1, 1, 4, 2)       // 16 CPUs: 0-3,8-11 and 4-7,12-15
	single := build(1, 1, 1, 4, 1)    // 4 CPUs without a second thread
	clustered := build(1, 1, 4, 2, 2) // 16 CPUs, four caches of two cores
	split := build(1, 2, 1, 4, 2)     // one socket of two nodes
	for _, tc := range []struct {
		name    string
		machine topology.Machine
		free    string
		n       int
		how     preference
		want    string // empty: refused
	}{
		{"one thread", single, "0-3", 1, preference{}, "0"},
		{"all", single, "0-3", 4, preference{}, "0-3"},
		{"too many", single, "0-3", 5, preference{}, ""},
		{"a whole core", two, "0-15", 2, preference{}, "0,8"},
		{"a core and a thread", two, "0-15", 3, preference{}, "0-1,8"},
		{"a whole socket", two, "0-15", 8, preference{}, "0-3,8-11"},
		{"the socket that is whole", two, "1-15", 8, preference{}, "4-7,12-15"},
		{"the socket with less left first", two, "1-15", 2, preference{}, "1,9"},
		{"a broken core first", two, "0,2-15", 1, preference{}, "9"},
		{"more than a socket", two, "0-15", 10, preference{}, "0-4,8-12"},
		{"one thread per core", two, "0-15", 4, preference{spread: true}, "0-3"},
		{"one thread per core, then the second ones", two, "0-3,8-11", 6, preference{spread: true}, "0-3,8-9"},
		{"within a cache", clustered, "0-15", 4, preference{caches: true}, "0-1,8-9"},
		{"the cache that is whole", clustered, "1-15", 4, preference{caches: true}, "2-3,10-11"},
		{"a small one stays within a cache", clustered, "0,2-15", 4, preference{caches: true}, "2-3,10-11"},
		{"a node of a socket", split, "0-15", 8, preference{}, "0-3,8-11"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			free, err := cpuset.Parse(tc.free)
			if err != nil {
				t.Fatal(err)
			}
			got, err := take(tc.machine, free, tc.n, tc.how)
			if tc.want == "" {
				if err == nil {
					t.Errorf("got %s, want a refusal", got)
				}
				return
			}
			if err != nil || got.String() != tc.want {
				t.Errorf("got %s, %v, want %s", got, err, tc.want)
			}
		})
	}
}

func TestDistribute(t *testing.T) {
	two := build(2, 1, 1, 4, 2)
	four := build(4, 1, 1, 2, 2) // 16 CPUs: 0,1,8,9 and so on
	for _, tc := range []struct {
		name     string
		machine  topology.Machine
		free     string
		n, group int
		want     string
	}{
		{"fits one node", two, "0-15", 6, 1, "0-2,8-10"},
		{"in two halves", two, "0-15", 10, 1, "0-2,4-6,8-9,12-13"},
		{"in groups of cores", two, "0-15", 12, 2, "0-2,4-6,8-10,12-14"},
		{"an odd one", two, "0-15", 9, 1, "0-2,4-5,8-9,12-13"},
		{"over three", four, "0-15", 12, 2, "0-5,8-13"},
		{"not evenly, as others left it", two, "0-7", 8, 1, "0-7"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			free, err := cpuset.Parse(tc.free)
			if err != nil {
				t.Fatal(err)
			}
			got, err := distribute(tc.machine, free, tc.n, tc.group, preference{})
			if err != nil || got.String() != tc.want {
				t.Errorf("got %s, %v, want %s", got, err, tc.want)
			}
		})
	}
}
