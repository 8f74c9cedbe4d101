// Package cgroups keeps the kubelet's part of the cgroup tree: kubepods, the
// classes below it and one cgroup per pod. Containers' own cgroups are the
// runtime's. It speaks cgroup v1, also beside an empty v2 hierarchy, and v2.
package cgroups

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/opencontainers/cgroups"
	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"skiff/kubelet/resources"
)

// Config configures a Manager.
type Config struct {
	// Mount is where cgroups are mounted. Default /sys/fs/cgroup.
	Mount string
	// Root is the cgroup that kubepods is below, such as "/".
	Root string
	// Settings and PidsLimit shape the pods' limits.
	Settings  resources.Settings
	PidsLimit int64
}

const defaultMount = "/sys/fs/cgroup"

// Manager makes, limits and removes cgroups.
type Manager struct {
	cfg     Config
	unified bool
	// hierarchies are the folders of all v1 hierarchies.
	hierarchies []string
}

// New finds out which kind of cgroups the machine has.
func New(cfg Config) (*Manager, error) {
	if cfg.Mount == "" {
		cfg.Mount = defaultMount
	}
	if !strings.HasPrefix(cfg.Root, "/") {
		return nil, fmt.Errorf("cgroups: Root %q: want an absolute cgroup path", cfg.Root)
	}
	m := &Manager{cfg: cfg}
	var st unix.Statfs_t
	if err := unix.Statfs(cfg.Mount, &st); err != nil {
		return nil, fmt.Errorf("cgroups: %s: %w; mount the cgroup file system there", cfg.Mount, err)
	}
	if st.Type == unix.CGROUP2_SUPER_MAGIC {
		m.unified = true
		return m, nil
	}
	entries, err := os.ReadDir(cfg.Mount)
	if err != nil {
		return nil, fmt.Errorf("cgroups: %w", err)
	}
	for _, e := range entries {
		// Links such as cpu -> cpu,cpuacct name a hierarchy a second time.
		if e.IsDir() {
			m.hierarchies = append(m.hierarchies, filepath.Join(cfg.Mount, e.Name()))
		}
	}
	return m, nil
}

// Unified tells whether the machine has cgroup v2.
func (m *Manager) Unified() bool { return m.unified }

// class is the folder of a class below kubepods; Guaranteed pods have none.
func class(qos v1.PodQOSClass) string {
	switch qos {
	case v1.PodQOSBurstable:
		return "burstable"
	case v1.PodQOSBestEffort:
		return "besteffort"
	}
	return ""
}

// PodPath is the cgroup of a pod, to be given to CRI as cgroup parent.
func (m *Manager) PodPath(pod *v1.Pod) string {
	return path.Join(m.cfg.Root, "kubepods", class(resources.QOS(pod)), "pod"+string(pod.UID))
}

// EnsureNode makes kubepods and the classes, limited to what pods may have
// together; 0 leaves a limit out.
func (m *Manager) EnsureNode(allocatable resources.Pod) error {
	top := path.Join(m.cfg.Root, "kubepods")
	if err := m.ensure(top, allocatable); err != nil {
		return err
	}
	if err := m.ensure(path.Join(top, "burstable"), resources.Pod{Shares: 2}); err != nil {
		return err
	}
	return m.ensure(path.Join(top, "besteffort"), resources.Pod{Shares: 2})
}

// SetBurstableShares weighs the burstable class by its pods' requests.
func (m *Manager) SetBurstableShares(milliCPU int64) error {
	return m.limit(path.Join(m.cfg.Root, "kubepods", "burstable"), resources.Pod{Shares: resources.Shares(milliCPU)})
}

// EnsurePod makes the pod's cgroup and sets its limits. A limit of memory that is
// less than the pod uses waits: the kernel would end its processes for it.
func (m *Manager) EnsurePod(pod *v1.Pod) error {
	cg, limits := m.PodPath(pod), resources.ForPod(pod, m.cfg.Settings, m.cfg.PidsLimit)
	if limits.Memory > 0 && m.memory(cg) > limits.Memory {
		limits.Memory = 0
	}
	return m.ensure(cg, limits)
}

// memory is what a cgroup uses, 0 where nobody counts it.
func (m *Manager) memory(cg string) int64 {
	file := "memory.usage_in_bytes"
	if m.unified {
		file = "memory.current"
	}
	for _, dir := range m.controllerDirs("memory", cg) {
		text, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			continue
		}
		if n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil {
			return n
		}
	}
	return 0
}

func (m *Manager) ensure(cg string, r resources.Pod) error {
	if err := m.create(cg); err != nil {
		return fmt.Errorf("create cgroup %s: %w", cg, err)
	}
	if err := m.limit(cg, r); err != nil {
		return fmt.Errorf("limit cgroup %s: %w", cg, err)
	}
	return nil
}

func (m *Manager) create(cg string) error {
	if m.unified {
		return m.createUnified(cg)
	}
	for _, h := range m.hierarchies {
		switch filepath.Base(h) {
		case "unified", "systemd":
			// Nothing is limited there; the runtime makes what it needs.
			continue
		}
		if err := os.MkdirAll(filepath.Join(h, cg), 0o755); err != nil {
			if errors.Is(err, unix.EROFS) || errors.Is(err, unix.ENOENT) {
				continue
			}
			return err
		}
		if strings.Contains(filepath.Base(h), "cpuset") {
			if err := inheritCpuset(h, cg); err != nil {
				return err
			}
		}
	}
	return nil
}

