// Package state is the file in which the kubelet keeps which container has which
// CPUs to itself. Its form, and the names of the types that its checksum covers,
// are upstream's.
package state

import (
	"encoding/json"
	"fmt"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/cpuset"

	"skiff/kubelet/statefile/checksum"
)

// File is its name, in the kubelet's folder.
const File = "cpu_manager_state"

// CPUManagerCheckpoint is the file's content.
type CPUManagerCheckpoint struct {
	PolicyName    string                       `json:"policyName"`
	DefaultCPUSet string                       `json:"defaultCpuSet"`
	Entries       map[string]map[string]string `json:"entries,omitempty"`
	Checksum      checksum.Checksum            `json:"checksum"`
}

// State are the CPUs that all containers share, and those that one has to
// itself, by pod and container.
type State struct {
	Policy   string
	Shared   cpuset.CPUSet
	Assigned map[types.UID]map[string]cpuset.CPUSet
}

// Encode writes the file's content.
func Encode(s State) ([]byte, error) {
	c := &CPUManagerCheckpoint{PolicyName: s.Policy, DefaultCPUSet: s.Shared.String(), Entries: map[string]map[string]string{}}
	for uid, containers := range s.Assigned {
		c.Entries[string(uid)] = map[string]string{}
		for name, set := range containers {
			c.Entries[string(uid)][name] = set.String()
		}
	}
	c.Checksum = checksum.New(c)
	return json.Marshal(c)
}

// Decode reads the file's content.
func Decode(data []byte) (State, error) {
	// The sum is that of an empty map, where there are no entries.
	c := &CPUManagerCheckpoint{Entries: map[string]map[string]string{}}
	if err := json.Unmarshal(data, c); err != nil {
		return State{}, err
	}
	sum := c.Checksum
	c.Checksum = 0
	if err := sum.Verify(c); err != nil {
		return State{}, err
	}
	out := State{Policy: c.PolicyName, Assigned: map[types.UID]map[string]cpuset.CPUSet{}}
	var err error
	if out.Shared, err = cpuset.Parse(c.DefaultCPUSet); err != nil {
		return out, fmt.Errorf("could not parse default cpu set %q: %w", c.DefaultCPUSet, err)
	}
	for uid, containers := range c.Entries {
		out.Assigned[types.UID(uid)] = map[string]cpuset.CPUSet{}
		for name, text := range containers {
			set, err := cpuset.Parse(text)
			if err != nil {
				return out, fmt.Errorf("could not parse cpuset %q for container %q in pod %q: %w", text, name, uid, err)
			}
			out.Assigned[types.UID(uid)][name] = set
		}
	}
	return out, nil
}
