// Package state is the file in which the kubelet keeps from which NUMA nodes
// containers have their memory. Its form, and the names of the types that its
// checksum covers, are upstream's.
package state

import (
	"encoding/json"

	v1 "k8s.io/api/core/v1"

	"skiff/kubelet/statefile/checksum"
)

// File is its name, in the kubelet's folder.
const File = "memory_manager_state"

// MemoryTable is the account of one kind of memory on one node, in bytes.
type MemoryTable struct {
	TotalMemSize   uint64 `json:"total"`
	SystemReserved uint64 `json:"systemReserved"`
	Allocatable    uint64 `json:"allocatable"`
	Reserved       uint64 `json:"reserved"`
	Free           uint64 `json:"free"`
}

// NUMANodeState is the account of one node. Cells are the nodes that it serves
// containers together with.
type NUMANodeState struct {
	NumberOfAssignments int                              `json:"numberOfAssignments"`
	MemoryMap           map[v1.ResourceName]*MemoryTable `json:"memoryMap"`
	Cells               []int                            `json:"cells"`
}

// NUMANodeMap are the accounts of all nodes.
type NUMANodeMap map[int]*NUMANodeState

// Block is memory of one kind that a container has from some nodes.
type Block struct {
	NUMAAffinity []int           `json:"numaAffinity"`
	Type         v1.ResourceName `json:"type"`
	Size         uint64          `json:"size"`
}

// ContainerMemoryAssignments are blocks by pod and container.
type ContainerMemoryAssignments map[string]map[string][]Block

// MemoryManagerCheckpoint is the file's content.
type MemoryManagerCheckpoint struct {
	PolicyName   string                     `json:"policyName"`
	MachineState NUMANodeMap                `json:"machineState"`
	Entries      ContainerMemoryAssignments `json:"entries,omitempty"`
	Checksum     checksum.Checksum          `json:"checksum"`
}

// Clone copies the accounts.
func (m NUMANodeMap) Clone() NUMANodeMap {
	out := NUMANodeMap{}
	for id, n := range m {
		c := &NUMANodeState{NumberOfAssignments: n.NumberOfAssignments, MemoryMap: map[v1.ResourceName]*MemoryTable{}, Cells: append([]int{}, n.Cells...)}
		for kind, t := range n.MemoryMap {
			table := *t
			c.MemoryMap[kind] = &table
		}
		out[id] = c
	}
	return out
}

// Encode writes the file's content.
func Encode(policy string, machine NUMANodeMap, entries ContainerMemoryAssignments) ([]byte, error) {
	c := &MemoryManagerCheckpoint{PolicyName: policy, MachineState: machine, Entries: entries}
	c.Checksum = checksum.New(c)
	return json.Marshal(c)
}

// Decode reads the file's content.
func Decode(data []byte) (policy string, machine NUMANodeMap, entries ContainerMemoryAssignments, err error) {
	c := &MemoryManagerCheckpoint{MachineState: NUMANodeMap{}, Entries: ContainerMemoryAssignments{}}
	if err := json.Unmarshal(data, c); err != nil {
		return "", nil, nil, err
	}
	sum := c.Checksum
	c.Checksum = 0
	return c.PolicyName, c.MachineState, c.Entries, sum.Verify(c)
}