// inheritCpuset copies the parents' processors and memory nodes down, without
// which no process can enter a v1 cpuset.
func inheritCpuset(hierarchy, cg string) error {
	dir := hierarchy
	for _, part := range strings.Split(strings.Trim(cg, "/"), "/") {
		parent := dir
		dir = filepath.Join(dir, part)
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
			have, err := os.ReadFile(filepath.Join(dir, file))
			if err != nil {
				return err
			}
			if strings.TrimSpace(string(have)) != "" {
				continue
			}
			from, err := os.ReadFile(filepath.Join(parent, file))
			if err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(dir, file), from, 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}

func (m *Manager) createUnified(cg string) error {
	dir := m.cfg.Mount
	for _, part := range strings.Split(strings.Trim(cg, "/"), "/") {
		// Controllers the kernel does not have are no error.
		for _, c := range []string{"cpu", "cpuset", "memory", "pids", "io", "hugetlb"} {
			_ = os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+"+c), 0o644)
		}
		dir = filepath.Join(dir, part)
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	for _, c := range []string{"cpu", "cpuset", "memory", "pids", "io", "hugetlb"} {
		_ = os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+"+c), 0o644)
	}
	return nil
}

func (m *Manager) limit(cg string, r resources.Pod) error {
	var errs []error
	for _, s := range settings(m.unified, r) {
		for _, dir := range m.controllerDirs(s.controller, cg) {
			err := os.WriteFile(filepath.Join(dir, s.file), []byte(s.value), 0o644)
			// A machine without the controller has nothing to limit.
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

// weight is what shares are on cgroup v2, as the runtime has it for containers.
func weight(shares int64) int64 {
	return int64(cgroups.ConvertCPUSharesToCgroupV2Value(uint64(shares)))
}

type setting struct{ controller, file, value string }

// settings lists what has to be written where.
func settings(unified bool, r resources.Pod) []setting {
	var out []setting
	number := func(n int64) string { return strconv.FormatInt(n, 10) }
	if unified {
		if r.Shares > 0 {
			out = append(out, setting{"cpu", "cpu.weight", number(weight(r.Shares))})
		}
		if r.Quota > 0 {
			out = append(out, setting{"cpu", "cpu.max", number(r.Quota) + " " + number(r.Period)})
		} else if r.Period > 0 {
			out = append(out, setting{"cpu", "cpu.max", "max " + number(r.Period)})
		}
		if r.Memory > 0 {
			out = append(out, setting{"memory", "memory.max", number(r.Memory)})
		}
		if r.Pids > 0 {
			out = append(out, setting{"pids", "pids.max", number(r.Pids)})
		}
		return out
	}
	if r.Shares > 0 {
		out = append(out, setting{"cpu", "cpu.shares", number(r.Shares)})
	}
	if r.Period > 0 {
		if r.Quota > 0 {
			out = append(out, setting{"cpu", "cpu.cfs_period_us", number(r.Period)}, setting{"cpu", "cpu.cfs_quota_us", number(r.Quota)})
		} else {
			out = append(out, setting{"cpu", "cpu.cfs_quota_us", "-1"})
		}
	}
	if r.Memory > 0 {
		out = append(out, setting{"memory", "memory.limit_in_bytes", number(r.Memory)})
	}
	if r.Pids > 0 {
		out = append(out, setting{"pids", "pids.max", number(r.Pids)})
	}
	return out
}

func (m *Manager) controllerDirs(controller, cg string) []string {
	if m.unified {
		return []string{filepath.Join(m.cfg.Mount, cg)}
	}
	for _, h := range m.hierarchies {
		for _, name := range strings.Split(filepath.Base(h), ",") {
			if name == controller {
				return []string{filepath.Join(h, cg)}
			}
		}
	}
	return nil
}

// Dir is the folder of the pod class' tree for a controller, for readers of
// statistics; empty when the machine lacks the controller.
func (m *Manager) Dir(controller, cg string) string {
	if dirs := m.controllerDirs(controller, cg); len(dirs) > 0 {
		return dirs[0]
	}
	return ""
}

func (m *Manager) allHierarchies() []string {
	if m.unified {
		return []string{m.cfg.Mount}
	}
	return m.hierarchies
}

// Pods lists the pods that have a cgroup, for the cleaning of orphans.
func (m *Manager) Pods() map[types.UID]bool {
	out := map[types.UID]bool{}
	for _, h := range m.allHierarchies() {
		for _, c := range []string{"", "burstable", "besteffort"} {
			entries, err := os.ReadDir(filepath.Join(h, m.cfg.Root, "kubepods", c))
			if err != nil {
				continue
			}
			for _, e := range entries {
				if uid, ok := strings.CutPrefix(e.Name(), "pod"); ok && e.IsDir() {
					out[types.UID(uid)] = true
				}
			}
		}
	}
	return out
}
