// Package cpus gives containers of guaranteed pods that ask for whole CPUs some
// of their own, and keeps all others off those.
package cpus

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"sync"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/cpuset"

	"skiff/kubelet/cpus/state"
	"skiff/kubelet/statefile"
	"skiff/kubelet/topology"
)

// Config configures a Manager.
type Config struct {
	// Policy is none or static.
	Policy  string
	Options Options
	Machine topology.Machine
	// Reserved are the CPUs of the system; with none, ReservedMilli says how many.
	Reserved      cpuset.CPUSet
	ReservedMilli int64
	// Dir is the kubelet's folder, where the state file is.
	Dir string
	// Changed is told when the CPUs that containers share are others.
	Changed func()
}

// Manager keeps the node's CPUs.
type Manager struct {
	cfg      Config
	reserved cpuset.CPUSet

	mu    sync.Mutex // guards what follows
	state state.State
}

// New checks the configuration.
func New(cfg Config) (*Manager, error) {
	if !filepath.IsAbs(cfg.Dir) || cfg.Changed == nil {
		return nil, errors.New("cpus: Dir, an absolute path, and Changed are required")
	}
	m := &Manager{cfg: cfg, state: state.State{Policy: cfg.Policy, Assigned: map[types.UID]map[string]cpuset.CPUSet{}}}
	switch cfg.Policy {
	case None:
		return m, nil
	case Static:
	default:
		return nil, fmt.Errorf("unknown policy: \"%s\"", cfg.Policy)
	}
	m.reserved = cfg.Reserved
	if m.reserved.IsEmpty() {
		n := int((cfg.ReservedMilli + 999) / 1000)
		if n == 0 {
			return nil, errors.New("the static policy requires systemreserved.cpu + kubereserved.cpu to be greater than zero")
		}
		var err error
		if m.reserved, err = take(cfg.Machine, cfg.Machine.All(), n, preference{}); err != nil {
			return nil, fmt.Errorf("reserved CPUs: %w", err)
		}
	}
	if unknown := m.reserved.Difference(cfg.Machine.All()); !unknown.IsEmpty() {
		return nil, fmt.Errorf("reservedSystemCPUs %q: the machine has no CPUs %q, only %q", m.reserved, unknown, cfg.Machine.All())
	}
	return m, nil
}

func (m *Manager) file() string { return filepath.Join(m.cfg.Dir, state.File) }

// Restore reads what an earlier kubelet gave out. One of another policy is
// forgotten where it gave out nothing.
func (m *Manager) Restore() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	data, err := statefile.Read(m.file())
	if err != nil {
		return err
	}
	if data != nil {
		s, err := state.Decode(data)
		switch {
		case err != nil:
		case s.Policy == m.cfg.Policy:
			m.state = s
			err = m.check()
		case len(s.Assigned) > 0:
			err = fmt.Errorf("configured policy %q differs from state checkpoint policy %q", m.cfg.Policy, s.Policy)
		}
		if err != nil {
			return fmt.Errorf("could not restore state from checkpoint: %w, please drain this node and delete the CPU manager checkpoint file %q before restarting Kubelet", err, m.file())
		}
	}
	if m.cfg.Policy == Static && m.state.Shared.IsEmpty() {
		m.state.Shared = m.usable()
	}
	return m.save()
}

// usable are the CPUs that containers may run on.
func (m *Manager) usable() cpuset.CPUSet {
	if m.cfg.Options.StrictReservation {
		return m.cfg.Machine.All().Difference(m.reserved)
	}
	return m.cfg.Machine.All()
}

// check compares a state file with the machine; the caller holds the lock.
func (m *Manager) check() error {
	s := m.state
	if m.cfg.Policy != Static {
		return nil
	}
	if s.Shared.IsEmpty() {
		if len(s.Assigned) > 0 {
			return errors.New("default cpuset cannot be empty")
		}
		return nil
	}
	if m.cfg.Options.StrictReservation {
		if overlap := m.reserved.Intersection(s.Shared); !overlap.IsEmpty() {
			return fmt.Errorf("some of strictly reserved cpus: %q are present in defaultCpuSet: %q", overlap, s.Shared)
		}
	} else if !m.reserved.IsSubsetOf(s.Shared) {
		return fmt.Errorf("not all reserved cpus: %q are present in defaultCpuSet: %q", m.reserved, s.Shared)
	}
	known := s.Shared
	for uid, containers := range s.Assigned {
		for name, set := range containers {
			if overlap := s.Shared.Intersection(set); !overlap.IsEmpty() {
				return fmt.Errorf("pod: %s, container: %s cpuset: %q overlaps with default cpuset %q", uid, name, set, s.Shared)
			}
			known = known.Union(set)
		}
	}
	if !known.Equals(m.usable()) {
		return fmt.Errorf("current set of available CPUs %q doesn't match with CPUs in state %q", m.usable(), known)
	}
	return nil
}

// save writes the state file; the caller holds the lock.
func (m *Manager) save() error {
	data, err := state.Encode(m.state)
	if err != nil {
		return err
	}
	return statefile.Write(m.file(), data)
}

// Of are the CPUs that a container is to run on: its own, or those that all
// share. None at all means that nothing is decided here.
func (m *Manager) Of(uid types.UID, container string) cpuset.CPUSet {
	m.mu.Lock()
	defer m.mu.Unlock()
	if set, own := m.state.Assigned[uid][container]; own {
		return set
	}
	return m.state.Shared
}

// Exclusive are the CPUs that a container has to itself.
func (m *Manager) Exclusive(uid types.UID, container string) cpuset.CPUSet {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state.Assigned[uid][container]
}

// Allocatable are all CPUs that containers can have to themselves.
func (m *Manager) Allocatable() cpuset.CPUSet {
	if m.cfg.Policy != Static {
		return cpuset.New()
	}
	return m.cfg.Machine.All().Difference(m.reserved)
}

// free are the CPUs that nobody has; the caller holds the lock.
func (m *Manager) free() cpuset.CPUSet { return m.state.Shared.Difference(m.reserved) }

// reusable are the CPUs of the pod's init containers that no other container of
// it keeps; the caller holds the lock.
func (m *Manager) reusable(pod *v1.Pod) cpuset.CPUSet {
	lent, kept := cpuset.New(), cpuset.New()
	held := m.state.Assigned[pod.UID]
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		if c.RestartPolicy != nil && *c.RestartPolicy == v1.ContainerRestartPolicyAlways {
			kept = kept.Union(held[c.Name])
		} else {
			lent = lent.Union(held[c.Name])
		}
	}
	for i := range pod.Spec.Containers {
		kept = kept.Union(held[pod.Spec.Containers[i].Name])
	}
	return lent.Difference(kept)
}

// Release implements topology.Provider.
func (m *Manager) Release(uid types.UID) error {
	return m.Retain(func(other types.UID) bool { return other != uid })
}

// Retain takes the CPUs of all other pods back.
func (m *Manager) Retain(keep func(types.UID) bool) error {
	m.mu.Lock()
	changed := false
	for _, uid := range slices.Collect(maps.Keys(m.state.Assigned)) {
		if keep(uid) {
			continue
		}
		for _, set := range m.state.Assigned[uid] {
			m.state.Shared = m.state.Shared.Union(set)
		}
		delete(m.state.Assigned, uid)
		changed = true
	}
	var err error
	if changed {
		err = m.save()
	}
	m.mu.Unlock()
	if changed {
		m.cfg.Changed()
	}
	return err
}
