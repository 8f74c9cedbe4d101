package topology

import (
	"context"
	"fmt"
	"slices"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Provider hands out one kind of resources.
type Provider interface {
	// Hints are the sets of NUMA nodes that could meet a container's request, by
	// resource. Nothing, for all or for one resource, means no preference; an
	// empty list means that there is no way.
	Hints(pod *v1.Pod, c *v1.Container) map[string][]Hint
	// PodHints are the same for a whole pod.
	PodHints(pod *v1.Pod) map[string][]Hint
	// Allocate sets aside what the container asks for, if possible within the
	// hint. It does nothing for a container that has its resources already.
	Allocate(ctx context.Context, pod *v1.Pod, c *v1.Container, hint Hint) error
	// Release gives back what the pod has.
	Release(uid types.UID) error
}

// AffinityError refuses a pod whose resources the policy does not let apart.
type AffinityError struct{}

// Error is the text of the pod's status.
func (AffinityError) Error() string { return "Resources cannot be allocated with Topology locality" }

// Reason is the reason of the pod's status.
func (AffinityError) Reason() string { return "TopologyAffinityError" }

// Config configures a Manager.
type Config struct {
	Policy, Scope string
	Options       Options
	Nodes         []Node
	Providers     []Provider
}

// Manager admits pods by where their resources are.
type Manager struct {
	cfg    Config
	merger merger
}

// New checks the configuration.
func New(cfg Config) (*Manager, error) {
	if !slices.Contains([]string{None, BestEffort, Restricted, SingleNUMANode}, cfg.Policy) {
		return nil, fmt.Errorf("unknown policy: %q", cfg.Policy)
	}
	if cfg.Scope != ContainerScope && cfg.Scope != PodScope {
		return nil, fmt.Errorf("unknown scope: %q", cfg.Scope)
	}
	if cfg.Policy != None && len(cfg.Nodes) > cfg.Options.MaxNodes {
		return nil, fmt.Errorf("unsupported on machines with more than %v NUMA Nodes", cfg.Options.MaxNodes)
	}
	m := &Manager{cfg: cfg}
	for _, n := range cfg.Nodes {
		m.merger.all |= NewMask(n.ID)
	}
	if cfg.Options.Closest {
		m.merger.distance = func(set Mask) float64 { return averageDistance(cfg.Nodes, set) }
	}
	return m, nil
}

// averageDistance is that between all pairs of nodes of the set.
func averageDistance(nodes []Node, set Mask) float64 {
	sum, n := 0, 0
	for _, from := range nodes {
		for i, to := range nodes {
			if set.Has(from.ID) && set.Has(to.ID) && i < len(from.Distances) {
				sum += from.Distances[i]
				n++
			}
		}
	}
	if n == 0 {
		return 0
	}
	return float64(sum) / float64(n)
}

// Admit allocates everything that the pod asks for, or nothing.
func (m *Manager) Admit(ctx context.Context, pod *v1.Pod) (err error) {
	defer func() {
		if err != nil {
			_ = m.Release(pod.UID)
		}
	}()
	var hint Hint
	ok := true
	if m.cfg.Policy != None && m.cfg.Scope == PodScope {
		if hint, ok = m.ask(func(p Provider) map[string][]Hint { return p.PodHints(pod) }); !ok {
			return AffinityError{}
		}
	}
	for _, list := range [][]v1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			c := &list[i]
			if m.cfg.Policy != None && m.cfg.Scope == ContainerScope {
				if hint, ok = m.ask(func(p Provider) map[string][]Hint { return p.Hints(pod, c) }); !ok {
					return AffinityError{}
				}
			}
			for _, p := range m.cfg.Providers {
				if err := p.Allocate(ctx, pod, c, hint); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (m *Manager) ask(hints func(Provider) map[string][]Hint) (Hint, bool) {
	answers := make([]map[string][]Hint, len(m.cfg.Providers))
	for i, p := range m.cfg.Providers {
		answers[i] = hints(p)
	}
	return decide(m.cfg.Policy, m.merger, answers)
}

// Release gives back all that the pod has.
func (m *Manager) Release(uid types.UID) error {
	var first error
	for _, p := range m.cfg.Providers {
		if err := p.Release(uid); err != nil && first == nil {
			first = err
		}
	}
	return first
}
