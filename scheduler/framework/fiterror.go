package framework

import (
	"errors"
	"fmt"
	"sort"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
)

// ErrNoNodesAvailable says that the cluster has no node at all.
var ErrNoNodesAvailable = errors.New("no nodes available to schedule pods")

// NodeStatuses maps node names to why they were refused. Nodes that are absent have the default.
type NodeStatuses struct {
	byName map[string]*Status
	absent *Status
}

// NewNodeStatuses makes an empty map whose absent nodes have status absent.
func NewNodeStatuses(absent *Status) *NodeStatuses {
	return &NodeStatuses{byName: map[string]*Status{}, absent: absent}
}

// Get is the status of a node.
func (m *NodeStatuses) Get(name string) *Status {
	if s, ok := m.byName[name]; ok {
		return s
	}
	return m.absent
}

// Set stores the status of a node.
func (m *NodeStatuses) Set(name string, s *Status) { m.byName[name] = s }

// SetAbsent replaces the status of nodes that are not in the map.
func (m *NodeStatuses) SetAbsent(s *Status) { m.absent = s }

// Len counts the nodes with a status of their own.
func (m *NodeStatuses) Len() int { return len(m.byName) }

// Each calls fn for the nodes with a status of their own, in no order.
func (m *NodeStatuses) Each(fn func(name string, s *Status)) {
	for n, s := range m.byName {
		fn(n, s)
	}
}

// Diagnosis says why no node was found.
type Diagnosis struct {
	Nodes                *NodeStatuses
	UnschedulablePlugins sets.Set[string]
	PendingPlugins       sets.Set[string]
	PreFilterMsg         string
	PostFilterMsg        string
}

// AddPlugin notes the plugin of a refusing status.
func (d *Diagnosis) AddPlugin(s *Status) {
	if s.Plugin() == "" {
		return
	}
	if s.Code() == Pending {
		if d.PendingPlugins == nil {
			d.PendingPlugins = sets.New[string]()
		}
		d.PendingPlugins.Insert(s.Plugin())
		return
	}
	if d.UnschedulablePlugins == nil {
		d.UnschedulablePlugins = sets.New[string]()
	}
	d.UnschedulablePlugins.Insert(s.Plugin())
}

// FitError says that a pod fits no node.
type FitError struct {
	Pod         *v1.Pod
	NumAllNodes int
	Diagnosis   Diagnosis
}

// Error is the message of the FailedScheduling event.
func (f *FitError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "0/%d nodes are available:", f.NumAllNodes)
	if msg := f.Diagnosis.PreFilterMsg; msg != "" {
		fmt.Fprintf(&b, " %s.", msg)
	} else if f.Diagnosis.Nodes != nil {
		counts := map[string]int{}
		f.Diagnosis.Nodes.Each(func(_ string, s *Status) {
			for _, r := range s.Reasons() {
				counts[r]++
			}
		})
		if rest := f.NumAllNodes - f.Diagnosis.Nodes.Len(); rest > 0 && f.Diagnosis.Nodes.absent != nil {
			for _, r := range f.Diagnosis.Nodes.absent.Reasons() {
				counts[r] += rest
			}
		}
		lines := make([]string, 0, len(counts))
		for r, n := range counts {
			lines = append(lines, fmt.Sprintf("%d %s", n, r))
		}
		sort.Strings(lines)
		if len(lines) > 0 {
			fmt.Fprintf(&b, " %s.", strings.Join(lines, ", "))
		}
	}
	if msg := f.Diagnosis.PostFilterMsg; msg != "" {
		fmt.Fprintf(&b, " %s", msg)
	}
	return b.String()
}
