package topology

import (
	"fmt"
	"slices"
	"strconv"
)

// The policies, and the scopes in which they look for one set of nodes.
const (
	None           = "none"
	BestEffort     = "best-effort"
	Restricted     = "restricted"
	SingleNUMANode = "single-numa-node"

	ContainerScope = "container"
	PodScope       = "pod"
)

// Names of the policies' options.
const (
	optionClosest  = "prefer-closest-numa-nodes"
	optionMaxNodes = "max-allowable-numa-nodes"
	defaultMax     = 8
)

// Options refine a policy.
type Options struct {
	// Closest prefers nodes that are near each other.
	Closest bool
	// MaxNodes is how many NUMA nodes a machine may have: the work doubles with
	// each.
	MaxNodes int
}

// ParseOptions reads the options as a KubeletConfiguration has them.
func ParseOptions(in map[string]string) (Options, error) {
	out := Options{MaxNodes: defaultMax}
	for name, value := range in {
		var err error
		switch name {
		case optionClosest:
			if out.Closest, err = strconv.ParseBool(value); err != nil {
				return out, fmt.Errorf("bad value for option %q: %w", name, err)
			}
		case optionMaxNodes:
			if out.MaxNodes, err = strconv.Atoi(value); err != nil {
				return out, fmt.Errorf("unable to convert policy option to integer %q: %w", name, err)
			}
			if out.MaxNodes < defaultMax {
				return out, fmt.Errorf("the minimum value of %q should not be less than %v", name, defaultMax)
			}
			if out.MaxNodes > 63 {
				return out, fmt.Errorf("the value of %q is %d: want at most 63", name, out.MaxNodes)
			}
		default:
			return out, fmt.Errorf("unknown Topology Manager Policy option: %q", name)
		}
	}
	return out, nil
}

// decide merges the providers' answers by the policy. The second result says
// whether the pod may run with it.
func decide(policy string, m merger, answers []map[string][]Hint) (Hint, bool) {
	lists := preferences(answers)
	if policy == SingleNUMANode {
		for i, hints := range lists {
			lists[i] = slices.DeleteFunc(slices.Clone(hints), func(h Hint) bool {
				return !h.Preferred || h.Nodes.Count() > 1
			})
		}
	}
	m.aim = aim(lists)
	best := m.merge(lists)
	if policy == SingleNUMANode && best.Nodes == m.all && m.all.Count() > 1 {
		// Nobody cares: any node will do.
		best.Nodes = 0
	}
	return best, policy == BestEffort || best.Preferred
}
